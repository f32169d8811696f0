"""The study as Markdown, JSON and CSV."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gaussiantalker_ns.ablation.runner import Result
from gaussiantalker_ns.ablation.study import REFERENCE, Study
from gaussiantalker_ns.ablation.summary import (
    MEASURES,
    Comparison,
    Estimate,
    Line,
    Outcomes,
    comparisons_of,
    estimate,
    lines_of,
    not_measured,
)
from gaussiantalker_ns.ablation.tables import PAPER_COLUMNS, TABLES

UP, DOWN, PLUS_MINUS = "\u2191", "\u2193", "\u00b1"
"""Signs of the paper's tables."""

EXPLANATION = (
    "Paper: the values of the paper, at 512 px on its own data. Ours: the held-out frames, driven"
    " by their own audio, measured as `gaussiantalker evaluate` does. The two sides are not"
    f" comparable in value, only in direction. {PLUS_MINUS}: standard deviation over seeds. CPU"
    " min: training alone, all threads."
)

ABSENT = (
    "Columns without values are not measured on this machine. What each needs, in the words of"
    " `gaussiantalker evaluate`, which takes the folder of every row:"
)

DIRECTIONS = (
    "Row minus reference, paired by seed. Beside the paper's measures, as far as they are here,"
    " mouth correlations stand in for Sync and the lip distance for LMD. 'agrees': all seeds go the"
    " paper's way; 'disagrees': none does; 'not settled': some."
)


def show(value: Estimate | None, digits: int) -> str:
    """An estimate as text, such as 31.10 +- 0.12."""
    if value is None:
        return "-"
    if value.std is None:
        return f"{value.mean:.{digits}f}"
    return f"{value.mean:.{digits}f} {PLUS_MINUS} {value.std:.{digits}f}"


def grid(header: Sequence[str], rows: Sequence[Sequence[str]], num_left: int) -> str:
    """A Markdown table whose first columns are aligned to the left."""
    marks = ["---"] * num_left + ["---:"] * (len(header) - num_left)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, marks, *rows))


def arrow(higher_is_better: bool) -> str:
    """The paper's sign for the better direction."""
    return UP if higher_is_better else DOWN


def table_markdown(lines: Sequence[Line]) -> str:
    """The table in the paper's form, the paper's columns first and ours beside them."""
    curve = any(line.row.curve is not None for line in lines)
    header = ["Method", *(["iter.", "steps in all"] if curve else [])]
    header += [f"paper {name} {arrow(up)}" for name, up in PAPER_COLUMNS.items()]
    header += [f"{m.heading} {arrow(m.higher_is_better)}" for m in MEASURES.values()]
    header += ["CPU min"]
    rows = []
    for line in lines:
        cells = [line.row.label + (" (reference)" if line.run == REFERENCE and not curve else "")]
        cells += [str(line.deformation_steps), str(line.step)] if curve else []
        cells += (
            [f"{value:g}" for value in line.paper] if line.paper else ["-"] * len(PAPER_COLUMNS)
        )
        if line.points:
            cells += [show(line.estimate(key), m.digits) for key, m in MEASURES.items()]
            cells += [show(line.cpu_minutes, 1)]
        else:
            state = "failed" if line.failures else "not run"
            cells += [f"**{state}**", *["-"] * len(MEASURES)]
        rows.append(cells)
    return grid(header, rows, 1)


def directions_markdown(comparisons: Sequence[Comparison]) -> str:
    """Which differences go the paper's way."""
    # What was measured nowhere has no direction; before the first run, nothing was.
    measured = {c.measure for c in comparisons if c.differences} or set(MEASURES)
    rows = []
    for c in (c for c in comparisons if c.measure in measured):
        digits = MEASURES[c.measure].digits
        if c.paper_difference is not None:
            paper = f"{c.paper_difference:+.3f} {c.paper_measure}"
        else:
            paper = "worse" if c.direction else "-"
        ours = estimate(list(c.differences.values()))
        difference = "-" if ours is None else f"{'+' if ours.mean >= 0 else ''}{show(ours, digits)}"
        label = f"{c.row.label}, {c.moment}" if c.moment else c.row.label
        rows.append([label, paper, MEASURES[c.measure].heading, difference, c.verdict])
    return grid(["Row", "paper", "our measure", "our difference", "direction"], rows, 1)


