"""Reading the pictures of a data set: raw frames and label images, at the working size."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from gaussiantalker_ns.dataparsers.dataset_layout import (
    BACKGROUND,
    BACKGROUND_COLOR,
    HEAD,
    HEAD_COLOR,
    NECK,
    TORSO,
    DatasetLayout,
)
from gaussiantalker_ns.files import (
    JPEG_ENDINGS,
    JPEG_TAIL_BYTES,
    check_jpeg_end,
    damaged_picture,
    read_rgb,
    resize,
)

OTHER_HEAD_COLORS = ((0, 0, 0), (100, 100, 100))  # Hair and inner mouth in TalkingGaussian's.

FOREIGN_PICTURES = (
    "Copy the data set again, or make a new one of its video in an empty folder with "
    "`gaussiantalker process`."
)
"""What to do about pictures of a data set that another tool made."""

Foreground = Literal["head", "person"]
"""What the Gaussians model and a mask covers: the head with its hair, or the whole person."""


def read_picture(path: Path, size: int | None = None) -> UInt8[np.ndarray, "h wd 3"]:
    """Read a picture of a data set as RGB; an error names the command that makes it again.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or no picture.
    """
    return read_rgb(path, size, picture_remedy)


def read_mask(path: Path, size: int, foreground: Foreground = "head") -> UInt8[np.ndarray, "h wd"]:
    """Read the mask (0..255, soft edges after resizing) of a label image.

    TalkingGaussian's colours of hair and inner mouth count as head, too.
    """
    labels = read_picture(path)
    if foreground == "person":
        mask = cv2.bitwise_not(_near(labels, BACKGROUND_COLOR))
    else:
        mask = _near(labels, HEAD_COLOR)
        for color in OTHER_HEAD_COLORS:
            mask |= _near(labels, color, tolerance=5)
    return resize(mask, size)


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


def _near(
    labels: UInt8[np.ndarray, "h wd 3"], color: tuple[int, int, int], tolerance: int = 60
) -> UInt8[np.ndarray, "h wd"]:
    """255 where a label image has about the colour: resized ones have blended edges."""
    low = np.clip(np.subtract(color, tolerance), 0, 255)
    high = np.clip(np.add(color, tolerance), 0, 255)
    return np.asarray(cv2.inRange(labels, low, high), np.uint8)


def check_frames(layout: DatasetLayout, frames: Sequence[int]) -> int:
    """Look at the header and the end of every frame's JPEG; return the side of the square frames.

    Raises:
        FileNotFoundError: a frame, its label image or its torso layer is missing.
        ValueError: a frame is damaged, not square, or of another size than the first one.
    """
    _check_present(layout, frames)
    first_size: tuple[int, int] | None = None
    for frame in frames:
        path = layout.frame(frame)
        size = _header_size(path)
        first_size = first_size or size
        if size != first_size:
            raise ValueError(
                f"{path} has {size[0]}x{size[1]} pixels but {layout.frame(frames[0])} has "
                f"{first_size[0]}x{first_size[1]}; expected one size for all frames. "
                f"{picture_remedy(path)}"
            )
    assert first_size is not None, "a data set has at least one frame"
    if first_size[0] != first_size[1]:
        raise ValueError(
            f"{layout.frame(frames[0])} has {first_size[0]}x{first_size[1]} pixels; expected a "
            "square. Crop the video around the head and make a new data set of it in an empty "
            "folder with `gaussiantalker process`."
        )
    return first_size[0]


def _check_present(layout: DatasetLayout, frames: Sequence[int]) -> None:
    """Look for every picture; torso layers may lack all, as they can be made of the others."""
    required = [(layout.frames_dir, JPEG_ENDINGS), (layout.parsing_dir, (".png",))]
    if has_torso_layers(layout):
        required.append((layout.torso_dir, (".png",)))
    for folder, endings in required:
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        missing = [
            frame for frame in frames if not any(f"{frame}{ending}" in names for ending in endings)
        ]
        if missing:
            raise FileNotFoundError(
                f"{folder} lacks {len(missing)} of {len(frames)} pictures, the first is "
                f"{missing[0]}{endings[0]}; expected one for every frame of transforms_*.json. "
                f"{picture_remedy(folder / 'x')}"
            )


def has_torso_layers(layout: DatasetLayout) -> bool:
    """Whether a data set brings its torso layers; AD-NeRF's and some copies have none.

    Those that `process` made have them, and must be complete.
    """
    return layout.talker.exists() or any(layout.torso_dir.glob("*.png"))


def _header_size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            size = image.size
    except (UnidentifiedImageError, OSError) as error:
        raise damaged_picture(path, "no picture that can be opened", picture_remedy) from error
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - JPEG_TAIL_BYTES, 0))
        check_jpeg_end(file.read(), path, picture_remedy)
    return size


def picture_remedy(path: Path) -> str:
    """What to do about a picture: it lies in the data set, or in a folder of it."""
    root = path.parent if path.stem == "bc" else path.parent.parent
    step = {"ori_imgs": "video", "parsing": "segmentation"}.get(path.parent.name, "layers")
    return DatasetLayout(root).remedy(step, FOREIGN_PICTURES)
