"""Reading the sound of any audio or video file as mono samples in step with its pictures."""

import wave
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from jaxtyping import Float32, Float64

from gaussiantalker_ns.audio.decode import (
    ATTACHED_PICTURE,
    decodable_frames,
    decode_audio,
    has_pictures,
)
from gaussiantalker_ns.audio.tracks import (
    cancellation_notice,
    choose_channel,
    choose_track,
    sharp_energy,
)
from gaussiantalker_ns.timebase import SAMPLE_RATE_HZ

Segments = dict[float, list[Float32[np.ndarray, " _"]]]
"""Presentation time of a stretch of sound without a gap -> its pieces."""


@dataclass(frozen=True)
class Recording:
    """The sound of a file, and what was chosen of it."""

    samples: Float32[np.ndarray, " samples"]
    """Mono samples."""
    track: int
    """Number of the audio track, from 1."""
    notices: list[str]
    """Sentences for the user about tracks and channels; none for ordinary files."""


def read_audio(
    path: Path | str,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    t_start: float | None = None,
    track: int | None = None,
) -> Float32[np.ndarray, " samples"]:
    """Return the samples of `read_recording`."""
    return read_recording(path, sample_rate_hz, t_start, track).samples


def read_recording(
    path: Path | str,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    t_start: float | None = None,
    track: int | None = None,
) -> Recording:
    """Return the sound of a file, resampled, as the mean of its channels.

    Of several tracks one that holds sound is taken, the default one first; channels that cancel
    each other are not averaged, the strongest one is taken.

    Sound and pictures are aligned by their presentation times: in a file with a video stream,
    sample 0 belongs to the start of the first decoded video frame (silence is put in where the
    sound starts later, samples are cut where it starts earlier, and gaps are filled with zeros).
    In a file without video the time stamps are ignored, since the first one of an mp3 is not zero,
    and sample 0 is the first decoded sample. Raw ADTS files (`.aac`) do not say how long their
    encoder delay is, so they come out up to 1024 source samples late.

    Args:
        path: Any container and codec that PyAV opens.
        sample_rate_hz: The rate to resample to.
        t_start: The presentation time in seconds that sample 0 shall have, instead of the time of
            the first video frame.
        track: Number of the audio track, from 1, instead of the choice.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file has no sound that can be decoded.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"No audio or video file at {path}; expected an existing file. Check the path."
        )
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes); expected a recording. Copy it again.")
    try:
        with av.open(str(path)) as container:
            choice = choose_track(container, path, track)
            if t_start is None and has_pictures(container):
                t_start = first_video_frame_time(path)
        segments, energy = _decode_segments(path, sample_rate_hz, choice.number)
        channel = None if energy is None else choose_channel(energy)
        if channel is not None:
            segments, _ = _decode_segments(path, sample_rate_hz, choice.number, channel)
    except FFmpegError as error:
        raise ValueError(
            f"{path} cannot be read as audio ({error.strerror or error}); expected a recording in"
            " a common format. It may be damaged or cut short: copy or export it again."
        ) from error
    if not segments:
        raise ValueError(
            f"{path} has an audio stream without a single sample; expected some sound. Record or"
            " export it again."
        )
    samples = _place_on_timeline(segments, sample_rate_hz, t_start)
    if not np.isfinite(samples).all():
        raise ValueError(
            f"{path} holds samples that are not numbers (NaN or infinite); expected finite sound."
            " Export it again."
        )
    notices = choice.notices + ([] if channel is None else [cancellation_notice(path, channel)])
    return Recording(samples, choice.number, notices)


def _decode_segments(
    path: Path, sample_rate_hz: int, track: int, channel: int | None = None
) -> tuple[Segments, Float64[np.ndarray, "c c"] | None]:
    """Decode a track to mono, the mean of its channels or one of them.

    Returns:
        The sound, and the energy of the channels with each other; None where their number changes.
    """
    segments: Segments = {}
    energy: np.ndarray | None = np.zeros((0, 0))
    with av.open(str(path)) as container:
        for start_s, piece in decode_audio(container, sample_rate_hz, track=track):
            # FFmpeg's own float down-mix scales by 0.707 (L + R).
            mono = piece.mean(axis=0, dtype=np.float32) if channel is None else piece[channel]
            segments.setdefault(start_s, []).append(mono)
            if energy is not None:
                added = sharp_energy(piece)
                if energy.size == 0:
                    energy = added
                else:
                    energy = energy + added if energy.shape == added.shape else None
    return segments, energy


def first_video_frame_time(path: Path | str) -> float | None:
    """Return the presentation time in seconds of the first decoded video frame, or None."""
    with av.open(str(path)) as container:
        for stream in container.streams.video:
            if stream.disposition & ATTACHED_PICTURE:
                continue
            for frame in container.decode(stream):
                return frame.time
    return None


def audio_offset(path: Path | str, track: int | None = None) -> float:
    """Return the time from the first decoded sample to sample 0 of `read_audio`, in seconds.

    It is positive where the sound begins before the pictures, and 0 for files without pictures.
    The track is the one that `read_audio` takes.
    """
    start = first_video_frame_time(path)
    if start is None:
        return 0.0
    with av.open(str(path)) as container:
        chosen = choose_track(container, Path(path), track).number
    with av.open(str(path)) as container:
        first = next(decodable_frames(container, chosen))
        return start - (first.time or 0.0)


def _place_on_timeline(
    segments: Segments,
    sample_rate_hz: int,
    t_start: float | None,
) -> Float32[np.ndarray, " samples"]:
    """Lay stretches of sound on one time axis whose sample 0 has presentation time `t_start`."""
    origin = next(iter(segments)) if t_start is None else t_start
    placed = [
        (round((start_s - origin) * sample_rate_hz), np.concatenate(pieces))
        for start_s, pieces in segments.items()
    ]
    samples = np.zeros(max(0, *(start + len(values) for start, values in placed)), np.float32)
    for start, values in placed:
        heard = values[max(-start, 0) :]
        samples[max(start, 0) : max(start, 0) + len(heard)] = heard
    return samples


def write_wav(
    path: Path | str | BytesIO,
    samples: Float32[np.ndarray, " samples"],
    sample_rate_hz: int = SAMPLE_RATE_HZ,
) -> None:
    """Write mono samples in [-1, 1] as a 16-bit wav file; louder ones are clipped."""
    pcm = np.round(np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2")
    with wave.open(str(path) if isinstance(path, Path) else path, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes(pcm.tobytes())
