"""Writing the clip: H.264 and AAC in mp4, and 16 kHz wav."""

import io
import wave
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float32, UInt8

VIDEO_CRF = 20
AUDIO_RATE_HZ = 48000
AUDIO_BITS_PER_SECOND = 64000


def resample(
    samples: Float32[np.ndarray, " t"], source_hz: int, target_hz: int
) -> Float32[np.ndarray, " m"]:
    """Resample mono sound with libswresample; sample 0 stays sample 0."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=target_hz)
    frame = av.AudioFrame.from_ndarray(
        samples[None].astype(np.float32), format="flt", layout="mono"
    )
    frame.sample_rate, frame.pts = source_hz, 0
    pieces = [
        piece.to_ndarray()[0] for piece in [*resampler.resample(frame), *resampler.resample(None)]
    ]
    length = round(len(samples) * target_hz / source_hz)
    joined = np.concatenate(pieces)
    return np.pad(joined, (0, max(length - len(joined), 0)))[:length].astype(np.float32)


def write_wav(path: Path, samples: Float32[np.ndarray, " t"], sample_rate_hz: int) -> None:
    """Write mono 16-bit wav."""
    codes = np.clip(np.round(samples * 32767), -32768, 32767).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes(codes.tobytes())
    path.write_bytes(buffer.getvalue())


def write_mp4(
    path: Path,
    frames: Iterable[UInt8[np.ndarray, "h wd 3"]],
    fps: int,
    samples: Float32[np.ndarray, " t"],
    sample_rate_hz: int,
) -> None:
    """Write frames (RGB) and mono sound; both start at time 0, priming is in the edit list."""
    sound = resample(samples, sample_rate_hz, AUDIO_RATE_HZ)
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        video = container.add_stream("libx264", rate=fps)
        audio = container.add_stream("aac", rate=AUDIO_RATE_HZ)
        audio.layout = "mono"
        audio.bit_rate = AUDIO_BITS_PER_SECOND
        video.pix_fmt = "yuv420p"
        video.time_base = Fraction(1, fps)
        # One thread and no time stamps in the file: the same frames give the same bytes.
        video.options = {
            "crf": str(VIDEO_CRF), "preset": "veryslow", "tune": "animation", "threads": "1",
            "colorprim": "bt709", "transfer": "bt709", "colormatrix": "bt709",
        }  # fmt: skip
        video.codec_context.color_range = 1
        video.codec_context.colorspace = 1
        video.codec_context.color_primaries = 1
        video.codec_context.color_trc = 1
        for index, image in enumerate(frames):
            if index == 0:
                video.height, video.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for start in range(0, len(sound), 1024):
            piece = np.ascontiguousarray(sound[None, start : start + 1024])
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = AUDIO_RATE_HZ, start
            frame.time_base = Fraction(1, AUDIO_RATE_HZ)
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
