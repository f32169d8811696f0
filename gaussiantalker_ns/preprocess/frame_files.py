"""Reading the frames of a data set, with an error that names the file."""

import os
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8


def _read(path: Path, flags: int) -> np.ndarray:
    image = cv2.imread(str(path), flags)
    if image is None:
        raise ValueError(
            f"{path} is missing or cannot be decoded; expected an 8-bit picture. "
            "Run the video step of `gaussiantalker process` again with --overwrite."
        )
    return image


def read_rgb(path: Path) -> UInt8[np.ndarray, "h wd 3"]:
    """Read a picture as RGB.

    Raises:
        ValueError: the file is missing or no picture.
    """
    return np.ascontiguousarray(_read(path, cv2.IMREAD_COLOR)[..., ::-1])


def read_grey(path: Path) -> UInt8[np.ndarray, "h wd"]:
    """Read a picture as luma.

    Raises:
        ValueError: the file is missing or no picture.
    """
    return _read(path, cv2.IMREAD_GRAYSCALE)


def default_workers(num_workers: int) -> int:
    """Threads to use: the given number, or for 0 one per core up to 4."""
    return num_workers or min(os.cpu_count() or 1, 4)
