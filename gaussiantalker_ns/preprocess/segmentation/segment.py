"""Step 4: every frame's pixels are labelled head, neck, torso or background (`parsing/{i}.png`)."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.face.landmarker import Landmarks
from gaussiantalker_ns.files import ordered_map, read_rgb
from gaussiantalker_ns.preprocess.segmentation.base import Segmenter, write_labels

SegmenterName = Literal["auto", "builtin", "parsing"]


def make_segmenter(
    name: SegmenterName,
    read_frame: Callable[[int], UInt8[np.ndarray, "h wd 3"]],
    landmarks: Landmarks,
) -> Segmenter:
    """Build the wanted segmenter; "auto" takes face parsing if its weights and a GPU are at hand.

    On a CPU face parsing takes a second a frame, hence the condition.
    """
    from gaussiantalker_ns.preprocess.segmentation.segformer import (
        ParsingSegmenter,
        parsing_at_hand,
    )

    if name == "parsing" or (name == "auto" and parsing_at_hand()):
        return ParsingSegmenter(read_frame)
    from gaussiantalker_ns.preprocess.segmentation.builtin import BuiltinSegmenter

    return BuiltinSegmenter(read_frame, landmarks.points, landmarks.valid, landmarks.typical)


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
        segmenter_name, lambda frame: read_rgb(dataset.frame(frame)), landmarks
    )
    frames = range(len(landmarks.points))
    try:
        for frame, labels in zip(frames, ordered_map(segmenter.label, frames, num_workers)):
            write_labels(output.parsing(frame), labels)
            progress(frame + 1)
    finally:
        segmenter.close()
    return segmenter.name
