"""Figures of an evaluation: side by side, worst frames, plots, and the paper's Figures 3 to 5."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from gaussiantalker_ns.evaluation.evaluator import Evaluation
from gaussiantalker_ns.html import BLUE, GREEN, INK, ORANGE, figure_uri
from gaussiantalker_ns.metrics.frame_pairs import FramePair, fitted, region_key
from gaussiantalker_ns.timebase import FPS

NUM_WORST = 10
"""Frames that are shown as the worst."""

MOUTH_MARGIN = 0.35
"""Room around the lips in the mouth strip, in sides of their box."""

MOUTH_SIDE = 128
"""Side of a picture of the mouth strip in pixels."""

CAPTION_HEIGHT = 26
CAPTION_COLOR, MARGIN_COLOR = (50, 50, 50), 255

PLANE_NAMES = ("frontal (xy)", "overhead (zx)", "side (yz)")
"""The three projections in the paper's order of words: from the front, from above, from aside."""


def difference(
    rendered: UInt8[np.ndarray, "h wd 3"], real: UInt8[np.ndarray, "h wd 3"]
) -> UInt8[np.ndarray, "h wd 3"]:
    """Twice the difference around middle grey, as in the training log."""
    change = 127.5 + 2.0 * (rendered.astype(np.float32) - real.astype(np.float32))
    return np.clip(change + 0.5, 0, 255).astype(np.uint8)


def in_a_row(
    pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]], side: int
) -> UInt8[np.ndarray, "h wd 3"]:
    """Pictures side by side, each scaled to the height `side`; all sizes are made even."""
    height = side - side % 2
    widths = [max(round(p.shape[1] * height / p.shape[0] / 2), 1) * 2 for p in pictures]
    return np.hstack([fitted(p, height, width) for p, width in zip(pictures, widths)])


def side_by_side(
    rendered: UInt8[np.ndarray, "h wd 3"], real: UInt8[np.ndarray, "h wd 3"], side: int
) -> UInt8[np.ndarray, "h2 wd2 3"]:
    """Truth, render and difference."""
    return in_a_row([real, rendered, difference(rendered, real)], side)


@dataclass(frozen=True)
class SeenFrame:
    """A frame that is kept to be shown."""

    frame: int
    psnr: float
    rendered: UInt8[np.ndarray, "h wd 3"]
    real: UInt8[np.ndarray, "h wd 3"]


@dataclass
class WorstFrames:
    """Keeps the frames with the lowest PSNR in the face box, and no others, in memory."""

    count: int = NUM_WORST
    found: list[SeenFrame] = field(default_factory=list)
    """The worst first."""

    def watch(self, pair: FramePair, figures: dict[str, float]) -> None:
        """Look at one pair."""
        score = figures.get("face_psnr", figures["psnr"])
        seen = SeenFrame(pair.frame, score, pair.rendered_pixels, pair.real_pixels)
        self.found = sorted([*self.found, seen], key=lambda item: item.psnr)[: self.count]


@dataclass
class MouthStrip:
    """Mouth shapes over time, truth above render (Fig. 5)."""

    labels: Mapping[int, str]
    """Frame -> what is written below it: the time, or what is spoken."""
    _columns: list[UInt8[np.ndarray, "h wd 3"]] = field(default_factory=list)

    def watch(self, pair: FramePair, figures: dict[str, float]) -> None:
        """Look at one pair."""
        del figures
        if pair.frame not in self.labels or "lips" not in pair.boxes:
            return
        crops = [
            square_crop(image, pair.boxes["lips"], MOUTH_MARGIN, MOUTH_SIDE)
            for image in (pair.real_pixels, pair.rendered_pixels)
        ]
        self._columns.append(np.vstack([*crops, caption(self.labels[pair.frame], MOUTH_SIDE)]))

    def picture(self) -> UInt8[np.ndarray, "h wd 3"] | None:
        """The strip; None if no frame of it was seen."""
        return np.hstack(self._columns) if self._columns else None


def spread_frames(frames: Sequence[int], count: int) -> list[int]:
    """Some frames, evenly spread. ([3, 4, 5, 6, 7], 3) -> [3, 5, 7]."""
    places = np.unique(np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int))
    return [frames[place] for place in places]


def square_crop(
    image: UInt8[np.ndarray, "h wd 3"], box: Sequence[int], margin: float, side: int
) -> UInt8[np.ndarray, "side side 3"]:
    """A square around a box, enlarged; beyond the picture its border is repeated."""
    x0, y0, x1, y1 = (int(value) for value in box)
    half = max(x1 - x0, y1 - y0) * (0.5 + margin)
    scale = side / (2 * half)
    centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    matrix = np.array([[scale, 0, 0], [0, scale, 0]], np.float64)
    matrix[:, 2] = side / 2 - scale * centre
    return cv2.warpAffine(
        image, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    ).astype(np.uint8)


