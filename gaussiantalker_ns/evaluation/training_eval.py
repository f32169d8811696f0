"""Held-out frames: rendered beside the real ones, or measured one by one for the training's log."""

import math
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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
    """Renders, times and measures held-out frames one by one, and averages what was measured."""

    def __init__(self, model: Any, finder: Any | None) -> None:
        """Remember what is measured.

        Args:
            model: A model of ours.
            finder: Face landmarker; None leaves the lips out.
        """
        self._model = model
        self._finder = finder
        self.frames: list[dict[str, float]] = []
        """Values of the frames so far."""
        self.rendered, self.real = FaceTrack(), FaceTrack()

    def add(self, camera: Any, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Render and measure a frame; returns the images that show it. Only rendering is timed."""
        start = time.perf_counter()
        outputs = self._model.get_outputs_for_camera(camera)
        if outputs["rgb"].is_cuda:
            torch.cuda.synchronize(outputs["rgb"].device)
        seconds = time.perf_counter() - start
        if self._finder is not None:
            frame = int(batch["frame"])
            self.rendered.add(frame, only_face(self._finder, to_pixels(outputs["rgb"])))
            self.real.add(frame, only_face(self._finder, batch["image"].cpu().numpy()))
        metrics, images = self._model.get_image_metrics_and_images(outputs, batch)
        speed = {
            "num_rays_per_sec": outputs["accumulation"].numel() / seconds,
            "fps": 1.0 / seconds,
        }
        self.frames.append({**metrics, **speed})
        return images

    def averages(self, with_std: bool = False) -> dict[str, float]:
        """The values of all frames, see `average_metrics`, and how well the lips follow."""
        averages = average_metrics(self.frames, with_std)
        if self._finder is not None:
            scores = lip_scores(self.rendered.points, self.real.points)
            averages.update({f"lips_{name}": value for name, value in asdict(scores).items()})
        return averages


def evaluate_frames(
    model: Any,
    frames: Iterable[tuple[Any, dict[str, Any]]],
    measure_lips: bool,
    with_std: bool = False,
    image_stem: Path | None = None,
) -> dict[str, float]:
    """Average the values of held-out frames, one rendered after the other.

    Args:
        model: A model of ours.
        frames: Cameras and full frames, as the data manager hands them out for evaluation.
        measure_lips: Run the face landmarker on renders and real frames.
        with_std: Add every value's standard deviation over its frames.
        image_stem: Beginning of the path of the images, which are PNG files; None writes none.
    """
    from torchvision.utils import save_image

    with landmarker() if measure_lips else nullcontext() as finder:
        recorder = EvalRecorder(model, finder)
        for index, (camera, batch) in enumerate(frames):
            images = recorder.add(camera, batch)
            for name, image in images.items() if image_stem is not None else ():
                path = f"{image_stem}_{name}_{index:04d}.png"
                save_image(image.permute(2, 0, 1).cpu(), path)
        return recorder.averages(with_std)


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
