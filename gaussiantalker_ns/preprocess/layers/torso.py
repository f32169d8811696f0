"""Step 5b: writing the torso layers, and the frames over the background for other projects."""

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.dataparsers.torso_layer import make_torso_layer
from gaussiantalker_ns.files import ordered_map, read_rgb, write_image
from gaussiantalker_ns.preprocess.segmentation.base import (
    BACKGROUND,
    JPEG_OPTIONS,
    PNG_OPTIONS,
    read_labels,
)


def write_torso_layers(
    dataset: DatasetLayout,
    output: DatasetLayout,
    num_frames: int,
    num_workers: int,
    progress: Callable[[int], None],
    background: UInt8[np.ndarray, "h wd 3"] | None = None,
) -> None:
    """Write `torso_imgs/{i}.png` for all frames.

    Args:
        dataset: Where frames and label images are read.
        output: Where the layers are written.
        num_frames: Number of frames.
        num_workers: Threads.
        progress: Called with the number of frames done.
        background: If given, `gt_imgs/{i}.jpg` is written too: the frame with its background
            replaced by the background, which other projects train on.
    """
    output.torso_dir.mkdir(parents=True)
    if background is not None:
        output.composites_dir.mkdir(parents=True)

    def work(frame: int) -> None:
        image, labels = read_rgb(dataset.frame(frame)), read_labels(dataset.parsing(frame))
        layer = make_torso_layer(image, labels)
        write_image(output.torso(frame), layer, PNG_OPTIONS)
        if background is not None:
            composite = np.where(labels[..., None] == BACKGROUND, background, image)
            write_image(output.composite(frame), composite, JPEG_OPTIONS)

    for done, _ in enumerate(ordered_map(work, range(num_frames), num_workers), start=1):
        progress(done)
