"""One evaluation: every metric sees every pair of frames, and the values are put together."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from gaussiantalker_ns.face.landmarker import Face
from gaussiantalker_ns.metrics.audio_sync import audio_lip_values
from gaussiantalker_ns.metrics.aue import ExternalMetrics
from gaussiantalker_ns.metrics.csim import IdentitySimilarity
from gaussiantalker_ns.metrics.face_motion import (
    FaceTrack,
    correlations_at_best_lag,
    landmark_jitter,
    landmarker,
    lip_lag_ms,
    motion_values,
    only_face,
)
from gaussiantalker_ns.metrics.frame_pairs import REGIONS, FramePair, boxes_of_face, region_key
from gaussiantalker_ns.metrics.lips import lip_scores
from gaussiantalker_ns.metrics.lmd import FanDistance
from gaussiantalker_ns.metrics.perceptual import FrechetDistance, ImageFidelity, Lpips, Metric
from gaussiantalker_ns.metrics.registry import MEASURES, NotMeasured

UNDEFINED = "undefined on these frames: there is nothing to compare, or the real one stands still"


@dataclass
class Evaluation:
    """What was measured over a sequence of frames."""

    frames: list[int] = field(default_factory=list)
    per_frame: dict[str, list[float]] = field(default_factory=dict)
    """Figures of every frame; NaN where a frame has none."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Figures of the sequence, by the keys of `metrics.registry.MEASURES`."""
    not_measured: dict[str, str] = field(default_factory=dict)
    """Figures that could not be had, with what they need."""
    ground_truth: dict[str, float] = field(default_factory=dict)
    """The real video in place of the render, where the figure says something about it."""
    rendered: FaceTrack = field(default_factory=FaceTrack)
    real: FaceTrack = field(default_factory=FaceTrack)

    def add(self, values: dict[str, float]) -> None:
        """Take values in; those that are not finite are not measured."""
        for key, value in values.items():
            if math.isfinite(value):
                self.metrics[key] = float(value)
            else:
                self.not_measured[key] = UNDEFINED

    def add_frame(self, frame: int, values: dict[str, float]) -> None:
        """Take the values of the next frame in."""
        for key in values.keys() - self.per_frame.keys():
            self.per_frame[key] = [math.nan] * len(self.frames)
        self.frames.append(frame)
        for key, column in self.per_frame.items():
            column.append(values.get(key, math.nan))

    def finish(self) -> None:
        """Average over frames, and put everything into the order of the registry."""
        for key, column in self.per_frame.items():
            values = np.array(column)[np.isfinite(column)]
            self.add({key: float(values.mean()) if len(values) else math.nan})
        self.metrics = {key: self.metrics[key] for key in MEASURES if key in self.metrics}
        self.not_measured = {
            key: self.not_measured[key]
            for key in MEASURES
            if key in self.not_measured and key not in self.metrics
        }
        # A real video may be too short for a value, too; then it has none.
        self.ground_truth = {k: v for k, v in self.ground_truth.items() if math.isfinite(v)}
        fixed = {key: m.perfect for key, m in MEASURES.items() if m.perfect is not None}
        for key, perfect in fixed.items():
            if key in self.metrics and not key.endswith("psnr"):
                self.ground_truth.setdefault(key, perfect)


def measured_by(name: str) -> tuple[str, ...]:
    """Keys of a value in all regions. ("lpips") -> ("face_lpips", "head_lpips", "lpips")."""
    return tuple(region_key(region, name) for region in REGIONS)


@dataclass(frozen=True)
class Metrics:
    """Who looks at the frames, and who could not come."""

    present: list[Metric]
    not_measured: dict[str, str]

    @classmethod
    def find(cls, device: torch.device | str, csim_model: Path | None = None) -> "Metrics":
        """Build every metric whose network is on this machine; nothing is downloaded."""
        present: list[Metric] = [ImageFidelity()]
        not_measured: dict[str, str] = {}
        optional: list[tuple[tuple[str, ...], Callable[[], Metric]]] = [
            (measured_by("lpips"), lambda: Lpips.load(device)),
            (measured_by("fid"), lambda: FrechetDistance.load(device)),
            (("lmd",), lambda: FanDistance.load(device)),
            (("csim",), lambda: IdentitySimilarity.load(csim_model, device)),
        ]
        for keys, load in optional:
            try:
                present.append(load())
            except NotMeasured as reason:
                not_measured.update(dict.fromkeys(keys, str(reason)))
        return cls(present, not_measured)


Watcher = Callable[[FramePair, dict[str, float]], None]
"""Called with every pair and its values, to make videos and pictures in the same pass."""


