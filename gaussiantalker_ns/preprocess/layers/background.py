"""Step 5a: the background, the scene without the person (`bc.jpg`)."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.files import read_rgb
from gaussiantalker_ns.preprocess.segmentation.base import BACKGROUND, read_labels
from gaussiantalker_ns.preprocess.segmentation.matting import disc

NUM_BACKGROUND_FRAMES = 64
"""Frames, spread evenly over the clip, whose median makes the background."""

CLEARANCE = 0.012
"""Distance from the person, in image widths, within which a pixel may be tinted by the person."""

STRIPE_ROWS = 64
"""Rows of the image whose median is computed at once, to bound memory."""


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


def make_background(dataset: DatasetLayout, num_frames: int) -> BackgroundImage:
    """Compute the background of a data set whose frames are segmented."""
    chosen = np.unique(np.linspace(0, num_frames - 1, NUM_BACKGROUND_FRAMES).astype(int)).tolist()
    images, masks = [], []
    for frame in chosen:
        image, clear = background_of(dataset, frame)
        images.append(image)
        masks.append(clear)
    stack, seen = np.stack(images), np.stack(masks)
    height, width = seen.shape[1:]
    background = np.zeros((height, width, 3), np.float32)
    known = np.zeros((height, width), bool)
    deviations = []
    for top in range(0, height, STRIPE_ROWS):
        rows = slice(top, top + STRIPE_ROWS)
        background[rows], known[rows] = masked_median(stack[:, rows], seen[:, rows])
        difference = np.abs(stack[:, rows].astype(np.float32) - background[rows]).clip(0, 255)
        std, _ = masked_median(difference.astype(np.uint8), seen[:, rows])
        deviations.append(std[known[rows]].ravel())
    motion = np.concatenate(deviations)
    filled = np.clip(np.round(fill_smoothly(background, known)), 0, 255).astype(np.uint8)
    return BackgroundImage(
        filled, float(known.mean()), float(motion.mean()) if len(motion) else 0.0
    )
