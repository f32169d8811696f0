"""Frames outside the scene: black leads and ends, fades and titles, which show nobody.

The scene is what the frames with a face have in common. A frame without a face that shows the same
surroundings (the person has left for a moment) belongs to it; a title card does not, nor do the
frames of a fade between the two, although a face may be found in some of them.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Bool, Float64
from scipy.ndimage import maximum_filter1d

from gaussiantalker_ns.preprocess.video.scan import THUMB_SIDE, Scan
from gaussiantalker_ns.timebase import spans

BESIDE, ABOVE = 0.9, 0.6
"""Around the face boxes, in face sides, lies the person; what is further away is surroundings."""
LEAST_SURROUNDINGS = 0.08
"""Fraction of the picture below which there are too few surroundings: all of it is compared."""
BLANK_SPREAD = 4.0
"""Standard deviation of the grey levels (0 to 255) below which a picture is empty."""
OTHER_LEVELS = 12.0
"""Mean difference of the surroundings, in 8-bit steps, that makes another scene."""
SAME_LEVELS, SAME_CONTRAST = 2.0, 0.05
"""Mean difference of the surroundings, and relative one of the contrast, that scenes may have."""
SPREADS = 5.0
"""Both tolerances are at least this many median deviations of the frames with a face."""
FADED_CONTRAST = 0.5
"""Fraction of the usual contrast below which a frame is faded, even if a face is found in it."""
LONGEST_FADE = 75
"""Frames beside a blank or strange one that may belong to a fade."""
PAD = 2
"""Frames beside what is left out that go with it: a fade ends softly."""


def surroundings(scan: Scan, first: int, last: int) -> Bool[np.ndarray, "t t"]:
    """Where the thumbnails of a take show no part of a person with a face."""
    width, height = scan.size
    person = np.zeros((THUMB_SIDE, THUMB_SIDE), bool)
    for boxes in scan.faces_between(first, last):
        for x0, y0, x1, y1 in boxes:
            side = max(x1 - x0, y1 - y0)
            left, right = np.clip([x0 - BESIDE * side, x1 + BESIDE * side], 0, width) / width
            top = max(y0 - ABOVE * side, 0) / height
            rows = slice(int(THUMB_SIDE * top), None)
            person[rows, int(THUMB_SIDE * left) : math.ceil(THUMB_SIDE * right)] = True
    outside = ~person
    return outside if outside.mean() >= LEAST_SURROUNDINGS else np.ones_like(person)


def tolerance(values: Float64[np.ndarray, " m"], least: float) -> float:
    """What may be usual: some median deviations around the median of usual frames."""
    return max(least, SPREADS * float(np.median(np.abs(values - np.median(values)))))


def outside_scene(scan: Scan, first: int, last: int) -> Bool[np.ndarray, " b"]:
    """Which frames of a take (`last` exclusive) are blank, faded or of another scene.

    All are inside where no face was found, or where nothing stands out.
    """
    searched = [frame - first for frame in scan.faces if first <= frame < last]
    seen = [frame for frame in searched if scan.faces[frame + first]]
    outside = np.zeros(last - first, bool)
    if not seen:
        return outside
    thumbs = scan.thumbs[first - scan.start : last - scan.start]
    scene = np.median(thumbs[seen], axis=0)
    around = surroundings(scan, first, last)
    difference = np.abs(thumbs[:, around].astype(np.float64) - scene[around]).mean(axis=(1, 2))
    contrast = np.array(
        [float(cv2.cvtColor(thumb, cv2.COLOR_RGB2GRAY).std()) for thumb in thumbs], np.float64
    )
    usual, usual_contrast = np.median(difference[seen]), np.median(contrast[seen])
    same = tolerance(difference[seen], SAME_LEVELS)
    other = difference > usual + max(OTHER_LEVELS, 3.0 * same)
    faceless = np.zeros_like(outside)
    faceless[searched] = True
    faceless[seen] = False
    start = (other & faceless) | (other & (contrast < FADED_CONTRAST * usual_contrast))
    start |= (contrast < BLANK_SPREAD) & (contrast < FADED_CONTRAST * usual_contrast)
    change = np.abs(contrast - usual_contrast)
    strange = difference > usual + same
    strange |= change > tolerance(contrast[seen], SAME_CONTRAST * float(usual_contrast))
    near = maximum_filter1d(start.astype(np.uint8), 2 * LONGEST_FADE + 1) > 0
    for begin, end in spans(np.flatnonzero((strange & near) | start).tolist(), 1):
        if start[begin : end + 1].any():
            outside[max(begin - PAD, 0) : end + 1 + PAD] = True
    return outside


def scenes_of(
    take: tuple[int, int], outside: Callable[[int, int], Bool[np.ndarray, " b"]]
) -> list[tuple[int, int]]:
    """The parts of a take, as first frame and frame behind the last one, that lie inside the scene.

    Example: a take (10, 20) whose first three frames are outside gives [(13, 20)].
    """
    inside = np.flatnonzero(~outside(*take)) + take[0]
    return [(begin, end + 1) for begin, end in spans(inside.tolist(), 1)]
