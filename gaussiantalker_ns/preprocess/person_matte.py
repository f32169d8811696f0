"""Where the person is: MediaPipe's selfie segmentation, refined to the edges of the image."""

import threading

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from gaussiantalker_ns.assets import asset_path
from gaussiantalker_ns.preprocess.guided_filter import EdgePixels, box_mean, guided_values
from gaussiantalker_ns.preprocess.native_output import hidden_stderr

NETWORK_SIDE = 256
"""The network sees 256 x 256 pixels; larger frames are reduced for it."""

BAND_INSIDE = 6
BAND_OUTSIDE = 3
"""Half-resolution pixels on both sides of the network's edge in which colours decide."""

COLOR_RADIUS = 10
"""Half-resolution pixels over which the local colours of person and background are averaged."""

EDGE_RADIUS, EDGE_EPSILON = 3, 1e-3
"""Guided filter where colours do not decide, at the network's resolution."""

GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32) / np.float32(255)

COLOR_NOISE = 10.0
"""Colour distance, in 8-bit steps, below which person and background cannot be told apart."""


class SelfieNetwork:
    """The selfie segmentation network from our assets; one instance a thread is made on demand."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._segmenters: list = []
        self._lock = threading.Lock()

    def _segmenter(self):  # noqa: ANN202 - MediaPipe's classes are imported late.
        if not hasattr(self._local, "segmenter"):
            from mediapipe.tasks.python import BaseOptions, vision

            options = vision.ImageSegmenterOptions(
                base_options=BaseOptions(
                    model_asset_path=str(asset_path("selfie_segmentation.tflite"))
                ),
                output_confidence_masks=True,
                output_category_mask=False,
            )
            with self._lock, hidden_stderr():
                self._local.segmenter = vision.ImageSegmenter.create_from_options(options)
                self._segmenters.append(self._local.segmenter)
        return self._local.segmenter

    def __call__(self, image: UInt8[np.ndarray, "h wd 3"]) -> Float32[np.ndarray, "256 256"]:
        """Return the network's confidence in [0, 1] that a pixel belongs to a person."""
        import mediapipe as mp

        small = cv2.resize(image, (NETWORK_SIDE, NETWORK_SIDE), interpolation=cv2.INTER_AREA)
        picture = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(small))
        masks = self._segmenter().segment(picture).confidence_masks
        return masks[-1].numpy_view().reshape(NETWORK_SIDE, NETWORK_SIDE).astype(np.float32)

    def close(self) -> None:
        """Release the networks of all threads."""
        for segmenter in self._segmenters:
            segmenter.close()
        self._segmenters.clear()


def disc(radius: int) -> UInt8[np.ndarray, "h wd"]:
    """Round structuring element of `2 * radius + 1` pixels."""
    size = 2 * radius + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))


def dot(
    first: Float32[np.ndarray, "*m 3"], second: Float32[np.ndarray, "*m 3"]
) -> Float32[np.ndarray, "*m"]:
    """Product of two colour images (or lists of colours), summed over the channels."""
    return np.einsum("...k,...k->...", first, second)


def local_color_axis(
    small: Float32[np.ndarray, "h wd 3"],
    inside: UInt8[np.ndarray, "h wd"],
    outside: UInt8[np.ndarray, "h wd"],
) -> Float32[np.ndarray, "h wd 5"]:
    """Where a colour lies between the local mean colours of person and background.

    Args:
        small: The frame, 0 to 255.
        inside: Where there certainly is a person (0 or 1).
        outside: Where there certainly is none.

    Returns:
        Per pixel the factors of red, green and blue and the offset that give 1 at the colour of the
        person and 0 at that of the background, and in [0, 1] how far this can be trusted: little
        where the two colours are near, or one side (a collar beside a suit) is of many colours.
    """
    energy = dot(small, small)
    means, variances, shares = [], [], []
    for region in (inside, outside):
        mask = region.astype(np.float32)
        share = box_mean(mask, COLOR_RADIUS)
        total = np.maximum(share, np.float32(1e-4))
        mean = box_mean(small * mask[..., None], COLOR_RADIUS) / total[..., None]
        variance = box_mean(energy * mask, COLOR_RADIUS) / total - dot(mean, mean)
        means.append(mean)
        variances.append(np.maximum(variance, 0.0))
        shares.append(share)
    axis = means[0] - means[1]
    squared = dot(axis, axis)
    trust = squared / (squared + variances[0] + variances[1] + np.float32(3 * COLOR_NOISE**2))
    trust *= np.minimum(shares[0], shares[1]) > 0.02
    axis /= np.maximum(squared, 1.0)[..., None]
    return np.dstack([axis, -dot(means[1], axis), trust])


def grey_levels(colors: Float32[np.ndarray, "*m 3"]) -> Float32[np.ndarray, "*m"]:
    """Grey levels in [0, 1] of RGB colours from 0 to 255."""
    return colors @ GREY_WEIGHTS


def refine_matte(
    image: UInt8[np.ndarray, "h wd 3"],
    small: UInt8[np.ndarray, "g gw 3"],
    coarse: Float32[np.ndarray, "g gw"],
) -> Float32[np.ndarray, "h wd"]:
    """Sharpen the network's mask, whose edge lies a few pixels off, to the frame's own edges.

    Args:
        image: The frame.
        small: The frame at the size of the mask.
        coarse: The network's mask in [0, 1].
    """
    person = (coarse > 0.5).astype(np.uint8)
    inside = cv2.erode(person, disc(BAND_INSIDE))
    outside = 1 - cv2.dilate(person, disc(BAND_OUTSIDE))
    small_float = small.astype(np.float32)
    fields = local_color_axis(small_float, inside, outside)
    edge = EdgePixels.of(1 - inside - outside, image.shape[:2])
    matte = cv2.resize(coarse, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    near = fields[edge.reduced]
    trust = near[:, 4]
    colors = image[edge.rows, edge.columns].astype(np.float32)
    by_color = np.clip(dot(colors, near[:, :3]) + near[:, 3], 0.0, 1.0)
    by_edges = guided_values(
        grey_levels(small_float), coarse, EDGE_RADIUS, EDGE_EPSILON, edge, grey_levels(colors)
    )
    matte[edge.rows, edge.columns] = trust * by_color + (1.0 - trust) * by_edges
    return matte
