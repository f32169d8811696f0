"""Where the person is: MediaPipe's selfie segmentation, refined to the edges of the image."""

import threading

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from gaussiantalker_ns.assets import asset_path
from gaussiantalker_ns.preprocess.guided_filter import box_mean, guided_filter
from gaussiantalker_ns.preprocess.native_output import hidden_stderr

NETWORK_SIDE = 256
"""The network works on 256 x 256 pixels; larger frames are reduced before, the matte enlarged after."""

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


def local_color_matte(
    image: Float32[np.ndarray, "h wd 3"],
    small: Float32[np.ndarray, "g gw 3"],
    coarse: Float32[np.ndarray, "g gw"],
) -> tuple[Float32[np.ndarray, "h wd"], Float32[np.ndarray, "h wd"]]:
    """Matte by colour: where a pixel lies between the local mean colours of person and background.

    Args:
        image: The frame, 0 to 255.
        small: The same at the network's resolution.
        coarse: The network's confidence.

    Returns:
        The matte in [0, 1], and in [0, 1] how far it can be trusted: little where the two colours
        are near or the person (a collar beside a suit) or the background is of many colours.
    """
    person = (coarse > 0.5).astype(np.uint8)
    inside = cv2.erode(person, disc(BAND_INSIDE)).astype(np.float32)
    outside = 1.0 - cv2.dilate(person, disc(BAND_OUTSIDE)).astype(np.float32)
    energy = (small * small).sum(-1)
    means, variances, shares = [], [], []
    for region in (inside, outside):
        share = box_mean(region, COLOR_RADIUS)
        total = np.maximum(share, 1e-4)
        mean = box_mean(small * region[..., None], COLOR_RADIUS) / total[..., None]
        variance = box_mean(energy * region, COLOR_RADIUS) / total - (mean * mean).sum(-1)
        means.append(mean)
        variances.append(np.maximum(variance, 0.0))
        shares.append(share)
    axis = means[0] - means[1]
    squared = (axis * axis).sum(-1)
    trust = squared / (squared + variances[0] + variances[1] + 3.0 * COLOR_NOISE**2)
    trust = trust * (np.minimum(shares[0], shares[1]) > 0.02)
    scaled_axis = axis / np.maximum(squared, 1.0)[..., None]
    offset = (means[1] * scaled_axis).sum(-1)
    size = image.shape[1::-1]
    fields = np.dstack([scaled_axis, offset, trust]).astype(np.float32)
    fields = cv2.resize(fields, size, interpolation=cv2.INTER_LINEAR)
    matte = (image * fields[..., :3]).sum(-1) - fields[..., 3]
    return np.clip(matte, 0.0, 1.0), fields[..., 4]


def refine_matte(
    image: UInt8[np.ndarray, "h wd 3"], coarse: Float32[np.ndarray, "256 256"]
) -> Float32[np.ndarray, "h wd"]:
    """Sharpen the network's mask, whose edge lies a few pixels off, to the frame's own edges."""
    pixels = image.astype(np.float32)
    small = cv2.resize(pixels, coarse.shape[::-1], interpolation=cv2.INTER_AREA)
    matte, trust = local_color_matte(pixels, small, coarse)
    size = image.shape[1::-1]
    network = cv2.resize(coarse, size, interpolation=cv2.INTER_LINEAR)
    person = (coarse > 0.5).astype(np.uint8)
    band = cv2.dilate(person, disc(BAND_OUTSIDE)) - cv2.erode(person, disc(BAND_INSIDE))
    band = cv2.resize(band.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    weight = trust * band
    mixed = weight * matte + (1.0 - weight) * network
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255.0
    radius = max(1, round(size[0] / 256))
    return np.clip(guided_filter(grey, mixed, radius, 1e-4), 0.0, 1.0)
