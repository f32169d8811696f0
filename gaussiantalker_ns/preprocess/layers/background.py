"""Step 5a: the background, the scene without the person (`bc.jpg`)."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int, UInt8

from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.face.landmarker import Landmarks
from gaussiantalker_ns.files import read_rgb
from gaussiantalker_ns.preprocess.segmentation.base import BACKGROUND, read_labels
from gaussiantalker_ns.preprocess.segmentation.matting import disc

NUM_BACKGROUND_FRAMES = 64
"""Frames, spread evenly over the clip, whose median makes the background."""

CLEARANCE = 0.012
"""Distance from the person, in image widths, within which a pixel may be tinted by the person."""

STRIPE_ROWS = 64
"""Rows of the image whose median is computed at once, to bound memory."""

OTHER_LEVELS = 24.0
"""Difference in 8-bit steps from which on a pixel shows something else than the background."""

MAX_DISAGREEING = 0.15
"""Fraction of such pixels above which a frame without a face shows another scene."""

LEAST_COMMON = 0.05
"""Fraction of the picture that must be known to compare scenes."""

EMPTY_FRACTION = 0.25
"""A frame in which less than this fraction of the usual person is seen shows an empty room."""

View = tuple[UInt8[np.ndarray, "h wd 3"], Bool[np.ndarray, "h wd"]]
"""A frame, and where it shows the background."""


@dataclass
class BackgroundImage:
    """The scene without the person."""

    image: UInt8[np.ndarray, "h wd 3"]
    """RGB."""
    seen_fraction: float
    """Fraction of its pixels that was ever seen; the rest is filled in smoothly."""
    motion: float
    """How much the background moves: the mean over seen pixels of the median absolute deviation
    over time, in 8-bit steps (a still camera gives about 1)."""


def masked_median(
    stack: UInt8[np.ndarray, "b h wd 3"], seen: Bool[np.ndarray, "b h wd"]
) -> tuple[Float32[np.ndarray, "h wd 3"], Bool[np.ndarray, "h wd"]]:
    """Median over the frames in which a pixel is seen, and where there is any.

    Example: values 1, 5, 9 of which the last is not seen give 3.
    """
    values = np.where(seen[..., None], stack, np.int16(256)).astype(np.int16)
    values.sort(axis=0)
    count = seen.sum(axis=0)
    low = np.maximum((count - 1) // 2, 0)[None, ..., None]
    high = np.maximum(count // 2, 0)[None, ..., None]
    high = np.minimum(high, len(stack) - 1)
    pick = [np.take_along_axis(values, index, axis=0)[0] for index in (low, high)]
    return (pick[0].astype(np.float32) + pick[1]) / 2.0, count > 0


def fill_smoothly(
    image: Float32[np.ndarray, "h wd c"], known: Bool[np.ndarray, "h wd"]
) -> Float32[np.ndarray, "h wd c"]:
    """Fill the unknown part of an image from coarser and coarser averages of the known part."""
    if known.all():
        return image
    if not known.any():
        return np.full_like(image, 127.0)
    weight = known.astype(np.float32)
    height, width = known.shape
    if max(height, width) <= 2:
        mean = image[known].mean(axis=0)
        return np.where(known[..., None], image, mean).astype(np.float32)
    size = (max(1, width // 2), max(1, height // 2))
    reduced_weight = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
    reduced = cv2.resize(image * weight[..., None], size, interpolation=cv2.INTER_AREA)
    reduced = reduced.reshape(size[1], size[0], -1)
    reduced /= np.maximum(reduced_weight, 1e-6)[..., None]
    coarse = fill_smoothly(reduced, reduced_weight > 1e-3)
    enlarged = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    enlarged = cv2.GaussianBlur(enlarged, (0, 0), 1.0).reshape(image.shape)
    return np.where(known[..., None], image, enlarged).astype(np.float32)


def background_of(
    dataset: DatasetLayout, frame: int
) -> tuple[UInt8[np.ndarray, "h wd 3"], Bool[np.ndarray, "h wd"]]:
    """A frame, and where it shows the background clear of the person."""
    image = read_rgb(dataset.frame(frame))
    person = (read_labels(dataset.parsing(frame)) != BACKGROUND).astype(np.uint8)
    return image, cv2.dilate(person, disc(max(1, round(CLEARANCE * image.shape[1])))) == 0


def spread(frames: Int[np.ndarray, " m"]) -> list[int]:
    """At most `NUM_BACKGROUND_FRAMES` of some frames, spread evenly over them."""
    places = np.linspace(0, len(frames) - 1, NUM_BACKGROUND_FRAMES).astype(int)
    return frames[np.unique(places)].tolist() if len(frames) else []


def same_scene(
    view: View, background: Float32[np.ndarray, "h wd 3"], known: Bool[np.ndarray, "h wd"]
) -> Bool[np.ndarray, "h wd"] | None:
    """Where a frame without a face may count for the background; None if nowhere.

    An empty room agrees with what is known of the background, and shows what was hidden. A title
    card or a black frame does not agree, so that it says nothing about the rest either.
    """
    image, clear = view
    both = clear & known
    if both.mean() < LEAST_COMMON:
        return None
    difference = np.abs(image.astype(np.float32) - background).max(axis=-1)
    if (difference[both] > OTHER_LEVELS).mean() > MAX_DISAGREEING:
        return None
    return clear & ~(known & (difference > OTHER_LEVELS))


def median_view(
    views: Sequence[View],
) -> tuple[Float32[np.ndarray, "h wd 3"], Bool[np.ndarray, "h wd"]]:
    """The median over time of what frames show of the background, and where there is any."""
    stack, seen = (np.stack(parts) for parts in zip(*views))
    background = np.zeros(stack.shape[1:], np.float32)
    known = np.zeros(seen.shape[1:], bool)
    for top in range(0, len(known), STRIPE_ROWS):
        rows = slice(top, top + STRIPE_ROWS)
        background[rows], known[rows] = masked_median(stack[:, rows], seen[:, rows])
    return background, known


def background_motion(
    views: Sequence[View],
    background: Float32[np.ndarray, "h wd 3"],
    known: Bool[np.ndarray, "h wd"],
) -> float:
    """Mean over seen pixels of the median absolute deviation over time, in 8-bit steps."""
    stack, seen = (np.stack(parts) for parts in zip(*views))
    deviations = []
    for top in range(0, len(known), STRIPE_ROWS):
        rows = slice(top, top + STRIPE_ROWS)
        difference = np.abs(stack[:, rows].astype(np.float32) - background[rows]).clip(0, 255)
        deviation, _ = masked_median(difference.astype(np.uint8), seen[:, rows])
        deviations.append(deviation[known[rows]].ravel())
    motion = np.concatenate(deviations)
    return float(motion.mean()) if len(motion) else 0.0


def make_background(dataset: DatasetLayout, landmarks: Landmarks) -> BackgroundImage:
    """Compute the background of a data set whose frames are segmented.

    Frames with a face make it; the others (not a hand, a title card, a fade) count where they show
    the same scene and nearly nobody.
    """
    views = [background_of(dataset, frame) for frame in spread(np.flatnonzero(landmarks.typical))]
    background, known = median_view(views)
    motion = background_motion(views, background, known)
    person = float(np.median([(~clear).mean() for _, clear in views]))
    added = []
    for frame in spread(np.flatnonzero(~landmarks.valid)):
        image, clear = background_of(dataset, frame)
        agreeing = same_scene((image, clear), background, known)
        if agreeing is not None and (~clear).mean() < EMPTY_FRACTION * person:
            added.append((image, agreeing))
    if added:
        background, known = median_view([*views, *added])
    filled = np.clip(np.round(fill_smoothly(background, known)), 0, 255).astype(np.uint8)
    return BackgroundImage(filled, float(known.mean()), motion)
