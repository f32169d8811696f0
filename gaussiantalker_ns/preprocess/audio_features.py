"""Step 6: the clip's audio-video offset, and the speech features of every frame."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from gaussiantalker_ns.audio.encoders.registry import check_encoder_names, get_encoder
from gaussiantalker_ns.audio.read import read_audio, write_wav
from gaussiantalker_ns.audio.sync import OffsetEstimate, estimate_av_offset
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.dataparsers.poses import read_poses
from gaussiantalker_ns.face.landmarker import Landmarks
from gaussiantalker_ns.face.measures import mouth_opening, mouth_width
from gaussiantalker_ns.timebase import (
    FPS,
    SAMPLE_RATE_HZ,
    SAMPLES_PER_FRAME,
    advance_samples,
    fit_to_frames,
)

MIN_CONFIDENCE = 0.4
"""An estimated offset that is less certain is reported, but not applied."""

MAX_SOUND_DIFFERENCE_S = 1.0
"""Longest difference of sound and pictures in other tools' data sets; their tails vary."""

SPLIT_NUMERATOR, SPLIT_DENOMINATOR = 10, 11
"""The first ten elevenths of the frames are for training, as in the public code."""


def num_train_frames(num_frames: int) -> int:
    """Frames of the training part. Example: 8000 -> 7272."""
    return num_frames * SPLIT_NUMERATOR // SPLIT_DENOMINATOR


def lip_targets(landmarks: Landmarks) -> Float32[np.ndarray, "b 2"]:
    """Opening and width of the mouth in eye distances; NaN where they are not seen."""
    points = landmarks.points.astype(np.float32)
    targets = np.stack([mouth_opening(points), mouth_width(points)], axis=1).astype(np.float32)
    targets[~landmarks.clear] = np.nan
    return targets


def choose_offset(estimate: OffsetEstimate, wanted_ms: float | None) -> float:
    """The offset to correct: the user's, else the estimate if it can be trusted, else none."""
    if wanted_ms is not None:
        return wanted_ms
    return round(estimate.offset_ms, 1) if estimate.confidence >= MIN_CONFIDENCE else 0.0


def opening_range(targets: Float32[np.ndarray, "b 2"]) -> float:
    """How far the lips part and close in a clip, in eye distances: 5th to 95th percentile."""
    opening = targets[np.isfinite(targets).all(axis=1), 0]
    return float(np.ptp(np.percentile(opening, (5, 95)))) if len(opening) else 0.0


def describe_offset(
    estimate: OffsetEstimate, targets: Float32[np.ndarray, "b 2"]
) -> dict[str, Any]:
    """The estimate as it is stored, with the curve that the report draws."""
    error = estimate.standard_error_ms
    return {
        "estimate_ms": round(estimate.offset_ms, 2),
        "confidence": round(estimate.confidence, 3),
        "known": estimate.confidence >= MIN_CONFIDENCE,
        "foreign": estimate.is_foreign,
        "chance": float(f"{estimate.chance:.2g}"),
        "lip_opening_range": round(opening_range(targets), 4),
        "standard_error_ms": round(error, 2) if np.isfinite(error) else None,
        "lags_ms": estimate.lags_ms.tolist(),
        "correlations": np.round(estimate.correlations, 4).tolist(),
    }


def prepare_audio(
    dataset: DatasetLayout,
    output: DatasetLayout,
    landmarks: Landmarks,
    encoders: Sequence[str],
    av_offset_ms: float | None,
    progress: Callable[[int], None],
) -> dict[str, Any]:
    """Correct the audio-video offset, then write the speech and its features.

    Args:
        dataset: Where the sound as recorded is read.
        output: Where the corrected sound, its two parts and the features are written.
        landmarks: The landmarks of all frames; the offset is measured against the mouth.
        encoders: Names of the feature encoders.
        av_offset_ms: Milliseconds by which the sound is late; None estimates it.
        progress: Called with the number of encoders done.

    Returns:
        The facts about the audio for `talker.json`.
    """
    num_frames = len(landmarks.points)
    recorded = fit_to_frames(read_audio(dataset.source_audio), num_frames, SAMPLES_PER_FRAME)
    targets = lip_targets(landmarks)
    estimate = estimate_av_offset(recorded, targets)
    offset_ms = choose_offset(estimate, av_offset_ms)
    samples = advance_samples(recorded, offset_ms)
    split = num_train_frames(num_frames) * SAMPLES_PER_FRAME
    write_wav(output.audio, samples)
    write_wav(output.audio_train, samples[:split])
    write_wav(output.audio_val, samples[split:])
    files = {}
    for done, name in enumerate(encoders, start=1):
        features = get_encoder(name).encode(samples, num_frames)
        path = output.audio_features(name)
        np.save(path, features.astype(np.float32))
        files[name] = {"file": path.name, "shape": list(features.shape)}
        progress(done)
    return {
        "audio": files,
        "av_offset_ms": offset_ms,
        "av_offset": describe_offset(estimate, targets),
    }


def add_features(
    dataset: DatasetLayout, encoders: Sequence[str], progress: Callable[[int], None]
) -> list[Path]:
    """Compute features of the sound of a data set that another tool made, and nothing else.

    Pictures, poses and the features that are there stay as they are; the sound is not moved, as it
    belongs to them.

    Args:
        dataset: The data set, with `aud.wav`.
        encoders: Names of the feature encoders.
        progress: Called with the number of encoders done.

    Returns:
        The files.

    Raises:
        FileNotFoundError: there is no sound, or no poses that tell the number of frames.
        ValueError: an encoder is unknown, or sound and frames differ in length.
    """
    check_encoder_names(encoders)
    if not dataset.audio.is_file():
        raise FileNotFoundError(
            f"{dataset.audio} does not exist; expected the sound of the clip, from which features "
            "are computed. Put it there, beginning with the first frame, and run this again."
        )
    num_frames = len(read_poses(dataset).valid)
    samples = read_audio(dataset.audio)
    seconds, wanted = len(samples) / SAMPLE_RATE_HZ, num_frames / FPS
    if abs(seconds - wanted) > MAX_SOUND_DIFFERENCE_S:
        raise ValueError(
            f"{dataset.audio} lasts {seconds:.2f} s, but {num_frames} frames at {FPS} per second "
            f"last {wanted:.2f} s; expected the sound of these frames. Cut it to them."
        )
    paths = []
    for done, name in enumerate(encoders, start=1):
        features = get_encoder(name).encode(samples, num_frames)
        path = dataset.audio_features(name)
        partial = path.with_name(f".partial-{path.name}")
        np.save(partial, features.astype(np.float32))
        os.replace(partial, path)
        paths.append(path)
        progress(done)
    return paths
