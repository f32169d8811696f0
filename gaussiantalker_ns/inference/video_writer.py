"""Video files with sound: frames become segments, segments and audio become one file.

A long job writes segments of fixed length. A finished segment is a file under its final name, so an
interrupted job goes on after the last one, and the assembled file does not depend on interruptions:
segments are encoded apart from each other and their packets are copied.
"""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from jaxtyping import Float32, UInt8

from gaussiantalker_ns.audio.decode import decode_audio
from gaussiantalker_ns.audio.tracks import choose_track
from gaussiantalker_ns.timebase import FPS

AAC_BLOCK = 1024
"""Samples in one AAC frame."""

AUDIO_RATE_HZ = 48_000

FRAMES_WAITING = 8
"""Frames that may wait for an encoder's thread."""


@dataclass(frozen=True)
class VideoFormat:
    """How the frames of one kind of file are encoded."""

    codec: str
    pixel_format: str
    options: dict[str, str] = field(default_factory=dict)
    has_alpha: bool = False


FORMATS = {
    ".mp4": VideoFormat("libx264", "yuv420p", {"crf": "17", "preset": "veryfast"}),
    ".mov": VideoFormat("prores_ks", "yuva444p10le", {"profile": "4444"}, has_alpha=True),
}
"""File suffix -> encoding. mp4 plays everywhere; mov (ProRes 4444) keeps the alpha channel."""


def format_of(path: Path) -> VideoFormat:
    """Choose the encoding by the file's suffix.

    Raises:
        ValueError: If the suffix names no format that is written here.
    """
    if path.suffix.lower() not in FORMATS:
        raise ValueError(
            f"{path} ends in {path.suffix or 'no suffix'!r}; expected {' or '.join(FORMATS)}."
            " Choose an output file with one of these endings."
        )
    return FORMATS[path.suffix.lower()]


class SegmentWriter:
    """Encodes frames into one silent video file, which appears under its name only when complete.

    Use it as a context manager; an exception inside leaves nothing under the final name.
    """

    def __init__(self, path: Path, width: int, height: int, in_thread: bool = False):
        """Open the file.

        Args:
            path: Where the file will be; its suffix chooses the encoding.
            width, height: Size of the frames in pixels, even.
            in_thread: Encode in a thread of its own, while the next frames are made. What fails
                there is raised by a later `write`, or at the end.
        """
        self._path = path
        self._partial = path.with_name(f".partial-{path.name}")
        video_format = format_of(path)
        if width % 2 or height % 2:
            raise ValueError(
                f"A frame of {width}x{height} pixels cannot be encoded for {path}; H.264 wants even"
                " sizes. Choose an even --size."
            )
        self._channels = "rgba" if video_format.has_alpha else "rgb24"
        self._container = av.open(str(self._partial), "w")
        stream = self._container.add_stream(
            video_format.codec, rate=FPS, options=dict(video_format.options)
        )
        assert isinstance(stream, av.VideoStream)
        self._stream = stream
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = video_format.pixel_format
        self._stream.codec_context.thread_count = 1
        self._next = 0
        self._thread = ThreadPoolExecutor(1, "encoder") if in_thread else None
        self._waiting: deque[Future[None]] = deque()

    def write(self, frame: UInt8[np.ndarray, "h wd c"]) -> None:
        """Append one frame, RGB for mp4 and RGBA for mov."""
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=self._channels)
        picture.pts = self._next
        picture.time_base = Fraction(1, FPS)
        self._next += 1
        if self._thread is None:
            self._encode(picture)
            return
        if len(self._waiting) == FRAMES_WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._encode, picture))

    def _encode(self, picture: av.VideoFrame | None) -> None:
        self._container.mux(self._stream.encode(picture))

    def __enter__(self) -> "SegmentWriter":
        return self

    def __exit__(self, exception_type, exception, traceback) -> None:
        try:
            if self._thread is not None:
                self._thread.shutdown(cancel_futures=exception_type is not None)
            if exception_type is None:
                for encoded in self._waiting:
                    encoded.result()
                self._encode(None)
            self._container.close()
            if exception_type is None:
                os.replace(self._partial, self._path)
        finally:
            self._partial.unlink(missing_ok=True)


@dataclass(frozen=True)
class AudioTrack:
    """The part of an audio file that a video plays."""

    path: Path
    start_s: float = 0.0
    """Where the video begins, in seconds from the first decoded sample; silence if negative."""
    number: int | None = None
    """Number of the track in the file, from 1; None takes the one that `read_audio` takes."""


def _whole_audio(sound: AudioTrack) -> Iterator[Float32[np.ndarray, "2 m"]]:
    """Yield stereo samples at 48 kHz from the first decoded one on, gaps filled with silence."""
    first_s = stretch_s = None
    position = 0
    with av.open(str(sound.path)) as container:
        number = choose_track(container, sound.path, sound.number).number
        for start_s, piece in decode_audio(container, AUDIO_RATE_HZ, "stereo", number):
            first_s = start_s if first_s is None else first_s
            missing = round((start_s - first_s) * AUDIO_RATE_HZ) - position
            if start_s != stretch_s and missing > 0:
                yield np.zeros((2, missing), np.float32)
                position += missing
            stretch_s = start_s
            yield piece
            position += piece.shape[1]


