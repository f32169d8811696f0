"""Plots of an evaluation over time."""

from typing import Any

import numpy as np
from jaxtyping import Float

from gaussiantalker_ns.audio import FPS
from gaussiantalker_ns.evaluation.pairs import region_key
from gaussiantalker_ns.evaluation.session import Evaluation
from gaussiantalker_ns.preprocess.report_figures import BLUE, GREEN, INK, ORANGE, figure_uri

FIDELITY_PLOTS = (("PSNR, dB", "psnr"), ("SSIM", "ssim"), ("LPIPS", "lpips"))
REGION_COLORS = {"face": BLUE, "head": ORANGE, "frame": GREEN}


def fidelity_plot(result: Evaluation) -> str:
    """Image fidelity of every frame, as the address of an `img` element."""
    from matplotlib.figure import Figure

    wanted = [(title, name) for title, name in FIDELITY_PLOTS if name in result.per_frame]
    figure = Figure(figsize=(11, 1.9 * len(wanted)), layout="constrained")
    rows = np.atleast_1d(np.asarray(figure.subplots(len(wanted), 1, sharex=True)))
    for axes, (title, name) in zip(rows, wanted):
        for region, color in REGION_COLORS.items():
            values = result.per_frame.get(region_key(region, name))
            if values is not None:
                curve(axes, result.frames, np.array(values), color, region)
        axes.set_ylabel(title)
        axes.legend(loc="lower right", ncols=3, frameon=False)
        tidy(axes)
    rows[-1].set_xlabel("frame")
    return figure_uri(figure)


def lips_plot(result: Evaluation) -> str:
    """Mouth opening and width, render against real video, as the address of an `img` element."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.8), layout="constrained")
    opening, width = figure.subplots(2, 1, sharex=True)
    for axes, name in ((opening, "opening"), (width, "width")):
        if result.real.frames:
            curve(axes, result.real.frames, getattr(result.real, name), INK, "real")
        curve(axes, result.rendered.frames, getattr(result.rendered, name), ORANGE, "render")
        axes.set_ylabel(f"mouth {name}")
        tidy(axes)
    opening.legend(loc="upper right", ncols=2, frameon=False)
    width.set_xlabel(f"frame ({FPS} a second)")
    return figure_uri(figure)


def curve(
    axes: Any, frames: list[int], values: Float[np.ndarray, " m"], color: str, name: str
) -> None:
    """One line over the frames; gaps where there is no face."""
    axes.plot(np.array(frames), values, color=color, lw=1.0, label=name)


def tidy(axes: Any) -> None:
    """What all axes have in common."""
    axes.grid(alpha=0.25)
    axes.margins(x=0)