def caption(text: str, width: int) -> UInt8[np.ndarray, "h {width} 3"]:
    """A line of text on white, centred; characters that the font lacks become question marks."""
    line = np.full((CAPTION_HEIGHT, width, 3), MARGIN_COLOR, np.uint8)
    plain = text.encode("ascii", "replace").decode()
    (length, _), _ = cv2.getTextSize(plain, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
    scale = 0.45 * min(1.0, (width - 4) / max(length, 1))
    place = (max((width - round(length * scale / 0.45)) // 2, 2), 18)
    cv2.putText(line, plain, place, cv2.FONT_HERSHEY_SIMPLEX, scale, CAPTION_COLOR, 1, cv2.LINE_AA)
    return line


def captioned(
    pictures: Sequence[tuple[str, UInt8[np.ndarray, "_ _ 3"]]], side: int
) -> UInt8[np.ndarray, "_ _ 3"]:
    """Pictures in a row, each fitted to a square, with a line below it."""
    return np.hstack(
        [
            np.vstack([fitted(np.ascontiguousarray(picture), side, side), caption(name, side)])
            for name, picture in pictures
        ]
    )


def attention_row(
    rendered: UInt8[np.ndarray, "h wd 3"], maps: Mapping[str, Float[Tensor, "h wd"]], side: int
) -> UInt8[np.ndarray, "h2 wd2 3"]:
    """A render and its attention to each token (Fig. 4), in matplotlib's colours."""
    from matplotlib import colormaps

    pictures = [("render", rendered)]
    for name, values in maps.items():
        colors = colormaps["inferno"](values.detach().cpu().clamp(0, 1).numpy())[..., :3]
        pictures.append((f"{name} token", (colors * 255 + 0.5).astype(np.uint8)))
    return captioned(pictures, side)


def occupied(unit: Float[Tensor, "n 3"], resolution: int) -> Bool[Tensor, "3 r r"]:
    """Cells of the planes xy, yz, zx that some position in [0, 1] reads, rows before columns."""
    cells = (unit.detach().cpu().clamp(0, 1) * (resolution - 1)).round().long()
    found = torch.zeros(3, resolution, resolution)
    for plane, (column, row) in enumerate(((0, 1), (1, 2), (2, 0))):
        found[plane, cells[:, row], cells[:, column]] = 1.0
    # Bilinear lookup reads the neighbours too.
    return F.max_pool2d(found[None], 3, stride=1, padding=1)[0] > 0


def plane_colors(
    plane: Float[Tensor, "r r c"], used: Bool[Tensor, "r r"]
) -> UInt8[np.ndarray, "r r 3"]:
    """The three leading principal components of a plane's features as red, green and blue.

    Cells that nothing reads keep their random start; they are left white and do not count.
    Neighbouring cells are averaged, three by three, which is about what a Gaussian's extent sees.
    """
    features = plane.detach().float().cpu().permute(2, 0, 1)[None]
    values = F.avg_pool2d(features, 3, stride=1, padding=1, count_include_pad=False)[0]
    inside = values[:, used].T
    centred = inside - inside.mean(dim=0)
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    scores = centred @ vectors[:, -3:].flip(1)
    low, high = scores.quantile(0.02, dim=0), scores.quantile(0.98, dim=0)
    fractions = ((scores - low) / (high - low).clamp_min(1e-8)).clamp(0, 1)
    picture = torch.full((*used.shape, 3), MARGIN_COLOR, dtype=torch.uint8)
    picture[used] = (fractions * 255 + 0.5).byte()
    return picture.numpy()


def triplane_row(
    rendered: UInt8[np.ndarray, "h wd 3"],
    planes: Float[Tensor, "3 r r c"],
    unit: Float[Tensor, "n 3"],
    side: int,
) -> UInt8[np.ndarray, "h2 wd2 3"]:
    """A render and the features of one level in the three projections (Fig. 3).

    They are shown as a visitor sees the head: y upwards, from above with the nose down, from aside
    with the nose to the right.

    Args:
        rendered: The render.
        planes: Features of xy, yz and zx; the second axis of a plane's name is along its rows.
        unit: Positions of the Gaussians inside the tri-plane's box, in [0, 1].
        side: Side of the pictures in pixels.
    """
    used = occupied(unit, planes.shape[1])
    xy, yz, zx = (plane_colors(plane, cells) for plane, cells in zip(planes, used))
    shown = (np.flipud(xy), np.swapaxes(zx, 0, 1), np.flipud(np.swapaxes(yz, 0, 1)))
    return captioned([("render", rendered), *zip(PLANE_NAMES, shown)], side)


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