def failures_markdown(lines: Sequence[Line]) -> str:
    """One item for each run that failed; empty if none did."""
    reasons = {(line.run, seed): reason for line in lines for seed, reason in line.failures.items()}
    return "\n".join(
        f"- `{run}`, seed {seed}, failed: `{reason.replace('`', chr(39))}`"
        for (run, seed), reason in reasons.items()
    )


def not_measured_markdown(outcomes: Outcomes) -> str:
    """What no run has, with what it needs, values of one reason together; empty if nothing."""
    together: dict[str, list[str]] = {}
    for key, reason in not_measured(outcomes).items():
        together.setdefault(reason, []).append(MEASURES[key].heading)
    items = [f"- {', '.join(names)}: not measured: {reason}" for reason, names in together.items()]
    return "\n".join([ABSENT, "", *items]) if items else ""


def markdown(study: Study, tables: Sequence[str], outcomes: Outcomes) -> str:
    """The whole report."""
    seeds = sorted({seed for _, seed in outcomes})
    deformation_steps = study.num_steps - study.canonical_steps
    loss = study.perceptual_network
    parts = [
        "# Ablation study",
        f"Preset `{study.preset}`{f' with the perceptual term `{loss}`' if loss else ''},"
        f" {study.canonical_steps} canonical + {deformation_steps}"
        f" deformation steps in every row (`w/o stage-wise`: {study.num_steps} steps of"
        f" everything), data set `{'/'.join(study.data.parts[-2:])}`, seeds"
        f" {', '.join(map(str, seeds)) or 'none'}; a seed fixes initial points, network and order"
        " of the frames, the same in all rows.",
        EXPLANATION,
        *(part for part in (not_measured_markdown(outcomes),) if part),
    ]
    for name in tables:
        lines = lines_of(name, study, outcomes)
        title = f"Table {name}" if name.isdigit() else "Fusion"
        parts += [f"## {title}: {TABLES[name].title}", table_markdown(lines)]
        parts += [part for part in (failures_markdown(lines),) if part]
        parts += [DIRECTIONS, directions_markdown(comparisons_of(lines))]
    return "\n\n".join(parts) + "\n"


def csv_text(study: Study, tables: Sequence[str], outcomes: Outcomes) -> str:
    """One record for each table, row, seed and point of the training."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    head = ["table", "row", "label", "run", "seed", "step", "deformation_steps", "cpu_seconds"]
    table.writerow([*head, *MEASURES, *(f"paper_{name}" for name in PAPER_COLUMNS)])
    for name in tables:
        for line in lines_of(name, study, outcomes):
            fixed = [name, line.row.name, line.row.label, line.run]
            for seed, point in line.points.items():
                where = [seed, line.step, line.deformation_steps, f"{point.cpu_seconds:.1f}"]
                ours = [point.metrics.get(key) for key in MEASURES]
                table.writerow([*fixed, *where, *ours, *(line.paper or [""] * len(PAPER_COLUMNS))])
    return out.getvalue()


def json_text(study: Study, tables: Sequence[str], outcomes: Outcomes) -> str:
    """Everything that is known: summaries, comparisons and every run's curve."""
    content: dict[str, Any] = {
        "study": {key: str(v) if isinstance(v, Path) else v for key, v in vars(study).items()},
        "tables": {name: table_content(lines_of(name, study, outcomes)) for name in tables},
        "runs": [
            {"run": run, "seed": seed, **vars_of(outcome)}
            for (run, seed), outcome in sorted(outcomes.items())
        ],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def vars_of(outcome: Any) -> dict[str, Any]:
    """A run's outcome in terms of JSON."""
    return asdict(outcome) if isinstance(outcome, Result) else {"failed": outcome.reason}


def table_content(lines: Sequence[Line]) -> dict[str, Any]:
    """A table's means and comparisons in terms of JSON."""
    rows = [
        {
            "row": line.row.name,
            "label": line.row.label,
            "run": line.run,
            "step": line.step,
            "deformation_steps": line.deformation_steps,
            "paper": dict(zip(PAPER_COLUMNS, line.paper)) if line.paper else None,
            "ours": {
                key: asdict(value) if (value := line.estimate(key)) else None for key in MEASURES
            },
        }
        for line in lines
    ]
    comparisons = [
        {
            "row": c.row.name,
            "moment": c.moment,
            "measure": c.measure,
            "paper_measure": c.paper_measure,
            "paper_difference": c.paper_difference,
            "differences": dict(c.differences),
            "verdict": c.verdict,
        }
        for c in comparisons_of(lines)
    ]
    return {"rows": rows, "comparisons": comparisons}
