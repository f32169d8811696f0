"""The torso layer of a frame: neck and clothes with an in-painted extension under the head.

A rendered head never covers exactly the pixels of the real one; the extension fills what shows.
`process` writes the layers; for data sets without any they are made when they are read.
"""

import cv2
import numpy as np
from jaxtyping import Bool, Int64, UInt8
from scipy.ndimage import gaussian_filter1d

from gaussiantalker_ns.dataparsers.dataset_layout import HEAD, NECK, TORSO

NECK_EXTENSION = 53 / 512
"""Length of the neck's extension in image heights, in the middle of the neck."""

TORSO_EXTENSION = 9 / 512
"""Length of the extension of clothes, and of the neck at its sides."""

FULL_LENGTH, SIDE_LENGTH = 0.45, 0.85
"""Parts of the neck's half width: up to the first the extension has its full length, from the
second on that of clothes; at 0.7, where the corners of the jaw are, it is below 25 px of 512."""

LENGTH_BLUR = 4 / 512
"""Blur of the lengths over neighbouring columns, in image widths."""

EDGE_PIXELS = 4
"""The extension starts with the mean colour of this many pixels, less noisy than one."""


def extension_lengths(
    columns: Int64[np.ndarray, " m"], is_neck: Bool[np.ndarray, " m"], height: int
) -> Int64[np.ndarray, " m"]:
    """Pixels by which each column is extended upwards.

    Differs from GaussianTalker: 53 px are allowed in the inner part of the neck only; columns of
    that length near the corners of the jaw would run up beside the cheeks.
    """
    lengths = np.full(len(columns), TORSO_EXTENSION)
    if is_neck.any():
        first, last = columns[is_neck].min(), columns[is_neck].max()
        offset = np.abs(columns - (first + last) / 2) / max((last - first) / 2, 1.0)
        ramp = np.clip((SIDE_LENGTH - offset) / (SIDE_LENGTH - FULL_LENGTH), 0.0, 1.0)
        ramp = ramp * ramp * (3.0 - 2.0 * ramp)
        lengths += is_neck * ramp * (NECK_EXTENSION - TORSO_EXTENSION)
    lengths = gaussian_filter1d(lengths, LENGTH_BLUR * height, mode="nearest")
    return np.round(lengths * height).astype(np.int64)


def top_edges(labels: UInt8[np.ndarray, "h wd"]) -> Int64[np.ndarray, "2 m"]:
    """Columns and rows of the topmost neck or clothes pixel that lies right below the head."""
    body = (labels == NECK) | (labels == TORSO)
    edge = np.zeros_like(body)
    edge[1:] = body[1:] & (labels[:-1] == HEAD)
    columns = np.flatnonzero(edge.any(axis=0))
    return np.stack([columns, np.argmax(edge[:, columns], axis=0)])


def make_torso_layer(
    image: UInt8[np.ndarray, "h wd 3"], labels: UInt8[np.ndarray, "h wd"]
) -> UInt8[np.ndarray, "h wd 4"]:
    """Torso layer (RGBA, alpha 0 or 255) of one frame.

    Neck and clothes keep the pixels of the frame. Under the head each column is continued upwards,
    fading from the colour at the edge to the mean colour of the neck.
    """
    height = len(image)
    body = (labels == NECK) | (labels == TORSO)
    alpha = body.astype(np.uint8) * np.uint8(255)
    color = cv2.bitwise_and(image, image, mask=alpha)
    columns, rows = top_edges(labels)
    if len(columns) == 0:
        return np.dstack([color, alpha])
    is_neck = labels[rows, columns] == NECK
    lengths = extension_lengths(columns, is_neck, height)
    below = np.minimum(rows[None] + np.arange(EDGE_PIXELS)[:, None], height - 1)
    inside = body[below, columns[None]][..., None]
    edge = (image[below, columns[None]] * inside).sum(0) / np.maximum(inside.sum(0), 1)
    neck = labels == NECK
    neck_mean = image[neck].mean(0) if neck.any() else edge.mean(0)
    target = np.where(is_neck[:, None], neck_mean, edge)
    extension = np.zeros_like(color)
    painted = np.zeros(labels.shape, np.uint8)
    for step in range(1, int(lengths.max()) + 1):
        row = rows - step
        active = (step <= lengths) & (row >= 0)
        active &= labels[np.maximum(row, 0), columns] == HEAD
        lengths = np.where(active, lengths, 0)
        fade = (step / np.maximum(lengths, 1))[active, None]
        at = row[active], columns[active]
        extension[at] = np.round((1 - fade) * edge[active] + fade * target[active])
        painted[at] = 1
    x0, y0, box_width, box_height = cv2.boundingRect(painted)
    box = slice(y0, y0 + box_height), slice(x0, x0 + box_width)
    if box_width:
        color[box] += blur_inside(extension[box], painted[box])
    return np.dstack([color, alpha | (painted * np.uint8(255))])


def blur_inside(
    image: UInt8[np.ndarray, "h wd 3"], mask: UInt8[np.ndarray, "h wd"]
) -> UInt8[np.ndarray, "h wd 3"]:
    """Blur the masked pixels (mask 1) with each other only, which hides stripes of columns."""
    weight = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 2.0)
    total = cv2.GaussianBlur(image.astype(np.float32) * mask[..., None], (0, 0), 2.0)
    blurred = np.clip(total / np.maximum(weight, 1e-3)[..., None], 0, 255)
    return blurred.astype(np.uint8) * mask[..., None]
