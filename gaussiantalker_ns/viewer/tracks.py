"""Soundtracks: the two parts of the clip, and recordings that users upload."""

import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
from av.error import FFmpegError
from jaxtyping import Float32, Int
from torch import Tensor

from gaussiantalker_ns.audio.read import read_audio
from gaussiantalker_ns.data.conditions import FrameConditions
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.inference.external_audio import feature_rows, motion_sampler
from gaussiantalker_ns.inference.motion import MotionConfig
from gaussiantalker_ns.timebase import SAMPLES_PER_FRAME, fit_to_frames

MAX_UPLOAD_BYTES = 64 * 2**20
"""Largest recording a browser may send."""

MAX_UPLOAD_SECONDS = 600.0
"""Longest recording a browser may send: every listener gets all of it."""

MAX_LABEL_LENGTH = 40
"""Characters of a file's name that are shown."""


@dataclass(frozen=True)
class Soundtrack:
    """A stretch of sound with one frame of the model for every 1/25 s."""

    label: str
    """Name in the panel."""
    samples: Float32[np.ndarray, " samples"]
    """Mono sound at 16 kHz, `SAMPLES_PER_FRAME` for every frame."""
    first_frame: int
    """The model's number of the first frame."""
    rows: Float32[Tensor, "m w a"] | None = None
    """Features of a recording that is not the clip's own."""
    source_frames: Int[Tensor, " m"] | None = None
    """Frames of the clip that give pose, torso and expression to those of the recording."""

    @property
    def num_frames(self) -> int:
        """Frames of the model that can be shown."""
        return len(self.samples) // SAMPLES_PER_FRAME

    def model_frame(self, position: int) -> int:
        """The model's number of a frame of this soundtrack."""
        return self.first_frame + min(max(position, 0), self.num_frames - 1)

    def position(self, model_frame: int) -> int:
        """The frame of this soundtrack nearest to a frame of the model."""
        return min(max(model_frame - self.first_frame, 0), self.num_frames - 1)


def clip_soundtracks(bank: FrameConditions, layout: DatasetLayout) -> list[Soundtrack]:
    """Return the training part of the clip and, where there is one, the held-out part.

    A clip without its sound file (some older data sets) is silent; its frames can be played.
    """
    num_frames = bank.num_track_frames
    audio = read_audio(layout.audio) if layout.audio.exists() else np.zeros(0, np.float32)
    audio = fit_to_frames(audio, num_frames, SAMPLES_PER_FRAME)
    train = bank.train_frames.cpu()
    first, last = int(train.min()), int(train.max())

    def part(label: str, start: int, stop: int) -> Soundtrack:
        samples = audio[start * SAMPLES_PER_FRAME : stop * SAMPLES_PER_FRAME]
        return Soundtrack(label, samples, start)

    tracks = [part("Training track", first, last + 1)]
    before, after = first, num_frames - last - 1
    if max(before, after) > 0:
        start, stop = (last + 1, num_frames) if after >= before else (0, first)
        tracks.append(part("Held-out part", start, stop))
    return tracks


def uploaded_soundtrack(bank: FrameConditions, name: str, content: bytes) -> Soundtrack:
    """Make a soundtrack of a file that a browser sent, through the model's own encoder.

    Args:
        bank: Conditions of the model.
        name: The file's name, as the browser tells it: anything.
        content: The file.

    Raises:
        ValueError: If the file is too large, too long, or no recording.
    """
    label = safe_label(name)
    if len(content) > MAX_UPLOAD_BYTES:
        raise ValueError(too_large(label, len(content)))
    with tempfile.TemporaryDirectory(prefix="gaussiantalker-upload-") as folder:
        path = Path(folder) / "recording"
        path.write_bytes(content)
        try:
            check_length(path)
            samples = read_audio(path)
        except ValueError as error:
            # What a user reads shall name the user's file, not where it was put.
            raise ValueError(str(error).replace(str(path), label)) from error
    num_frames = max(round(len(samples) / SAMPLES_PER_FRAME), 1)
    samples = fit_to_frames(samples, num_frames, SAMPLES_PER_FRAME)
    motion = MotionConfig()
    rows = feature_rows(bank, samples, motion)
    source = motion_sampler(bank, motion).clip_frames(np.arange(len(rows)))
    return Soundtrack(label, samples, 0, torch.from_numpy(rows), torch.from_numpy(source))


def check_length(path: Path) -> None:
    """Refuse a file whose packets last too long, before all of it is decoded.

    Its header is not asked: recordings of browsers have no length there, and it may be wrong.

    Raises:
        ValueError: If it does, or if it is no media file at all.
    """
    try:
        with av.open(str(path)) as container:
            seconds = 0.0
            for packet in container.demux(*container.streams.audio[:1]):
                if packet.duration and packet.time_base:
                    seconds += float(packet.duration * packet.time_base)
                if seconds > MAX_UPLOAD_SECONDS:
                    break
    except FFmpegError as error:
        raise ValueError(
            f"{path} cannot be read as audio ({error.strerror or error}); expected a recording"
            " such as wav or mp3. Choose another file."
        ) from error
    if seconds > MAX_UPLOAD_SECONDS:
        raise ValueError(
            f"{path} lasts more than {MAX_UPLOAD_SECONDS / 60:.0f} minutes; expected at most that."
            " Cut it, or use `gaussiantalker drive`, which takes recordings of any length."
        )


def too_large(label: str, num_bytes: int) -> str:
    """The message about a file above the limit."""
    return (
        f"{label} has {num_bytes / 2**20:.0f} MiB; expected at most {MAX_UPLOAD_BYTES // 2**20}"
        " MiB. Cut it or save it as mp3, or use `gaussiantalker drive`, which takes files of any"
        " size."
    )


def safe_label(name: str) -> str:
    """A short name to show, made of what a browser calls a file; it is plain text, never markup.

    Directions of writing and other control characters go, blanks are joined, the end is kept.
    Example: `"a/b\\u202e\\nc.wav"` gives `"b c.wav"`.
    """
    visible = [
        character if unicodedata.category(character)[0] not in "CZ" else " " for character in name
    ]
    joined = " ".join("".join(visible).replace("\\", "/").split("/")[-1].split())
    if len(joined) > MAX_LABEL_LENGTH:
        joined = "\u2026" + joined[-(MAX_LABEL_LENGTH - 1) :]
    return joined or "recording"


def unique_label(label: str, taken: list[str]) -> str:
    """Number a label that is taken. `("a", ["a"])` gives `"a (2)"`."""
    unique, number = label, 2
    while unique in taken:
        unique = f"{label} ({number})"
        number += 1
    return unique
