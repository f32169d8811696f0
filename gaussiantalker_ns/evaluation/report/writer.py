"""The files that `gaussiantalker evaluate` leaves: videos, pictures, tables and the page."""

import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from gaussiantalker_ns.evaluation.evaluator import Evaluation
from gaussiantalker_ns.evaluation.report.figures import (
    MouthStrip,
    WorstFrames,
    attention_row,
    fidelity_plot,
    in_a_row,
    lips_plot,
    side_by_side,
    triplane_row,
)
from gaussiantalker_ns.evaluation.report.page import Images, WorstFrame, page, seconds_of
from gaussiantalker_ns.evaluation.report.tables import (
    as_json,
    csv_of_frames,
    csv_of_values,
    markdown,
)
from gaussiantalker_ns.evaluation.run import TrainedRun
from gaussiantalker_ns.files import write_image, write_text
from gaussiantalker_ns.html import data_uri, jpeg_uri
from gaussiantalker_ns.inference.provenance import STATEMENT
from gaussiantalker_ns.inference.video_writer import AudioTrack, SegmentWriter, assemble
from gaussiantalker_ns.metrics.frame_pairs import FramePair, to_pixels

TILE_SIDE = 320
"""Largest height in pixels of the pictures in the side-by-side video."""

PAPER_TILE_SIDE = 256
"""Side of the pictures in the paper's figures."""


class Videos:
    """Writes several videos frame by frame and joins them with the sound at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts = folder / ".parts"
        self._writers: dict[str, SegmentWriter] = {}
        self._stack = ExitStack()
        self._counts: dict[str, int] = {}
        self._last: dict[str, UInt8[np.ndarray, "h wd 3"]] = {}

    def __enter__(self) -> "Videos":
        shutil.rmtree(self._parts, ignore_errors=True)
        self._parts.mkdir(parents=True)
        return self

    def write(self, name: str, frame: UInt8[np.ndarray, "h wd 3"]) -> None:
        """Append a frame to the video of that name; an odd last row or column is left out."""
        frame = frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]
        if name not in self._writers:
            writer = SegmentWriter(self._parts / f"{name}.mp4", frame.shape[1], frame.shape[0])
            self._writers[name] = self._stack.enter_context(writer)
            self._counts[name] = 0
        self._writers[name].write(frame)
        self._counts[name] += 1
        self._last[name] = frame

    def repeat(self, name: str, count: int) -> None:
        """Show the last picture of a video for `count` frames more."""
        for _ in range(count):
            self.write(name, self._last[name])

    def finish(self, audio: AudioTrack | None) -> dict[str, Path]:
        """Give the videos their sound and their names."""
        self._stack.close()
        metadata = {"comment": STATEMENT}
        for name, count in self._counts.items():
            marks = {} if name == "truth" else metadata
            silent = self._parts / f"{name}.mp4"
            assemble([silent], self._folder / f"{name}.mp4", audio, count, marks)
        return {name: self._folder / f"{name}.mp4" for name in self._counts}

    def __exit__(self, exception_type, exception, traceback) -> None:
        self._stack.__exit__(exception_type, exception, traceback)
        shutil.rmtree(self._parts, ignore_errors=True)


@dataclass
class PairRecorder:
    """Makes videos, worst frames and the mouth strip while the frames are measured."""

    videos: Videos
    mouths: MouthStrip
    separate_videos: bool = True
    """Also write render.mp4 and truth.mp4, for OpenFace and SyncNet."""
    worst: WorstFrames = field(default_factory=WorstFrames)
    frames: list[int] = field(default_factory=list)
    """Numbers of the frames so far, rising; the videos begin with the first of them."""

    def watch(self, pair: FramePair, values: dict[str, float]) -> None:
        """Take one pair in.

        Frames without a face are not measured and do not come here. The sound goes on meanwhile, so
        the videos show the frame before for as long.
        """
        rendered, real = pair.rendered_pixels, pair.real_pixels
        side = min(rendered.shape[0], TILE_SIDE)
        shown = {"comparison": side_by_side(rendered, real, side)}
        if self.separate_videos:
            shown.update(render=rendered, truth=real)
        num_missing = pair.frame - self.frames[-1] - 1 if self.frames else 0
        for name, picture in shown.items():
            self.videos.repeat(name, num_missing)
            self.videos.write(name, picture)
        self.frames.append(pair.frame)
        self.worst.watch(pair, values)
        self.mouths.watch(pair, values)

    def worst_frames(self) -> list[WorstFrame]:
        """The worst frames for the page."""
        return [
            WorstFrame(
                caption=f"Frame {seen.frame}, {seen.psnr:.2f} dB in the face box",
                picture=jpeg_uri(
                    side_by_side(seen.rendered, seen.real, min(len(seen.real), TILE_SIDE))
                ),
                seconds=seconds_of(seen.frame - self.frames[0]),
            )
            for seen in self.worst.found
        ]


@dataclass
class DrivenRecorder:
    """Makes the videos of a head that speaks another recording."""

    videos: Videos
    has_speaker: bool
    _last: UInt8[np.ndarray, "h wd 3"] | None = None

    def watch(
        self, image: UInt8[np.ndarray, "h wd 3"], own: UInt8[np.ndarray, "h2 wd2 3"] | None
    ) -> None:
        """Take one frame in; the recording's last frame stays when it ends first."""
        self.videos.write("render", image)
        self._last = own if own is not None else self._last
        side = min(image.shape[0], TILE_SIDE)
        row = [self._last, image] if self.has_speaker and self._last is not None else [image]
        self.videos.write("comparison", in_a_row(row, side))

    @property
    def columns(self) -> tuple[str, ...]:
        """What the video shows from left to right."""
        return ("the recording", "render") if self.has_speaker else ("render",)