def _blocks(sound: AudioTrack, num_samples: int) -> Iterator[Float32[np.ndarray, "2 m"]]:
    """Yield exactly `num_samples` stereo samples at 48 kHz; silence after the end."""
    skip = round(sound.start_s * AUDIO_RATE_HZ)
    left = num_samples
    if skip < 0:
        lead = min(-skip, left)
        skip, left = 0, left - lead
        yield np.zeros((2, lead), np.float32)
    for samples in _whole_audio(sound):
        block = samples[:, skip : skip + left]
        skip = max(0, skip - samples.shape[1])
        left -= block.shape[1]
        if block.shape[1]:
            yield block
        if left == 0:
            return
    while left > 0:
        block = np.zeros((2, min(left, AUDIO_RATE_HZ)), np.float32)
        left -= block.shape[1]
        yield block


def _audio_packets(stream: AudioStream, sound: AudioTrack, num_samples: int) -> Iterator:
    """Encode the sound track; packets come in order of time."""
    position = 0
    rest = np.zeros((2, 0), np.float32)
    for block in _blocks(sound, num_samples):
        rest = np.concatenate([rest, block], axis=1)
        whole = rest.shape[1] // AAC_BLOCK * AAC_BLOCK
        if position + rest.shape[1] == num_samples:
            whole = rest.shape[1]
        for start in range(0, whole, AAC_BLOCK):
            piece = np.ascontiguousarray(rest[:, start : min(start + AAC_BLOCK, whole)])
            frame = AudioFrame.from_ndarray(piece, format="fltp", layout="stereo")
            frame.sample_rate = AUDIO_RATE_HZ
            frame.pts = position
            frame.time_base = Fraction(1, AUDIO_RATE_HZ)
            position += piece.shape[1]
            yield from stream.encode(frame)
        rest = rest[:, whole:]
    yield from stream.encode(None)


def _video_packets(stream: av.VideoStream, segments: list[Path]) -> Iterator:
    """Copy the packets of every segment, each shifted behind the one before."""
    first_frame = 0
    for segment in segments:
        with av.open(str(segment)) as container:
            source = container.streams.video[0]
            shift = round(first_frame / FPS / source.time_base)
            num_frames = 0
            for packet in container.demux(source):
                if packet.dts is None:
                    continue
                packet.pts += shift
                packet.dts += shift
                packet.stream = stream
                num_frames += 1
                yield packet
            first_frame += num_frames


def assemble(
    segments: list[Path],
    output: Path,
    sound: AudioTrack | None,
    num_frames: int,
    metadata: dict[str, str] | None = None,
) -> None:
    """Join silent segments and a sound track into `output`, without encoding the pictures again.

    The sound lasts exactly as long as the pictures, `num_frames / 25` seconds: it is cut, or filled
    with silence.

    Args:
        segments: Files of `SegmentWriter`, all of one size, in order.
        output: Where the file appears when it is complete; its suffix is that of the segments.
        sound: The audio; None makes a silent file.
        num_frames: Number of frames in all segments together.
        metadata: Written into the file's header.
    """
    partial = output.with_name(f".partial-{output.name}")
    try:
        _join(segments, partial, sound, num_frames, metadata or {})
        os.replace(partial, output)
    finally:
        partial.unlink(missing_ok=True)


def _join(
    segments: list[Path],
    path: Path,
    sound: AudioTrack | None,
    num_frames: int,
    metadata: dict[str, str],
) -> None:
    """Write the file of `assemble`, packets of both streams in order of time."""
    options = {"movflags": "+faststart+use_metadata_tags"}
    with (
        av.open(str(segments[0])) as template,
        av.open(str(path), "w", options=options) as container,
    ):
        container.metadata.update(metadata)
        video = container.add_stream_from_template(template.streams.video[0])
        audio_packets: Iterator = iter(())
        if sound is not None:
            audio = container.add_stream("aac", rate=AUDIO_RATE_HZ, options={"b": "128k"})
            audio.layout = "stereo"
            num_samples = round(num_frames / FPS * AUDIO_RATE_HZ)
            audio_packets = _audio_packets(audio, sound, num_samples)
        waiting = next(audio_packets, None)
        for packet in _video_packets(video, segments):
            now = float(packet.dts * packet.time_base)
            while waiting is not None and float(waiting.pts * waiting.time_base) <= now:
                container.mux(waiting)
                waiting = next(audio_packets, None)
            container.mux(packet)
        while waiting is not None:
            container.mux(waiting)
            waiting = next(audio_packets, None)
