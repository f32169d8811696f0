"""Shot cuts: where a recording was edited, so that a data set is one uninterrupted take.

The measure is the fraction of the picture around the head that changes from one frame to the next.
A cut changes at least a fifth of it, and is alone in doing so: a fast turn of the head lasts
several frames, a flash comes and goes. Smaller lone changes are frames that somebody lost: they are
named as jumps, but do not end a take. Dissolves are not found.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

CHANGED_LEVELS = 25
"""Difference in any channel, of 255, from which on a pixel counts as changed."""
CUT_FRACTION = 0.2
"""Fraction of changed pixels that makes a cut."""
JUMP_FRACTION = 0.1
"""Fraction of changed pixels that makes a jump."""
LONE_FACTOR = 2.0
"""How much larger the change is than that of the frames beside it."""
NEIGHBOURS = 3
"""Frames on either side that it is compared with."""
COMPARED_SIZE = 96
"""Side in pixels at which pictures are compared; hides noise and compression."""


@dataclass(frozen=True)
class Shots:
    """Where the picture changes abruptly."""

    cuts: list[int]
    """First frame of every shot but the first."""
    jumps: list[int]
    """Frames that do not follow smoothly on the one before, although the scene is the same."""


def changed_fraction(
    first: UInt8[np.ndarray, "h wd 3"],
    second: UInt8[np.ndarray, "h wd 3"],
    box: tuple[int, int, int, int] | None = None,
) -> float:
    """Fraction of a picture, or of a box x0, y0, x1, y1 in it, that differs visibly."""
    if box is not None:
        x0, y0, x1, y1 = box
        first, second = first[y0:y1, x0:x1], second[y0:y1, x0:x1]
    size = (COMPARED_SIZE, COMPARED_SIZE)
    small = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (first, second)]
    return float((cv2.absdiff(*small).max(axis=-1) > CHANGED_LEVELS).mean())


def find_shots(changes: Float64[np.ndarray, " m"], first_frame: int = 0) -> Shots:
    """Find cuts and jumps among the changed fractions of consecutive frames.

    Args:
        changes: Changed fraction between frame `first_frame + i` and the next, at position i.
        first_frame: Index of the first frame.

    Example: changes [0, 0, .5, 0] starting at frame 10 -> cut at frame 13.
    """
    cuts, jumps = [], []
    for position, change in enumerate(changes):
        if change < JUMP_FRACTION:
            continue
        before = changes[max(position - NEIGHBOURS, 0) : position]
        after = changes[position + 1 : position + 1 + NEIGHBOURS]
        if change < LONE_FACTOR * max([*before, *after], default=0.0):
            continue
        (cuts if change >= CUT_FRACTION else jumps).append(first_frame + position + 1)
    return Shots(cuts, jumps)


def split_takes(start: int, stop: int, cuts: Sequence[int]) -> list[tuple[int, int]]:
    """The uncut pieces of frames `start` to `stop` (exclusive). (0, 9, [4]) -> [(0, 4), (4, 9)]."""
    edges = [start, *(cut for cut in sorted(cuts) if start < cut < stop), stop]
    return list(zip(edges[:-1], edges[1:]))