@torch.no_grad()
def paper_images(run: TrainedRun, frame: int) -> dict[str, UInt8[np.ndarray, "_ _ 3"]]:
    """Attention of every token (Fig. 4) and features of the tri-plane (Fig. 3) in one frame."""
    dataset = next(d for d in run.datasets.values() if frame in d.frames)
    index = dataset.frames.index(frame)
    outputs = run.model.get_outputs_for_camera(dataset.cameras[index : index + 1])
    rendered = to_pixels(outputs["rgb"])
    maps = {name: outputs[f"attention_{name}"][..., 0] for name in run.model.head.tokens.names}
    rows = {"attention": attention_row(rendered, maps, PAPER_TILE_SIDE)}
    triplane, means = run.model.head.triplane, run.model.gauss_params["means"]
    unit = (means - triplane.bounds[0]) / (triplane.bounds[1] - triplane.bounds[0])
    levels = [triplane_row(rendered, planes, unit, PAPER_TILE_SIDE) for planes in triplane.planes]
    rows["triplane"] = np.vstack(levels)
    return rows


PAPER_TEXTS = {
    "attention": (
        "Attention (Fig. 4)",
        "How much each Gaussian looks at each token, stretched to the whole range per token.",
    ),
    "triplane": (
        "Tri-plane (Fig. 3)",
        "Three principal components of the features that Gaussians read, one row per level.",
    ),
    "mouths": ("Mouth shapes (Fig. 5)", "The real mouth above, the rendered one below."),
}


PICTURE_FILES = (
    "evaluation.html",
    *(f"{name}.mp4" for name in ("comparison", "render", "truth")),
    *(f"{name}.png" for name in PAPER_TEXTS),
)
"""Everything that comes with the pictures."""


def remove_images(folder: Path, measured: Sequence[Path]) -> None:
    """Remove page, videos and pictures of an earlier evaluation, which show other values.

    Nothing is touched where no evaluation.json tells of one, or where it compared two videos that
    somebody made under these names.

    Args:
        folder: The folder of the results.
        measured: Files that were measured, which stay wherever they are.
    """
    try:
        earlier = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return
    kept = {path.resolve() for path in measured}
    if "truth" in earlier:
        kept |= {(folder / name).resolve() for name in ("render.mp4", "truth.mp4")}
    for path in (folder / name for name in PICTURE_FILES):
        if path.resolve() not in kept:
            path.unlink(missing_ok=True)


def write_tables(
    folder: Path, result: Evaluation, about: dict[str, Any], titles: tuple[str, str]
) -> None:
    """Write the values as JSON, CSV and Markdown; `titles` name the run and its frames."""
    write_text(folder / "evaluation.json", json.dumps(as_json(result, about), indent=2) + "\n")
    write_text(folder / "evaluation.csv", csv_of_values(result))
    write_text(folder / "evaluation.md", markdown(result, *titles))
    if result.per_frame:
        write_text(folder / "frames.csv", csv_of_frames(result))


def write_page(
    folder: Path,
    result: Evaluation,
    about: dict[str, Any],
    titles: tuple[str, str],
    images: Images,
    paper: dict[str, UInt8[np.ndarray, "_ _ 3"]],
) -> None:
    """Write the paper's pictures as PNG files, and the page with everything in it.

    Args:
        folder: Where the files go.
        result: The values.
        about: What was measured, for the JSON inside the page.
        titles: Heading and the line below it.
        images: Video and worst frames; plots and paper's pictures are added here.
        paper: Pictures by the keys of `PAPER_TEXTS`.
    """
    for name, image in paper.items():
        write_image(folder / f"{name}.png", image)
        heading, text = PAPER_TEXTS[name]
        images.paper.append((heading, text, jpeg_uri(image)))
    if "psnr" in result.per_frame:
        images.plots.append(("Fidelity over time", fidelity_plot(result)))
    images.plots.append(("Lips over time", lips_plot(result)))
    content = page(*titles, result, as_json(result, about), images)
    write_text(folder / "evaluation.html", content)


def video_uri(path: Path) -> str:
    """A video as the address of a `video` element."""
    return data_uri(path.read_bytes(), "mp4").replace("data:image/", "data:video/", 1)
