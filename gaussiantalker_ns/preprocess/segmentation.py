"""Step 4: every frame's pixels are labelled head, neck, torso or background (`parsing/{i}.png`)."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from gaussiantalker_ns.dataparsers.layout import (
    BACKGROUND_COLOR,
    HEAD_COLOR,
    NECK_COLOR,
    TORSO_COLOR,
    DatasetLayout,
)
from gaussiantalker_ns.files import write_image
from gaussiantalker_ns.preprocess.frame_files import read_rgb
from gaussiantalker_ns.preprocess.landmarks import Landmarks
from gaussiantalker_ns.preprocess.parallel import ordered_map
from gaussiantalker_ns.preprocess.segmenter import BACKGROUND, HEAD, NECK, TORSO, Segmenter

LABEL_COLORS = np.array([BACKGROUND_COLOR, TORSO_COLOR, NECK_COLOR, HEAD_COLOR], np.uint8)
"""Label -> colour (RGB) on disk."""

LABEL_TABLES = np.zeros((3, 256), np.uint8)
"""The same as look-up tables of red, green and blue."""
LABEL_TABLES[:, : len(LABEL_COLORS)] = LABEL_COLORS.T

PNG_OPTIONS = [cv2.IMWRITE_PNG_COMPRESSION, 1]
"""Fast compression; label images are small in any case."""

JPEG_OPTIONS = [cv2.IMWRITE_JPEG_QUALITY, 95]

SegmenterName = Literal["auto", "builtin", "parsing"]


def labels_to_colors(labels: UInt8[np.ndarray, "h wd"]) -> UInt8[np.ndarray, "h wd 3"]:
    """Colours (RGB) of a label image as they are stored."""
    return cv2.merge([cv2.LUT(labels, channel) for channel in LABEL_TABLES])


def colors_to_labels(colors: UInt8[np.ndarray, "h wd 3"]) -> UInt8[np.ndarray, "h wd"]:
    """Labels of a stored label image (RGB): the nearest colour, as other projects store a few more.

    Example: pure blue is `HEAD`, and so is the black that TalkingGaussian uses for hair.
    """
    red, green, blue = (colors[..., channel] > 127 for channel in range(3))
    labels = np.full(colors.shape[:2], HEAD, np.uint8)
    labels[red & ~green & ~blue] = TORSO
    labels[green & ~red & ~blue] = NECK
    labels[red & green & blue] = BACKGROUND
    return labels


def read_labels(path: Path) -> UInt8[np.ndarray, "h wd"]:
    """Read a stored label image."""
    return colors_to_labels(read_rgb(path))


def write_labels(path: Path, labels: UInt8[np.ndarray, "h wd"]) -> None:
    """Store a label image as PNG."""
    write_image(path, labels_to_colors(labels), PNG_OPTIONS)


def make_segmenter(
    name: SegmenterName,
    read_frame: Callable[[int], UInt8[np.ndarray, "h wd 3"]],
    points: Float32[np.ndarray, "b 478 3"],
) -> Segmenter:
    """Build the wanted segmenter; "auto" takes face parsing if its weights and a GPU are at hand.

    On a CPU face parsing takes a second a frame, hence the condition.
    """
    from gaussiantalker_ns.preprocess.parsing_segmenter import ParsingSegmenter, parsing_at_hand

    if name == "parsing" or (name == "auto" and parsing_at_hand()):
        return ParsingSegmenter(read_frame, points)
    from gaussiantalker_ns.preprocess.builtin_segmenter import BuiltinSegmenter

    return BuiltinSegmenter(read_frame, points)


def segment_frames(
    dataset: DatasetLayout,
    output: DatasetLayout,
    landmarks: Landmarks,
    segmenter_name: SegmenterName,
    num_workers: int,
    progress: Callable[[int], None],
) -> str:
    """Label all frames of a data set.

    Args:
        dataset: Where the frames are read.
        output: Where `parsing/` is written.
        landmarks: The landmarks of all frames.
        segmenter_name: Which segmenter to use.
        num_workers: Threads.
        progress: Called with the number of frames done.

    Returns:
        The name of the segmenter that was used.
    """
    output.parsing_dir.mkdir(parents=True)
    segmenter = make_segmenter(
        segmenter_name, lambda frame: read_rgb(dataset.frame(frame)), landmarks.points
    )
    frames = range(len(landmarks.points))
    try:
        for frame, labels in zip(frames, ordered_map(segmenter.label, frames, num_workers)):
            write_labels(output.parsing(frame), labels)
            progress(frame + 1)
    finally:
        segmenter.close()
    return segmenter.name
