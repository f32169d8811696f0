"""Fragmented MP4: sound and pictures as a stream of bytes that a browser's MediaSource plays.

One unit is a picture with its 40 ms of sound. Time stamps count the units that are written, so that
a stream whose reader was slow has no gap.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import Literal

import av
import numpy as np
from av.audio.stream import AudioStream
from jaxtyping import Int16, UInt8

from gaussiantalker_ns.live.sessions.intake import RATE_HZ, SAMPLES_PER_PICTURE
from gaussiantalker_ns.timebase import FPS

SoundCodec = Literal["opus", "aac"]

ENCODERS = {"opus": "libopus", "aac": "aac"}

KEY_INTERVAL = 50
"""Pictures from one that can be shown alone to the next."""

MIME_TYPES = {
    "opus": 'video/mp4; codecs="avc1.42c01e,opus"',
    "aac": 'video/mp4; codecs="avc1.42c01e,mp4a.40.2"',
}
"""What MediaSource is told."""

MOVFLAGS = "+empty_moov+default_base_moof+frag_every_frame+dash+use_metadata_tags"


class _Sink:
    """A file that collects what is written; it cannot be searched, as a network cannot."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, piece: bytes) -> int:
        """Take some bytes."""
        self._parts.append(bytes(piece))
        return len(piece)

    def seekable(self) -> bool:
        """Say that bytes are final."""
        return False

    def take(self) -> bytes:
        """Return what has come since the last time."""
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


class FragmentWriter:
    """Encodes units and returns the bytes of each."""

    def __init__(self, size: int, sound: SoundCodec, metadata: dict[str, str]) -> None:
        """Begin a stream.

        Args:
            size: Side of the pictures in pixels, even.
            sound: How the sound is encoded; Opus has less delay, AAC plays in more places.
            metadata: Tags of the file, such as the synthetic-media mark.
        """
        self._sink = _Sink()
        options = {"movflags": MOVFLAGS, "flush_packets": "1"}
        self._container = av.open(self._sink, "w", format="mp4", options=options)
        self._container.metadata.update(metadata)
        options = {"preset": "veryfast", "tune": "zerolatency", "profile": "baseline", "crf": "20"}
        video = self._container.add_stream("libx264", rate=FPS, options=options)
        assert isinstance(video, av.VideoStream)
        video.width = video.height = size
        video.pix_fmt = "yuv420p"
        video.codec_context.gop_size = KEY_INTERVAL
        video.codec_context.max_b_frames = 0
        video.codec_context.thread_count = 1
        self._video = video
        audio = self._container.add_stream(ENCODERS[sound], rate=RATE_HZ)
        assert isinstance(audio, AudioStream)
        audio.layout = "mono"
        audio.format = "s16" if sound == "opus" else "fltp"
        self._audio, self._sound = audio, sound
        self._number = 0

    def write(
        self, picture: UInt8[np.ndarray, "h wd 3"], samples: Int16[np.ndarray, " m"]
    ) -> bytes:
        """Append a unit and return the bytes that are complete."""
        assert len(samples) == SAMPLES_PER_PICTURE, "a unit is a frame"
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = self._number, Fraction(1, FPS)
        self._container.mux(self._video.encode(frame))
        for piece in self._sound_frames(samples):
            self._container.mux(self._audio.encode(piece))
        self._number += 1
        return self._sink.take()

    def _sound_frames(self, samples: Int16[np.ndarray, " m"]) -> Iterator[av.AudioFrame]:
        values = samples if self._sound == "opus" else samples.astype(np.float32) / 32768.0
        layout = "s16" if self._sound == "opus" else "fltp"
        frame = av.AudioFrame.from_ndarray(values[None], format=layout, layout="mono")
        frame.sample_rate = RATE_HZ
        frame.pts = self._number * SAMPLES_PER_PICTURE
        frame.time_base = Fraction(1, RATE_HZ)
        yield frame

    def close(self) -> bytes:
        """End the stream and return its last bytes."""
        self._container.mux(self._video.encode(None))
        self._container.mux(self._audio.encode(None))
        self._container.close()
        return self._sink.take()
