"""Reading the sound of any audio or video file as mono samples in step with its pictures."""

import wave
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import EOFError as AvEOFError
from av.error import FFmpegError, InvalidDataError
from av.stream import Disposition
from jaxtyping import Float32

from gaussiantalker_ns.timebase import SAMPLE_RATE_HZ

GAP_TOLERANCE_S = 0.05
"""Smaller jumps of the time stamps are jitter of the container, not missing sound."""

LONGEST_GAP_S = 30.0
"""Larger jumps are a new origin of the time stamps (joined recordings), not missing sound."""

ATTACHED_PICTURE = Disposition.attached_pic


def read_audio(
    path: Path | str, sample_rate_hz: int = SAMPLE_RATE_HZ, t_start: float | None = None
) -> Float32[np.ndarray, " samples"]:
    """Return the first audio stream of a file, resampled, as the mean of its channels.

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
            if not container.streams.audio:
                raise ValueError(
                    f"{path} has no audio stream; expected one. Choose a recording with sound, or"
                    " mux the sound into it first."
                )
            if t_start is None and has_pictures(container):
                t_start = first_video_frame_time(path)
            segments: dict[float, list[Float32[np.ndarray, " _"]]] = {}
            for start_s, piece in decode_audio(container, sample_rate_hz):
                # FFmpeg's own float down-mix scales by 0.707 (L + R).
                segments.setdefault(start_s, []).append(piece.mean(axis=0, dtype=np.float32))
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
    return samples


def first_video_frame_time(path: Path | str) -> float | None:
    """Return the presentation time in seconds of the first decoded video frame, or None."""
    with av.open(str(path)) as container:
        for stream in container.streams.video:
            if stream.disposition & ATTACHED_PICTURE:
                continue
            for frame in container.decode(stream):
                return frame.time
    return None


def audio_offset(path: Path | str) -> float:
    """Return the time from the first decoded sample to sample 0 of `read_audio`, in seconds.

    It is positive where the sound begins before the pictures, and 0 for files without pictures.
    """
    start = first_video_frame_time(path)
    if start is None:
        return 0.0
    with av.open(str(path)) as container:
        first = next(_decodable_frames(container))
        return start - (first.time or 0.0)


def has_pictures(container: InputContainer) -> bool:
    """Whether a file has a video stream, other than the cover of a piece of music."""
    return any(not stream.disposition & ATTACHED_PICTURE for stream in container.streams.video)


def decode_audio(
    container: InputContainer, sample_rate_hz: int, layout: str | None = None
) -> Iterator[tuple[float, Float32[np.ndarray, "c m"]]]:
    """Decode and resample the first audio stream, piece by piece.

    Time stamps count in files with pictures: a jump from one frame to the next is missing sound.

    Args:
        container: An open file.
        sample_rate_hz: Rate of the pieces.
        layout: Channels of the pieces, as FFmpeg names them; None keeps those of the file.

    Yields:
        Presentation time in seconds of the stretch without a gap that the piece belongs to, and the
        piece. Pieces of one stretch follow each other without gaps.
    """
    follow_times = has_pictures(container)
    resampler, resampler_format, start_s, source_s = None, None, None, 0.0
    for frame in _decodable_frames(container):
        frame_format = (frame.format.name, frame.layout.name, frame.sample_rate)
        jump = 0.0 if frame.time is None or not follow_times else frame.time - source_s
        if start_s is None:
            # Only a jump from one frame to the next is a gap; the first frame is where it says.
            start_s = source_s = jump
        elif GAP_TOLERANCE_S < jump < LONGEST_GAP_S or frame_format != resampler_format:
            yield from _resampled(resampler, None, start_s)
            resampler = None
            source_s += jump if GAP_TOLERANCE_S < jump < LONGEST_GAP_S else 0.0
            start_s = source_s
        if resampler is None:
            resampler = av.AudioResampler(
                format="fltp", layout=layout or frame.layout.name, rate=sample_rate_hz
            )
            resampler_format = frame_format
        source_s += frame.samples / frame.sample_rate
        frame.pts = None
        yield from _resampled(resampler, frame, start_s)
    yield from _resampled(resampler, None, start_s)


def _resampled(
    resampler: av.AudioResampler | None, frame: av.AudioFrame | None, start_s: float | None
) -> Iterator[tuple[float, Float32[np.ndarray, "c m"]]]:
    """Resample a frame, or without one what the resampler still holds back."""
    if resampler is not None and start_s is not None:
        for resampled in resampler.resample(frame):
            yield start_s, resampled.to_ndarray()


def _decodable_frames(container: InputContainer) -> Iterator[av.AudioFrame]:
    """Yield the frames of the first audio stream; stop where a cut-off file ends in rubbish."""
    num_frames = 0
    try:
        for frame in container.decode(container.streams.audio[0]):
            num_frames += 1
            yield frame
    except (InvalidDataError, AvEOFError):
        if num_frames == 0:
            raise


def _place_on_timeline(
    segments: dict[float, list[Float32[np.ndarray, " _"]]],
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
