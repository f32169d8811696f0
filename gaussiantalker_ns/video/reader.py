"""Video reader: the frames of any video at the constant rate of a data set.

Grid frame i is the picture shown nearest to `t0 + i / 25` seconds, where t0 is the presentation
time of the first decoded picture. So constant and variable frame rates of any value come out at 25
frames a second, without drift, and one picture at a time: memory does not grow with the length.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import av.container
import av.error
import av.filter
import av.stream
import numpy as np
from jaxtyping import UInt8

from gaussiantalker_ns.timebase import FPS
from gaussiantalker_ns.video.orientation import orientation_of
from gaussiantalker_ns.video.tone_mapping import TRANSFERS, tone_mapper

LONGEST_HOLD_S = 30.0
"""A picture shown longer than this is a fault of the time stamps, not a variable frame rate."""

END_TOLERANCE_S = 1.0
"""A stream that ends this much before its declared end is cut off."""

DEFAULT_RATE = Fraction(25)


@dataclass
class ConstantFpsReader:
    """Reads one video; iterate over it with `frames`, as often as needed."""

    path: Path
    width: int = field(init=False)
    """Width of the upright picture with square pixels."""
    height: int = field(init=False)
    """Height of the upright picture."""
    source_fps: float = field(init=False)
    """Mean frame rate that the file declares."""
    t0: float = field(init=False)
    """Presentation time of the first picture in seconds."""
    declared_duration_s: float | None = field(init=False)
    """Duration of the pictures by the file's own account, if it has one."""
    transfer: str | None = field(init=False)
    """Name of the transfer function of a video of high dynamic range, which is tone-mapped."""
    interlaced: bool = field(init=False)
    """Whether pictures seen so far were interlaced; they are deinterlaced."""

    def __post_init__(self) -> None:
        """Open the file once to learn its geometry and start.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no video, has no pictures or none that can be decoded.
        """
        self.path = Path(self.path)
        if not self.path.is_file():
            raise FileNotFoundError(
                f"No video at {self.path}; expected an existing file. Check the path."
            )
        try:
            with av.open(str(self.path)) as container:
                stream = video_stream(container, self.path)
                frame = next(container.decode(stream), None)
                self.declared_duration_s = declared_duration(container, stream)
                self.source_fps = float(stream.average_rate or DEFAULT_RATE)
                aspect = stream.sample_aspect_ratio or Fraction(1)
        except av.error.FFmpegError as error:
            raise ValueError(
                f"{self.path} cannot be read as a video ({error.strerror or error}); expected a "
                "recording in a common format such as mp4, mov, mkv or webm. The file may be no "
                "video, damaged or cut short: copy or export it again."
            ) from error
        if frame is None:
            raise ValueError(
                f"{self.path} has a video stream without a single picture that can be decoded; "
                "expected a recording. Copy or export it again."
            )
        self.t0 = frame.time or 0.0
        self.transfer = TRANSFERS.get(int(frame.color_trc))
        self.interlaced = frame.interlaced_frame
        self.height, self.width = upright_size(frame, aspect)

    def frames(
        self, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield the index and picture of grid frames `start` to `stop` (exclusive).

        A picture may be yielded more than once, where the source has fewer than 25 a second.

        Raises:
            ValueError: decoding fails before `stop`, or the time stamps jump.
        """
        index = 0
        shown: av.VideoFrame | None = None
        shown_s = length_s = 0.0
        for frame, time_s, duration_s in self._timed_frames():
            if shown is not None:
                if time_s - shown_s > LONGEST_HOLD_S:
                    raise ValueError(
                        f"The time stamps of {self.path} jump from {shown_s:.1f} s to {time_s:.1f} "
                        "s; expected a continuous recording. Export it again, or process one part "
                        "with --start and --end."
                    )
                # The picture before is the nearest one up to the middle of the two times.
                while index / FPS < (shown_s + time_s) / 2:
                    if stop is not None and index >= stop:
                        return
                    if index >= start:
                        yield index, shown
                    index += 1
            shown, shown_s, length_s = frame, time_s, duration_s
        while shown is not None and index / FPS < shown_s + length_s - 0.5 / FPS:
            if stop is not None and index >= stop:
                return
            if index >= start:
                yield index, shown
            index += 1
        self._check_end(index / FPS)

    def _timed_frames(self) -> Iterator[tuple[av.VideoFrame, float, float]]:
        """Yield the pictures with their time since t0 and duration in seconds, times rising."""
        last_s, count = -1.0, 0
        with av.open(str(self.path)) as container:
            stream = video_stream(container, self.path)
            stream.thread_type = "AUTO"
            interval_s = float(1 / (stream.average_rate or DEFAULT_RATE))
            try:
                for frame in self._progressive(container.decode(stream)):
                    time_s = count * interval_s if frame.time is None else frame.time - self.t0
                    count += 1
                    if time_s <= last_s:
                        continue
                    last_s = time_s
                    yield frame, time_s, interval_s
            except av.error.FFmpegError as error:
                raise ValueError(
                    f"{self.path} cannot be decoded after {max(last_s, 0):.1f} s "
                    f"({error.strerror or error}); expected a whole recording. Copy or export it "
                    f"again, or use what is there with --end {max(last_s - 0.5, 0):.1f}."
                ) from error

    def _progressive(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """Deinterlace from the first picture on that is flagged as interlaced."""
        graph = None
        for frame in frames:
            if graph is None and frame.interlaced_frame:
                self.interlaced = True
                graph = deinterlacer(frame)
            if graph is None:
                yield frame
            else:
                graph.vpush(frame)
                yield from pulled(graph)
        if graph is not None:
            graph.vpush(None)
            yield from pulled(graph)

    def notices(self) -> list[str]:
        """What was done to the pictures, in sentences for the user."""
        said = []
        if self.transfer is not None:
            said.append(
                f"The video has high dynamic range ({self.transfer}); it was tone-mapped to BT.709."
            )
        if self.interlaced:
            said.append("The video is interlaced; it was deinterlaced.")
        return said

    def _check_end(self, decoded_s: float) -> None:
        declared_s = self.declared_duration_s
        if declared_s is not None and decoded_s < declared_s - END_TOLERANCE_S:
            raise ValueError(
                f"{self.path} is cut short: it declares {declared_s:.1f} s of pictures, but only "
                f"{decoded_s:.1f} s are there. Copy or export it again, or use what is there with "
                f"--end {max(decoded_s - 0.5, 0):.1f}."
            )


def deinterlacer(frame: av.VideoFrame) -> av.filter.Graph:
    """FFmpeg's `bwdif` for pictures like this one: one picture out for each that goes in.

    Pictures that are not flagged as interlaced pass through unchanged.
    """
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(template=frame),  # pyright: ignore[reportArgumentType]
        graph.add("bwdif", mode="send_frame", parity="auto", deint="interlaced"),
        graph.add("buffersink"),
    ).configure()
    return graph


def pulled(graph: av.filter.Graph) -> Iterator[av.VideoFrame]:
    """Everything that a graph of filters has ready."""
    while True:
        try:
            yield graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return


def video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """Return the first stream of moving pictures (the cover picture of a song is none).

    Raises:
        ValueError: the file has only other streams.
    """
    cover = av.stream.Disposition.attached_pic
    for stream in container.streams.video:
        if not stream.disposition & cover:
            return stream
    kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "none"
    raise ValueError(
        f"{path} has no video stream (streams found: {kinds}); expected a recording of a speaking "
        "person. Choose the video file, not its sound."
    )


def declared_duration(
    container: av.container.InputContainer, stream: av.VideoStream
) -> float | None:
    """Duration in seconds that the stream declares, else the container where it has no sound."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and not container.streams.audio:
        return container.duration / av.time_base
    return None


def upright_size(frame: av.VideoFrame, aspect: Fraction) -> tuple[int, int]:
    """Height and width of the picture as it is meant to be seen, from its stored pixels' aspect."""
    width, height = orientation_of(frame).size(round(frame.width * aspect), frame.height)
    return height, width


def upright_rgb(
    frame: av.VideoFrame, height: int, width: int
) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """Convert a picture to 8-bit RGB, upright, at the given size, as its flags say.

    Raises:
        ValueError: its colour matrix is one that FFmpeg cannot convert.
    """
    orientation = orientation_of(frame)
    stored_width, stored_height = orientation.size(width, height)
    transfer = TRANSFERS.get(int(frame.color_trc))
    shrinks = stored_height < frame.height
    try:
        converted = frame.reformat(
            width=stored_width,
            height=stored_height,
            format="rgb24" if transfer is None else "rgb48le",
            interpolation="AREA" if shrinks else "BICUBIC",
        )
    except av.error.FFmpegError as error:
        raise ValueError(
            f"The video's colour matrix (number {int(frame.colorspace)}, pixels "
            f"{frame.format.name}) cannot be converted; expected a common one such as BT.709. "
            "Export the video again as H.264 or H.265 with 8 bits."
        ) from error
    if transfer is None:
        return orientation.upright(converted.to_ndarray())
    return orientation.upright(tone_mapper(transfer, stored_width, stored_height)(converted))
