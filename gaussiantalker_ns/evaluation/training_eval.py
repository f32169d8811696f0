"""Held-out frames: rendered beside the real ones, or watched in Nerfstudio's own loop."""

import math
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from typing import Any

import torch

from gaussiantalker_ns.metrics.face_motion import FaceTrack, landmarker, only_face
from gaussiantalker_ns.metrics.frame_pairs import FramePair, to_pixels
from gaussiantalker_ns.metrics.lips import lip_scores


@torch.no_grad()
def rendered_pairs(model: Any, frames: Iterable[tuple[Any, dict[str, Any]]]) -> Iterator[FramePair]:
    """Render frames with their own audio, pose and expression, each beside the real one.

    Args:
        model: A model of ours.
        frames: Cameras and full frames, as the data manager hands them out for evaluation.
    """
    for camera, batch in frames:
        rendered = model.get_outputs_for_camera(camera)["rgb"]
        boxes = {
            name: [int(value) for value in batch[f"{name}_box"]]
            for name in ("face", "lips", "eyes")
        }
        yield FramePair(
            frame=int(batch["frame"]),
            rendered=rendered,
            real=batch["image"].to(rendered) / 255.0,
            boxes=boxes,
            head_mask=batch["head_mask"].to(rendered) / 255.0,
        )


class EvalRecorder:
    """Sees every frame that a model renders and measures.

    Nerfstudio expects the first frame's values of all frames, so it is told none of them; and it
    counts the measuring as rendering, so the time is taken here.
    """

    def __init__(self, model: Any, finder: Any | None) -> None:
        """Remember whose frames are watched.

        Args:
            model: A Nerfstudio model.
            finder: Face landmarker; None leaves the lips out.
        """
        self._render = model.get_outputs_for_camera
        self._measure = model.get_image_metrics_and_images
        self._finder = finder
        self._seconds = 0.0
        self.frames: list[dict[str, float]] = []
        """Figures of the frames so far."""
        self.rendered, self.real = FaceTrack(), FaceTrack()

    def render(self, camera: Any) -> dict[str, Any]:
        """Stand in for the model's `get_outputs_for_camera`."""
        start = time.perf_counter()
        outputs = self._render(camera)
        if outputs["rgb"].is_cuda:
            torch.cuda.synchronize(outputs["rgb"].device)
        self._seconds = time.perf_counter() - start
        return outputs

    def measure(self, outputs: Any, batch: Any) -> tuple[dict[str, float], dict[str, Any]]:
        """Stand in for the model's `get_image_metrics_and_images`; the values are kept here."""
        if self._finder is not None:
            frame = int(batch["frame"])
            self.rendered.add(frame, only_face(self._finder, to_pixels(outputs["rgb"])))
            self.real.add(frame, only_face(self._finder, batch["image"].cpu().numpy()))
        metrics, images = self._measure(outputs, batch)
        num_pixels = outputs["accumulation"].numel()
        speed = {"num_rays_per_sec": num_pixels / self._seconds, "fps": 1.0 / self._seconds}
        self.frames.append({**metrics, **speed})
        return {}, images

    def averages(self, with_std: bool = False) -> dict[str, float]:
        """The values of all frames, see `average_metrics`, and how well the lips follow."""
        averages = average_metrics(self.frames, with_std)
        if self._finder is not None:
            scores = lip_scores(self.rendered.points, self.real.points)
            averages.update({f"lips_{name}": value for name, value in asdict(scores).items()})
        return averages


@contextmanager
def recorded(model: Any, measure_lips: bool) -> Iterator[EvalRecorder]:
    """Watch a model for the length of a `with` block.

    Args:
        model: A Nerfstudio model.
        measure_lips: Run the face landmarker on renders and real frames.
    """
    with landmarker() if measure_lips else nullcontext() as finder:
        watch = EvalRecorder(model, finder)
        stand_ins = {
            "get_outputs_for_camera": watch.render,
            "get_image_metrics_and_images": watch.measure,
        }
        vars(model).update(stand_ins)
        try:
            yield watch
        finally:
            for name in stand_ins:
                del vars(model)[name]


def average_metrics(
    frames: Sequence[Mapping[str, float]], with_std: bool = False
) -> dict[str, float]:
    """Average every figure over the frames that have it; NaN counts as not having it.

    Example: {"psnr": 30, "head_psnr": 20} and {"psnr": 32} give {"psnr": 31, "head_psnr": 20}.

    Args:
        frames: The values of each frame.
        with_std: Add every figure's standard deviation over its frames as `<name>_std`.
    """
    averages: dict[str, float] = {}
    for name in dict.fromkeys(name for frame in frames for name in frame):
        values = [frame[name] for frame in frames if not math.isnan(frame.get(name, math.nan))]
        if values:
            averages[name] = statistics.fmean(values)
        if values and with_std:
            averages[f"{name}_std"] = statistics.stdev(values) if len(values) > 1 else 0.0
    return averages
