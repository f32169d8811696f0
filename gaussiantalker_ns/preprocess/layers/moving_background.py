"""Step 5a': backgrounds of periods, for backgrounds that move or change during the take.

One background for the whole take blurs what moves: a camera that creeps, a drifting set, light that
changes. The take is cut into windows of two seconds; neighbouring windows whose backgrounds agree
make a period, and every period gets a background of its own. A still camera leaves one period.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8

from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.face.landmarker import Landmarks
from gaussiantalker_ns.files import ordered_map, write_image
from gaussiantalker_ns.preprocess.layers.background import background_of, masked_median
from gaussiantalker_ns.preprocess.segmentation.base import JPEG_OPTIONS

WINDOW_FRAMES = 50
"""Frames of a window."""

FRAME_STEP = 5
"""Every fifth frame is looked at to find the periods."""

REDUCTION = 4
"""Backgrounds are compared at this fraction of the size: noise averages out, motion does not."""

SAME_BACKGROUND_RMS = 1.5
"""Largest root mean square difference, in 8-bit steps, of windows that share a period."""

MAX_PERIODS = 24
"""A camera that never rests would give a background every window; the threshold rises instead."""

FRAMES_PER_BACKGROUND = 24
"""Frames whose median makes a period's background."""


@dataclass
class BackgroundView:
    """What a frame, or a window of frames, shows of the background at the reduced size."""

    image: Float32[np.ndarray, "h wd 3"]
    seen: Bool[np.ndarray, "h wd"]

    def difference(self, other: "BackgroundView") -> float:
        """Root mean square difference where both see the background; 0 where that is nowhere."""
        both = self.seen & other.seen
        return float(np.sqrt(np.mean((self.image - other.image)[both] ** 2))) if both.any() else 0.0


@dataclass
class TimeVaryingBackground:
    """Backgrounds, and the background that belongs behind every frame."""

    backgrounds: list[UInt8[np.ndarray, "h wd 3"]]
    """One RGB picture per period, in order of time."""
    of_frame: Int32[np.ndarray, " n"]
    """Index of each frame's background."""


def background_view(dataset: DatasetLayout, frame: int) -> BackgroundView:
    """The background of one frame at the reduced size."""
    image, seen = background_of(dataset, frame)
    size = max(image.shape[1] // REDUCTION, 1), max(image.shape[0] // REDUCTION, 1)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    fraction = cv2.resize(seen.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return BackgroundView(small, fraction > 0.99)


def unseen(dataset: DatasetLayout) -> BackgroundView:
    """What frames without a face tell: nothing."""
    view = background_view(dataset, 0)
    return BackgroundView(view.image, np.zeros_like(view.seen))


def mean_view(views: Sequence[BackgroundView]) -> BackgroundView:
    """The mean of several views over the frames in which a pixel is seen."""
    weights = np.stack([view.seen for view in views]).astype(np.float32)[..., None]
    total = (np.stack([view.image for view in views]) * weights).sum(axis=0)
    count = weights.sum(axis=0)
    return BackgroundView(total / np.maximum(count, 1.0), count[..., 0] > 0)


def starts_of_periods(windows: Sequence[BackgroundView]) -> list[int]:
    """Indices of the windows with which a period begins.

    Example: three windows of which the last one shows another background give [0, 2].
    """
    threshold = SAME_BACKGROUND_RMS
    while True:
        starts = [0]
        for index, window in enumerate(windows):
            if window.difference(windows[starts[-1]]) > threshold:
                starts.append(index)
        if len(starts) <= MAX_PERIODS:
            return starts
        threshold *= 1.5


def period_background(
    dataset: DatasetLayout, frames: Sequence[int], whole: UInt8[np.ndarray, "h wd 3"]
) -> UInt8[np.ndarray, "h wd 3"]:
    """The median background of some frames; what they never show comes from the whole take."""
    if not frames:
        return whole
    places = np.unique(np.linspace(0, len(frames) - 1, FRAMES_PER_BACKGROUND).astype(int))
    images, seen = zip(*(background_of(dataset, frames[place]) for place in places))
    median, known = masked_median(np.stack(images), np.stack(seen))
    return np.where(known[..., None], np.round(median), whole).astype(np.uint8)


def time_varying_background(
    dataset: DatasetLayout,
    landmarks: Landmarks,
    whole: UInt8[np.ndarray, "h wd 3"],
    num_workers: int,
) -> TimeVaryingBackground:
    """Find the periods of a take and make their backgrounds.

    Args:
        dataset: Where frames and label images are read.
        landmarks: Tell which frames show a face; the others say nothing about backgrounds.
        whole: The background of the whole take.
        num_workers: Threads.
    """

    telling, num_frames = landmarks.typical, len(landmarks.valid)

    def window(first: int) -> BackgroundView:
        frames = range(first, min(first + WINDOW_FRAMES, num_frames), FRAME_STEP)
        views = [background_view(dataset, frame) for frame in frames if telling[frame]]
        return mean_view(views or [unseen(dataset)])

    windows = list(ordered_map(window, range(0, num_frames, WINDOW_FRAMES), num_workers))
    starts = starts_of_periods(windows)
    of_frame = np.zeros(num_frames, np.int32)
    if len(starts) == 1:
        return TimeVaryingBackground([whole], of_frame)
    bounds = [start * WINDOW_FRAMES for start in starts] + [num_frames]
    for index, (first, stop) in enumerate(zip(bounds, bounds[1:])):
        of_frame[first:stop] = index
    means = [mean_view(windows[first:stop]) for first, stop in zip(starts, [*starts[1:], None])]
    for index, first in enumerate(bounds[1:-1], start=1):
        around = range(first - WINDOW_FRAMES, min(first + WINDOW_FRAMES, num_frames))
        seen = ordered_map(lambda frame: background_view(dataset, frame), around, num_workers)
        for frame, view in zip(around, seen):
            nearby = sorted({index - 1, index, int(of_frame[frame])})
            differences = [view.difference(means[candidate]) for candidate in nearby]
            of_frame[frame] = nearby[int(np.argmin(differences))]
    # A window with a change inside is a period of its own until its frames have gone elsewhere.
    kept, of_frame = np.unique(of_frame, return_inverse=True)
    backgrounds = [
        period_background(dataset, np.flatnonzero((of_frame == index) & telling).tolist(), whole)
        for index in range(len(kept))
    ]
    of_frame = of_frame.astype(np.int32)
    return TimeVaryingBackground(backgrounds, of_frame)


def write_time_varying_background(output: DatasetLayout, periods: TimeVaryingBackground) -> None:
    """Write `plates/{k}.jpg` and, as `plates/frames.npy`, the background of every frame."""
    output.plates_dir.mkdir(parents=True)
    for index, background in enumerate(periods.backgrounds):
        write_image(output.period_background(index), background, JPEG_OPTIONS)
    np.save(output.plate_of_frame, periods.of_frame)
