"""Small videos for tests: grey pictures whose level is the frame number, written with PyAV."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

TIME_BASE = Fraction(1, 1000)
LEVEL_START = 10  # Black pictures mean that there is no face.
LEVEL_STEP = 2
"""Grey levels between the pictures of consecutive source frames."""

Painter = Callable[[int], np.ndarray]


def level_picture(index: int, height: int = 96, width: int = 128) -> np.ndarray:
    """A picture that tells its frame number, see `frame_number`."""
    return np.full((height, width, 3), LEVEL_START + LEVEL_STEP * index, np.uint8)


def frame_number(picture: np.ndarray) -> int:
    """The frame number of a decoded `level_picture`."""
    return round((float(picture.mean()) - LEVEL_START) / LEVEL_STEP)


def write_video(
    path: Path,
    times_s: Sequence[float],
    paint: Painter = level_picture,
    codec: str = "ffv1",
    pix_fmt: str = "bgr0",
    sound: bool = True,
    click_s: float | None = None,
    rate: int = 25,
    options: dict[str, str] | None = None,
) -> Path:
    """Write the pictures `paint(i)` at the given times, with quiet sound or a click in it."""
    first = paint(0)
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream(codec, rate=rate)
        video.height, video.width = first.shape[:2]
        video.pix_fmt = pix_fmt
        video.codec_context.time_base = TIME_BASE
        # PCM keeps a click sharp, but mp4 files do not hold it.
        sound_codec = "aac" if path.suffix == ".mp4" else "pcm_s16le"
        if sound:
            speech = container.add_stream(sound_codec, rate=16_000, layout="mono")
        for index, time_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(paint(index), format="rgb24")
            frame.pts, frame.time_base = round(time_s * 1000), TIME_BASE
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound:
            duration_s = times_s[-1] - times_s[0] + 1 / rate
            samples = np.zeros((1, round(16_000 * duration_s)), np.float32)
            if click_s is not None:
                samples[0, round(16_000 * click_s) :][:40] = 0.6
            if sound_codec == "pcm_s16le":
                pcm = (32767 * samples).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
            else:
                frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.time_base = 16_000, Fraction(1, 16_000)
            frame.pts = round(16_000 * times_s[0])
            container.mux(speech.encode(frame))
            container.mux(speech.encode(None))
    return path


def steady(num_frames: int, rate: float = 25, start_s: float = 0.0) -> list[float]:
    """Times of a constant frame rate."""
    return [start_s + index / rate for index in range(num_frames)]


def set_display_matrix(path: Path, abcd: tuple[int, int, int, int]) -> None:
    """Overwrite the display matrix of the first track of an mp4 file by a b 0, c d 0, 0 0 1."""
    a, b, c, d = (number << 16 for number in abcd)
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 4 + 5 * 4 + 8 + 8
    matrix = [a, b, 0, c, d, 0, 0, 0, 1 << 30]
    data[place : place + 36] = b"".join((n & 0xFFFFFFFF).to_bytes(4, "big") for n in matrix)
    path.write_bytes(data)
