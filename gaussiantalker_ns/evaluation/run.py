"""Inputs of `gaussiantalker evaluate`: a run's held-out frames, another voice, two videos."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import av
import av.stream
import numpy as np
import torch
from jaxtyping import Float32, UInt8

from gaussiantalker_ns.audio.read import read_audio
from gaussiantalker_ns.data.datamanager import FullFrames
from gaussiantalker_ns.data.dataset import TalkingHeadDataset
from gaussiantalker_ns.evaluation.training_eval import rendered_pairs
from gaussiantalker_ns.inference.checkpoint import LoadedCheckpoint, load_pipeline
from gaussiantalker_ns.inference.trained_talker import TrainedTalker
from gaussiantalker_ns.kernels.compile import num_threads
from gaussiantalker_ns.metrics.face_motion import FaceTrack, landmark_jitter, landmarker, only_face
from gaussiantalker_ns.metrics.frame_pairs import FramePair, fitted, video_frames
from gaussiantalker_ns.model import GaussianTalkerModel

Split = Literal["test", "train"]


@dataclass(frozen=True)
class TrainedRun:
    """A run that is loaded for evaluation."""

    checkpoint: LoadedCheckpoint
    datasets: dict[str, TalkingHeadDataset]
    """Split -> its frames."""

    @property
    def model(self) -> GaussianTalkerModel:
        """The trained model."""
        return self.checkpoint.model

    @property
    def audio(self) -> Path | None:
        """The clip's own audio file, if the data set has it."""
        path = self.checkpoint.layout.audio
        return path if path.is_file() else None


def about_talker(talker: TrainedTalker) -> dict[str, Any]:
    """What a reader of the values must know about the talker."""
    device = talker.model.device
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else f"CPU, {num_threads()} threads"
    return {
        "method": talker.method,
        "checkpoint": talker.path.name,
        "step": talker.step,
        "image_size": talker.model.background.layers.size,
        "device": name,
    }


def load_run(config_path: Path, data: Path | None) -> TrainedRun:
    """Load the newest checkpoint of a run with both splits of its data set.

    Raises:
        FileNotFoundError: There is no checkpoint or data set.
        ValueError: The run belongs to another method.
    """
    checkpoint, pipeline = load_pipeline(config_path, data, "test")
    manager: Any = pipeline.datamanager
    return TrainedRun(checkpoint, {"test": manager.eval_dataset, "train": manager.train_dataset})


def split_pairs(run: TrainedRun, split: Split, max_frames: int | None) -> Iterator[FramePair]:
    """Render the frames of a split with their own audio, pose and expression."""
    frames = FullFrames(run.datasets[split], run.model.device)
    return rendered_pairs(run.model, islice(iter(frames), max_frames))


def real_jitter(run: TrainedRun, max_frames: int | None) -> float:
    """Landmark jitter of the real held-out frames, in pixels at the size of the render."""
    track, dataset = FaceTrack(), run.datasets["test"]
    with landmarker() as finder:
        for index, frame in enumerate(dataset.frames[:max_frames]):
            track.add(frame, only_face(finder, dataset.get_numpy_image(index)))
    return landmark_jitter(track.points, track.frames)


def audio_of(path: Path | None) -> Float32[np.ndarray, " m"] | None:
    """Sound of a file at 16 kHz; None for videos without any."""
    if path is None:
        return None
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return None
    return read_audio(path)


def speaker_of(audio: Path, height: int) -> Iterator[UInt8[np.ndarray, "h wd 3"]] | None:
    """Frames of a recording that shows its speaker, at a height; None for sound alone."""
    with av.open(str(audio)) as container:
        cover = av.stream.Disposition.attached_pic
        if not any(not stream.disposition & cover for stream in container.streams.video):
            return None
    return (
        fitted(image, height, max(round(image.shape[1] * height / image.shape[0]), 1))
        for image in video_frames(audio)
    )
