"""The person's matte: selfie segmentation, refined by colour and a guided filter.

The filter is computed on a reduced image and evaluated in the full one (He and Sun 2015), there
only at the pixels around edges.
"""

import threading
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Int64, UInt8

from gaussiantalker_ns.assets import asset_path
from gaussiantalker_ns.face.landmarker import hidden_stderr


def keep_connected_to(
    mask: UInt8[np.ndarray, "h wd"], anchor: UInt8[np.ndarray, "h wd"]
) -> UInt8[np.ndarray, "h wd"]:
    """Keep the connected parts of a mask that share a pixel with the anchor."""
    count, labels = cv2.connectedComponents(mask, connectivity=4, ltype=cv2.CV_16U)
    touched = np.zeros(count, np.uint8)
    touched[labels[anchor > 0].astype(np.int64)] = 1
    touched[0] = 0
    return np.take(touched, labels.astype(np.int64))


def keep_largest(mask: UInt8[np.ndarray, "h wd"]) -> UInt8[np.ndarray, "h wd"]:
    """Keep the largest connected part of a mask."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if count <= 2:
        return mask
    return (labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))).astype(np.uint8)


GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32) / np.float32(255)


def grey_levels(colors: UInt8[np.ndarray, "*m 3"]) -> Float32[np.ndarray, "*m"]:
    """Grey levels in [0, 1] of 8-bit RGB colours, the guide of the filter."""
    return colors.astype(np.float32) @ GREY_WEIGHTS


def box_mean(values: Float32[np.ndarray, "h wd *c"], radius: int) -> Float32[np.ndarray, "h wd *c"]:
    """Mean over a square window of `2 * radius + 1` pixels; the border is mirrored."""
    size = 2 * radius + 1
    return cv2.blur(values, (size, size)).reshape(values.shape)


def guided_coefficients(
    guide: Float32[np.ndarray, "h wd"],
    values: Float32[np.ndarray, "h wd"],
    radius: int,
    epsilon: float,
) -> tuple[Float32[np.ndarray, "h wd"], Float32[np.ndarray, "h wd"]]:
    """Slope and offset, per pixel, of the linear function of the guide that fits `values` best.

    They vary slowly, so they may be computed on a reduced image and enlarged (He and Sun 2015).

    Args:
        guide: Grey image in [0, 1].
        values: The mask to be filtered.
        radius: Half the window's side in pixels.
        epsilon: Variance of the guide under which a window counts as flat and is just averaged.
    """
    mean_guide, mean_values = box_mean(guide, radius), box_mean(values, radius)
    variance = box_mean(guide * guide, radius) - mean_guide * mean_guide
    covariance = box_mean(guide * values, radius) - mean_guide * mean_values
    slope = covariance / (variance + np.float32(epsilon))
    offset = mean_values - slope * mean_guide
    return box_mean(slope, radius), box_mean(offset, radius)


@dataclass(frozen=True)
class EdgePixels:
    """Pixels of a frame around an edge, and the pixels of the reduced frame that they lie in."""

    rows: Int64[np.ndarray, " m"]
    columns: Int64[np.ndarray, " m"]
    reduced: tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]

    @classmethod
    def of(cls, band: UInt8[np.ndarray, "g gw"], shape: tuple[int, ...]) -> "EdgePixels":
        """All pixels of a frame of `shape` inside a band (0 or 1) of the reduced frame."""
        full = cv2.resize(band, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST)
        columns, rows = (
            cv2.findNonZero(full).reshape(-1, 2).astype(np.int64).T if full.any() else EMPTY
        )
        height, width = band.shape
        return cls(rows, columns, (rows * height // shape[0], columns * width // shape[1]))


EMPTY = np.zeros((2, 0), np.int64)


def guided_values(
    guide: Float32[np.ndarray, "g gw"],
    values: Float32[np.ndarray, "g gw"],
    radius: int,
    epsilon: float,
    pixels: EdgePixels,
    full_guide: Float32[np.ndarray, " m"],
) -> Float32[np.ndarray, " m"]:
    """Filter a reduced mask and evaluate it at pixels of the full frame.

    Args:
        guide: Reduced grey image in [0, 1].
        values: Reduced mask.
        radius: As in `guided_coefficients`.
        epsilon: As in `guided_coefficients`.
        pixels: Where to evaluate.
        full_guide: Grey levels of the full frame there, in [0, 1].
    """
    slope, offset = guided_coefficients(guide, values, radius, epsilon)
    return slope[pixels.reduced] * full_guide + offset[pixels.reduced]


NETWORK_SIDE = 256
"""The network sees 256 x 256 pixels; larger frames are reduced for it."""

BAND_INSIDE = 6
BAND_OUTSIDE = 3
"""Half-resolution pixels on both sides of the network's edge in which colours decide."""

