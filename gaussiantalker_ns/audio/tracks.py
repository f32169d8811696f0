"""Choice of the sound: which track of a file is heard, and which of its channels."""

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from jaxtyping import Float32, Float64

from gaussiantalker_ns.audio.decode import decode_audio
from gaussiantalker_ns.audio.loudness import SILENCE_DBFS
from gaussiantalker_ns.timebase import SAMPLE_RATE_HZ

QUIETER_DB = 20.0
"""A track this much quieter than the loudest one is not taken, whatever its flags say."""

EXTRA = (
    Disposition.comment
    | Disposition.visual_impaired
    | Disposition.hearing_impaired
    | Disposition.karaoke
)
"""Flags of tracks that are rarely meant: commentary, descriptions, music."""

CANCELLED = 0.25
"""Energy of the summed channels over the sum of their energies below which they cancel each other:
1 for channels that have nothing in common, 0 for two of opposite phase."""


@dataclass(frozen=True)
class TrackChoice:
    """The audio track that is heard."""

    number: int
    """From 1, in the order of the file."""
    notices: list[str]
    """What was chosen, for the user; empty where there is one track only."""


def choose_track(container: InputContainer, path: Path, wanted: int | None = None) -> TrackChoice:
    """Choose an audio track: the wanted one, else by what is in them and by their flags.

    Of the tracks that are about as loud as the loudest one the default one is taken, then the first
    that is no commentary or description.

    Args:
        container: The open file; it is not decoded.
        path: Its path; files with several tracks are decoded once for each.
        wanted: Number of the track that the user asks for, from 1.

    Raises:
        ValueError: the file has no audio, or not the wanted track.
    """
    streams = container.streams.audio
    if not streams:
        raise ValueError(
            f"{path} has no audio stream; expected one. Choose a recording with sound, or"
            " mux the sound into it first."
        )
    if wanted is not None:
        if not 1 <= wanted <= len(streams):
            raise ValueError(
                f"--audio-track is {wanted}, but {path} has {len(streams)} audio track(s); expected"
                f" a number from 1 to {len(streams)}."
            )
        return TrackChoice(wanted, [])
    if len(streams) == 1:
        return TrackChoice(1, [])
    levels = [track_level(path, number) for number in range(1, len(streams) + 1)]
    flags = [stream.disposition for stream in streams]
    loud = [k for k, db in enumerate(levels) if db > max(SILENCE_DBFS, max(levels) - QUIETER_DB)]
    order = sorted(
        loud or range(len(levels)),
        key=lambda k: (not flags[k] & Disposition.default, bool(flags[k] & EXTRA), k),
    )
    described = ", ".join(
        f"{k + 1} ({'silent' if db <= SILENCE_DBFS else f'{db:.0f} dB'}"
        f"{', default' if flags[k] & Disposition.default else ''})"
        for k, db in enumerate(levels)
    )
    notice = (
        f"{path.name} has {len(levels)} audio tracks: {described}. Track {order[0] + 1} is used; "
        "choose another one with --audio-track."
    )
    return TrackChoice(order[0] + 1, [notice])


def track_level(path: Path, number: int) -> float:
    """Level in dBFS of the louder moments of a track (95th percentile), in its loudest channel."""
    with av.open(str(path)) as container:
        powers = [
            float(np.mean(piece.astype(np.float64) ** 2, axis=1).max())
            for _, piece in decode_audio(container, SAMPLE_RATE_HZ, track=number)
            if piece.size
        ]
    loud = float(np.percentile(powers, 95)) if powers else 0.0
    return 10.0 * np.log10(loud + 1e-12)


def sharp_energy(piece: Float32[np.ndarray, "c m"]) -> Float64[np.ndarray, "c c"]:
    """Energy of the channels with each other, of their steps: so that hum counts for little."""
    steps = np.diff(piece.astype(np.float64), axis=1)
    return steps @ steps.T


def choose_channel(energy: Float64[np.ndarray, "c c"]) -> int | None:
    """The channel to take alone where the mean of all would be next to nothing; None elsewhere.

    Example: [[1, -1], [-1, 1]] gives 0; [[1, 1], [1, 1]] and [[1, 0], [0, 0]] give None.
    """
    alone = float(np.trace(energy))
    # Written so that sound with samples that are not numbers chooses nothing.
    if len(energy) > 1 and float(energy.sum()) < CANCELLED * alone:
        return int(np.argmax(np.diag(energy)))
    return None


def cancellation_notice(path: Path, channel: int) -> str:
    """What is said of channels that cancel each other."""
    return (
        f"The channels of {path.name} cancel each other (opposite phase); channel {channel + 1} is "
        "used alone."
    )
