"""What a stranger's file is: looked at in a worker process, before anything is done with it.

Only a few container formats are opened at all. FFmpeg knows others that are lists of further files
and addresses, which a text file could have it read.
"""

from contextlib import suppress
from typing import Any

import av
import av.error

from gaussiantalker_ns.live.studio.projects import VIDEO_ENDINGS

CONTAINERS = {
    "matroska,webm": "webm",
    "mov,mp4,m4a,3gp,3g2,mj2": "mp4",
    "avi": "avi",
    "mpegts": "ts",
}
"""FFmpeg's names of what a video may come in -> how our file of it ends."""

SOUND_CONTAINERS = ("wav", "mp3", "ogg", "flac", "aac", "aiff")
"""What a recording of speech may come in, besides."""

LEAST_SIDE = 128
"""Pixels; smaller pictures hold no face that could be tracked."""

FILE = "The file"
"""What messages call it: where it lies on the server is nobody's business."""


def open_untrusted(path: str, formats: tuple[str, ...]) -> Any:
    """Open a media file of one of the given formats, and nothing that names other files.

    Raises:
        ValueError: It is something else.
    """
    options = {"format_whitelist": ",".join(formats), "protocol_whitelist": "file"}
    try:
        return av.open(path, options=options)
    except (av.error.FFmpegError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{FILE} is no recording that can be read; expected a video or sound file such as mp4,"
            " mov, webm or wav. Choose the recording itself, or export it again."
        ) from error


def probe_video(path: str, least_s: float, most_s: float) -> dict[str, Any]:
    """Look at a video: its container, length and size, and whether it can be decoded.

    Raises:
        ValueError: It cannot be used; the message says why.
    """
    with open_untrusted(path, tuple(CONTAINERS)) as container:
        ending = CONTAINERS.get(container.format.name)
        if ending is None or ending not in VIDEO_ENDINGS or not container.streams.video:
            raise ValueError(
                f"{FILE} has no pictures; expected a video of a person who speaks. Choose another."
            )
        if not container.streams.audio:
            raise ValueError(
                f"{FILE} has no sound; expected a video with its sound, from which the lips are"
                " learned. Record with the microphone on."
            )
        frame = first_frame(container, "picture", container.streams.video[0])
        first_frame(container, "sound", container.streams.audio[0])
        seconds = length_s(container)
    if min(frame.width, frame.height) < LEAST_SIDE:
        raise ValueError(
            f"{FILE} has pictures of {frame.width} x {frame.height} pixels; expected at least"
            f" {LEAST_SIDE} on each side. Record it larger."
        )
    if not least_s <= seconds <= most_s:
        raise ValueError(
            f"{FILE} lasts {seconds:.0f} s; expected {least_s:.0f} s to {most_s / 60:.0f} minutes."
            f" {'Record more' if seconds < least_s else 'Cut it'}, best 40 to 90 s."
        )
    return {
        "ending": ending,
        "seconds": round(seconds, 1),
        "width": frame.width,
        "height": frame.height,
    }


def probe_sound(path: str, most_s: float) -> float:
    """Look at a recording of speech; returns how long it is, in seconds.

    Raises:
        ValueError: It cannot be used; the message says why.
    """
    with open_untrusted(path, (*CONTAINERS, *SOUND_CONTAINERS)) as container:
        if not container.streams.audio:
            raise ValueError(f"{FILE} has no sound; expected a recording of speech.")
        first_frame(container, "sound", container.streams.audio[0])
        seconds = length_s(container)
    if seconds > most_s:
        raise ValueError(
            f"{FILE} lasts {seconds:.0f} s; expected at most {most_s / 60:.0f} minutes. Cut it."
        )
    return seconds


def first_frame(container: Any, what: str, stream: Any) -> Any:
    """The first frame that can be decoded.

    Raises:
        ValueError: There is none.
    """
    try:
        frame = next(container.decode(stream), None)
        container.seek(0)
    except av.error.FFmpegError:
        frame = None
    if frame is None:
        raise ValueError(
            f"{FILE} is damaged: no {what} in it can be decoded; expected a whole recording. Export"
            " or record it again."
        )
    return frame


def length_s(container: Any) -> float:
    """Length by the packets' time stamps: what a browser records states none of its own."""
    first = last = None
    # A recording that was cut off ends in half a packet; what is before it counts.
    with suppress(av.error.InvalidDataError, av.error.EOFError):
        for packet in container.demux():
            if packet.pts is None:
                continue
            begin = float(packet.pts * packet.time_base)
            end = begin + float((packet.duration or 0) * packet.time_base)
            first = begin if first is None else min(first, begin)
            last = end if last is None else max(last, end)
    return 0.0 if first is None or last is None else last - first