def evaluate_pairs(
    pairs: Iterable[FramePair],
    metrics: Metrics,
    watch: Watcher | None = None,
    samples: Float32[np.ndarray, " samples"] | None = None,
    external: ExternalMetrics | None = None,
) -> Evaluation:
    """Compare rendered with real frames.

    Args:
        pairs: The frames in order; pairs without boxes get those of the face in the real frame.
        metrics: Who looks at them.
        watch: Called after each pair.
        samples: The sound that drove the head, 16 kHz, sample 0 at frame 0.
        external: What other programs measured on the same frames.

    Raises:
        ValueError: There is no frame, or the OpenFace tables do not fit.
    """
    external = external or ExternalMetrics()
    brought = external.values()
    result = Evaluation(not_measured={**metrics.not_measured, **external.not_measured})
    with landmarker() as finder:
        for bare in pairs:
            faces = only_face(finder, bare.rendered_pixels), only_face(finder, bare.real_pixels)
            pair = with_faces(bare, *faces)
            values: dict[str, float] = {}
            for metric in metrics.present:
                values.update(metric.observe(pair))
            result.add_frame(pair.frame, values)
            result.rendered.add(pair.frame, pair.rendered_face)
            result.real.add(pair.frame, pair.real_face)
            if watch is not None:
                watch(pair, values)
    if not result.frames:
        raise ValueError("There is no frame to compare; expected at least one.")
    for metric in metrics.present:
        result.add(metric.values())
    result.add(motion_values(result.rendered, result.real))
    result.ground_truth["jitter_px"] = landmark_jitter(result.real.points, result.real.frames)
    measure_audio(result, samples)
    result.add(brought)
    result.ground_truth.update(external.ground_truth)
    result.finish()
    return result


def with_faces(pair: FramePair, rendered: Face | None, real: Face | None) -> FramePair:
    """A pair with its faces, and with boxes if it had none."""
    boxes = pair.boxes
    if not boxes and real is not None:
        boxes = boxes_of_face(real, max(pair.real.shape[:2]))
    return replace(pair, boxes=boxes, rendered_face=rendered, real_face=real)


AUDIO_KEYS = ("audio_lip_lag_ms", "audio_lip_lag_error_ms", "audio_lip_correlation")


def measure_audio(
    result: Evaluation, samples: Float32[np.ndarray, " samples"] | None, with_truth: bool = True
) -> None:
    """Add the lag between sound and lips of the render and, if wanted, of the real video."""
    if samples is None:
        reason = "needs the sound of the frames; the data set or the video has none"
        result.not_measured.update(dict.fromkeys(AUDIO_KEYS, reason))
        return
    try:
        result.add(audio_lip_values(samples, result.rendered))
        if with_truth:
            result.ground_truth.update(audio_lip_values(samples, result.real))
    except NotMeasured as reason:
        missing = [key for key in AUDIO_KEYS if key not in result.metrics]
        result.not_measured.update(dict.fromkeys(missing, str(reason)))


DrivenWatcher = Callable[[UInt8[np.ndarray, "h wd 3"], UInt8[np.ndarray, "h2 wd2 3"] | None], None]
"""Called with every rendered frame and the frame of the recording, where it has pictures."""


def evaluate_driven(
    rendered: Iterable[UInt8[np.ndarray, "h wd 3"]],
    samples: Float32[np.ndarray, " samples"],
    real_jitter: float | None,
    external: ExternalMetrics | None = None,
    speaker: Iterator[UInt8[np.ndarray, "h2 wd2 3"]] | None = None,
    fan: FanDistance | None = None,
    watch: DrivenWatcher | None = None,
) -> Evaluation:
    """Measure a head that speaks sound of another recording, for which no real frames exist.

    Args:
        rendered: The frames.
        samples: The sound, 16 kHz.
        real_jitter: Landmark jitter of the real video in pixels at the same size, if known.
        external: What other programs measured on the same frames.
        speaker: Frames of the recording, where it shows its speaker: the lips to compare with.
        fan: The detector of LMD, where it is installed.
        watch: Called with every frame, and the recording's where it has one.
    """
    external = external or ExternalMetrics()
    brought = external.values()
    result = Evaluation(not_measured=external.not_measured)
    with landmarker() as finder:
        for index, image in enumerate(rendered):
            result.rendered.add(index, only_face(finder, image))
            values: dict[str, float] = {}
            own = None if speaker is None else next(speaker, None)
            if own is not None:
                result.real.add(index, only_face(finder, own))
                values = {} if fan is None else fan.compare(image, own)
            result.add_frame(index, values)
            if watch is not None:
                watch(image, own)
    if not result.frames:
        raise ValueError("The audio is too short for a single frame; expected some speech.")
    shake = landmark_jitter(result.rendered.points, result.rendered.frames)
    result.add({"jitter_px": shake})
    if real_jitter is not None and real_jitter > 0:
        result.add({"jitter_ratio": shake / real_jitter})
        result.ground_truth["jitter_px"] = real_jitter
    measure_audio(result, samples, with_truth=speaker is not None)
    if speaker is not None:
        compare_speakers(result)
    result.add(brought)
    result.ground_truth.update(external.ground_truth)
    result.finish()
    return result


def compare_speakers(result: Evaluation) -> None:
    """Add how the lips follow those of the recording's own speaker, who is another person.

    The distance of MediaPipe's lip points is left out: it would measure how different the two
    mouths are. LMD, which does the same, is there because the paper has it.
    """
    count = min(len(result.rendered.frames), len(result.real.frames))
    rendered = FaceTrack(result.rendered.frames[:count], result.rendered.faces[:count])
    scores = lip_scores(rendered.points, result.real.points)
    opening, width = correlations_at_best_lag(rendered, result.real)
    result.add(
        {
            "lips_open_correlation_lagged": opening,
            "lips_width_correlation_lagged": width,
            "lips_open_correlation": scores.open_correlation,
            "lips_width_correlation": scores.width_correlation,
            "lips_open_amplitude": scores.open_amplitude,
            "lips_lag_ms": lip_lag_ms(rendered, result.real),
            "lips_num_frames": float(scores.num_frames),
        }
    )
