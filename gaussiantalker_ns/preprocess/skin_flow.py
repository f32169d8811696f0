"""Motion of rigid skin from frame to frame, by Lucas-Kanade tracking with a backward check.

Landmarks give the absolute pose but tremble by half a pixel; the motion of skin texture is far more
exact from frame to frame and does not depend on the landmark net, which also makes it the honest
judge of a tracking.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from gaussiantalker_ns.preprocess.frame_files import default_workers, read_grey

MAX_RETURN_ERROR = 0.3  # Pixels between a point and where tracking forth and back leads.
WINDOW = 15  # Pixels.
PYRAMID_LEVELS = 3
MIN_EIGENVALUE = 1e-3  # Of the window's gradient matrix; skin without any texture is not tracked.
MAX_MOTION = 0.08  # Fraction of the picture's side that a head may move within a frame.
PAIRS_PER_CHUNK = 64
PIXEL_CENTER = 0.5  # Our coordinates put the centre of the first pixel at .5, OpenCV at 0.


@dataclass
class SkinFlow:
    """Measured motion of points on rigid skin between frames i and i + 1."""

    motion: Float32[np.ndarray, "b m 2"]
    """Displacement in pixels from frame i to i + 1, zero where not measured."""
    measured: Bool[np.ndarray, "b m"]
    """Whether the measurement passed the backward check."""


def track_pair(
    first: UInt8[np.ndarray, "h wd"],
    second: UInt8[np.ndarray, "h wd"],
    points: Float32[np.ndarray, "m 2"],
    expected: Float32[np.ndarray, "m 2"],
) -> tuple[Float32[np.ndarray, "m 2"], Bool[np.ndarray, " m"]]:
    """Track points from one grey picture to the next, starting the search at `expected`.

    Returns:
        Displacements in pixels and whether they can be trusted.
    """
    options = {
        "winSize": (WINDOW, WINDOW),
        "maxLevel": PYRAMID_LEVELS,
        "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.01),
        "minEigThreshold": MIN_EIGENVALUE,
    }
    start = np.ascontiguousarray(points - PIXEL_CENTER)[:, None]
    guess = np.ascontiguousarray(expected - PIXEL_CENTER)[:, None]
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        first, second, start, guess.copy(), flags=cv2.OPTFLOW_USE_INITIAL_FLOW, **options
    )
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(
        second, first, there, start.copy(), flags=cv2.OPTFLOW_USE_INITIAL_FLOW, **options
    )
    return_error = np.linalg.norm((back - start)[:, 0], axis=1)
    motion = (there - start)[:, 0]
    good = (found[:, 0] > 0) & (found_back[:, 0] > 0) & (return_error < MAX_RETURN_ERROR)
    good &= np.linalg.norm(motion, axis=1) < MAX_MOTION * max(first.shape)
    return motion, good


def measure_skin_flow(
    image_paths: Sequence[Path],
    pixels: Float64[np.ndarray, "b m 2"],
    valid: Bool[np.ndarray, " b"],
    num_workers: int = 0,
    progress: Callable[[int], None] | None = None,
) -> SkinFlow:
    """Measure the motion of points on the head between all neighbouring frames.

    Args:
        image_paths: The frames; their grey values are decoded a few at a time.
        pixels: Where the points are in every frame by the tracking so far.
        valid: Frames in which the head was found; pairs with another frame are not measured.
        num_workers: Threads; 0 takes one per core, at most 4.
        progress: Called with the number of pairs done.
    """
    num_pairs = len(image_paths) - 1
    starts = pixels.astype(np.float32)
    motion = np.zeros((num_pairs, pixels.shape[1], 2), np.float32)
    measured = np.zeros(motion.shape[:2], bool)

    def measure(pairs: range) -> None:
        second = None
        for pair in pairs:
            if not (valid[pair] and valid[pair + 1]):
                second = None
                continue
            first = second if second is not None else read_grey(image_paths[pair])
            second = read_grey(image_paths[pair + 1])
            motion[pair], measured[pair] = track_pair(first, second, starts[pair], starts[pair + 1])

    chunks = [
        range(i, min(i + PAIRS_PER_CHUNK, num_pairs)) for i in range(0, num_pairs, PAIRS_PER_CHUNK)
    ]
    with ThreadPoolExecutor(default_workers(num_workers)) as pool:
        for chunk, _ in zip(chunks, pool.map(measure, chunks)):
            if progress:
                progress(chunk.stop)
    motion[~measured] = 0
    return SkinFlow(motion, measured)
