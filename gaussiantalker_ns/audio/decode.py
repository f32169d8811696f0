"""Decoding of the sound of any file: resampled pieces of one track, with their times."""

from collections.abc import Iterator

import av
import numpy as np
from av.container import InputContainer
from av.error import EOFError as AvEOFError
from av.error import InvalidDataError
from av.stream import Disposition
from jaxtyping import Float32

GAP_TOLERANCE_S = 0.05
"""Smaller jumps of the time stamps are jitter of the container, not missing sound."""

LONGEST_GAP_S = 30.0
"""Larger jumps are a new origin of the time stamps (joined recordings), not missing sound."""

ATTACHED_PICTURE = Disposition.attached_pic


def has_pictures(container: InputContainer) -> bool:
    """Whether a file has a video stream, other than the cover of a piece of music."""
    return any(not stream.disposition & ATTACHED_PICTURE for stream in container.streams.video)


def decode_audio(
    container: InputContainer, sample_rate_hz: int, layout: str | None = None, track: int = 1
) -> Iterator[tuple[float, Float32[np.ndarray, "c m"]]]:
    """Decode and resample one audio track, piece by piece.

    Time stamps count in files with pictures: a jump from one frame to the next is missing sound.

    Args:
        container: An open file.
        sample_rate_hz: Rate of the pieces.
        layout: Channels of the pieces, as FFmpeg names them; None keeps those of the file.
        track: Number of the audio track, from 1.

    Yields:
        Presentation time in seconds of the stretch without a gap that the piece belongs to, and the
        piece. Pieces of one stretch follow each other without gaps.
    """
    follow_times = has_pictures(container)
    resampler, resampler_format, start_s, source_s = None, None, None, 0.0
    for frame in decodable_frames(container, track):
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


def decodable_frames(container: InputContainer, track: int = 1) -> Iterator[av.AudioFrame]:
    """Yield the frames of an audio track; stop where a cut-off file ends in rubbish."""
    num_frames = 0
    try:
        for frame in container.decode(container.streams.audio[track - 1]):
            num_frames += 1
            yield frame
    except (InvalidDataError, AvEOFError):
        if num_frames == 0:
            raise