COLOR_RADIUS = 10
"""Half-resolution pixels over which the local colours of person and background are averaged."""

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


@dataclass(frozen=True)
class LocalColors:
    """Around every pixel, the mean colours of the person and of the background, 0 to 255."""

    background: Float32[np.ndarray, "*m 3"]
    axis: Float32[np.ndarray, "*m 3"]
    """From the background's colour to the person's."""
    noise: Float32[np.ndarray, "*m"]
    """Distance from all mixtures of the two beyond which a colour is neither."""
    trust: Float32[np.ndarray, "*m"]
    """How well the two can be told apart, in [0, 1]: little where they are near each other, or one
    side (a collar beside a suit) is of many colours."""

    def at(self, pixels: EdgePixels) -> "LocalColors":
        """The values of pixels of the full frame."""
        return LocalColors(*(values[pixels.reduced] for values in vars(self).values()))

    def matte(
        self, colors: Float32[np.ndarray, "*m 3"]
    ) -> tuple[Float32[np.ndarray, "*m"], Float32[np.ndarray, "*m"]]:
        """Fraction of the person in every colour, and the trust in it, both in [0, 1].

        A colour that is no mixture of the two (hair at a temple, between skin and wall) is not
        trusted.
        """
        squared = np.maximum(dot(self.axis, self.axis), 1.0)
        difference = colors - self.background
        fraction = dot(difference, self.axis) / squared
        outside = dot(difference, difference) - squared * np.maximum(fraction, 0.0) ** 2
        trust = self.trust * np.exp(-np.maximum(outside, 0.0) / self.noise**2)
        return np.clip(fraction, 0.0, 1.0), trust


def local_colors(
    small: Float32[np.ndarray, "h wd 3"],
    inside: UInt8[np.ndarray, "h wd"],
    outside: UInt8[np.ndarray, "h wd"],
) -> LocalColors:
    """Average the colours of person and background around every pixel.

    Args:
        small: The frame, 0 to 255.
        inside: Where there certainly is a person (0 or 1).
        outside: Where there certainly is none.
    """
    energy = dot(small, small)
    means, variances, fractions = [], [], []
    for region in (inside, outside):
        mask = region.astype(np.float32)
        fraction = box_mean(mask, COLOR_RADIUS)
        total = np.maximum(fraction, np.float32(1e-4))
        mean = box_mean(small * mask[..., None], COLOR_RADIUS) / total[..., None]
        variance = box_mean(energy * mask, COLOR_RADIUS) / total - dot(mean, mean)
        means.append(mean)
        variances.append(np.maximum(variance, 0.0))
        fractions.append(fraction)
    axis = means[0] - means[1]
    squared = dot(axis, axis)
    trust = squared / (squared + variances[0] + variances[1] + np.float32(3 * COLOR_NOISE**2))
    trust *= np.minimum(fractions[0], fractions[1]) > 0.02
    noise = np.float32(3 * COLOR_NOISE) + 2 * np.sqrt(variances[1])
    return LocalColors(means[1], axis, noise, trust)


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
    edge = EdgePixels.of(1 - inside - outside, image.shape[:2])
    matte = cv2.resize(coarse, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    colors = image[edge.rows, edge.columns].astype(np.float32)
    fraction, trust = local_colors(small.astype(np.float32), inside, outside).at(edge).matte(colors)
    matte[edge.rows, edge.columns] += trust * (fraction - matte[edge.rows, edge.columns])
    return matte
