"""The study as pictures: all rows with their seeds, and the curves with and without stages."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gaussiantalker_ns.ablation.runner import Result
from gaussiantalker_ns.ablation.study import REFERENCE, Study
from gaussiantalker_ns.ablation.summary import MEASURES, Outcomes, lines_of
from gaussiantalker_ns.ablation.tables import TABLES

SHOWN = (
    "face_psnr",
    "lips_landmark_distance",
    "lips_open_correlation",
    "lips_width_correlation",
)
"""Measures that get a panel."""

COLORS = {REFERENCE: "tab:blue", "single-stage": "tab:orange"}
"""Colours of the two curves."""


def save(figure: Any, path: Path) -> None:
    """Write a picture under a temporary name and rename it."""
    partial = path.with_name(f".partial-{path.name}")
    figure.savefig(partial, dpi=120, format="png")
    partial.replace(path)


def row_figure(study: Study, tables: Sequence[str], outcomes: Outcomes) -> Any:
    """A dot for every run and a bar at every mean, one panel a measure, the rows of all tables."""
    from matplotlib.figure import Figure

    lines = [
        line
        for name in tables
        for line in lines_of(name, study, outcomes)
        if line.step == study.num_steps
    ]
    owners = [name for name in tables for _ in TABLES[name].rows]
    titles = [f"Table {name}" if name.isdigit() else name.capitalize() for name in owners]
    figure = Figure(figsize=(13, 1.6 + 0.32 * len(lines)), layout="constrained")
    axes: Any = figure.subplots(1, len(SHOWN), sharey=True)
    places = np.arange(len(lines))
    for axis, key in zip(axes, SHOWN):
        for place, line in zip(places, lines):
            color = COLORS[REFERENCE] if line.run == REFERENCE else "0.35"
            values = list(line.values(key).values())
            axis.plot(values, [place] * len(values), "o", color=color, alpha=0.5, markersize=4)
            if values:
                axis.plot([np.mean(values)], [place], "|", color=color, markersize=14, mew=2)
        reference = next((line.estimate(key) for line in lines if line.run == REFERENCE), None)
        if reference is not None:
            axis.axvline(reference.mean, color=COLORS[REFERENCE], linewidth=0.8, linestyle=":")
        better = "higher" if MEASURES[key].higher_is_better else "lower"
        axis.set_xlabel(f"{MEASURES[key].heading} ({better} is better)")
        for place in places[1:]:
            if titles[place] != titles[place - 1]:
                axis.axhline(place - 0.5, color="0.8", linewidth=0.8)
        axis.grid(axis="x", color="0.9")
    axes[0].set_yticks(places, [f"{t}: {line.row.label}" for t, line in zip(titles, lines)])
    axes[0].set_ylim(len(lines) - 0.5, -0.5)
    return figure


def stage_figure(study: Study, outcomes: Outcomes) -> Any:
    """Figures on the way with and without a canonical stage, over steps and over CPU time."""
    from matplotlib.figure import Figure

    names = {REFERENCE: "with stages", "single-stage": "without stages"}
    shown = ("face_psnr", "lips_landmark_distance", "lips_width_correlation")
    figure = Figure(figsize=(13, 7), layout="constrained")
    axes: Any = figure.subplots(2, len(shown), sharey="col")
    for row, (attribute, scale, unit) in zip(
        axes, (("step", 1.0, "steps of both stages"), ("cpu_seconds", 60.0, "CPU minutes"))
    ):
        for axis, key in zip(row, shown):
            for run, label in names.items():
                curves = [
                    outcome.curve
                    for (name, _), outcome in outcomes.items()
                    if name == run and isinstance(outcome, Result)
                ]
                draw_curves(axis, curves, attribute, scale, key, COLORS[run], label)
            axis.set_xlabel(unit)
            axis.set_ylabel(MEASURES[key].heading)
            axis.grid(color="0.9")
            if attribute == "step" and study.canonical_steps > 0:
                axis.axvline(study.canonical_steps, color="0.6", linewidth=0.8, linestyle=":")
    handles, labels = axes[0][0].get_legend_handles_labels()
    if handles:
        axes[0][0].legend(handles, labels)
    return figure


def draw_curves(
    axis: Any,
    curves: Sequence[Any],
    attribute: str,
    scale: float,
    key: str,
    color: str,
    label: str,
) -> None:
    """Draw every seed's curve faintly and their mean strongly."""
    if not curves:
        return
    x = np.array([[getattr(p, attribute) / scale for p in curve] for curve in curves])
    y = np.array(
        [
            [np.nan if p.metrics.get(key) is None else p.metrics[key] for p in curve]
            for curve in curves
        ]
    )
    for xs, ys in zip(x, y):
        axis.plot(xs, ys, color=color, alpha=0.3, linewidth=1)
    axis.plot(x.mean(axis=0), y.mean(axis=0), "o-", color=color, label=label, markersize=4)
