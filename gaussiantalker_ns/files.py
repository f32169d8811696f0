"""Files on disk: checksums, and texts and pictures that are whole or not there."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

HASH_BLOCK_BYTES = 1 << 20
"""Bytes of a file in memory at a time."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as hexadecimal digits, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file under a temporary name beside its place and rename it.

    An interruption leaves what was there before; the folder must exist.
    """
    partial = path.with_name(f".partial-{path.name}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def write_image(
    path: Path, image: UInt8[np.ndarray, "h wd c"], options: Sequence[int] = ()
) -> None:
    """Write an RGB or RGBA picture under a temporary name beside its place and rename it.

    Args:
        path: Its ending decides the format; the folder must exist.
        image: The picture, uint8.
        options: Pairs of a flag of OpenCV's encoder and its value.

    Raises:
        OSError: If it cannot be written, for example because the disk is full.
    """
    import cv2

    code = cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    # Not `imwrite`, which reports success where the disk is full before the last few kilobytes.
    done, encoded = cv2.imencode(path.suffix, cv2.cvtColor(image, code), options)
    assert done, f"OpenCV could not encode {path.name}"
    partial = path.with_name(f".partial-{path.name}")
    try:
        partial.write_bytes(encoded.data)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(
            f"{path} could not be written ({error.strerror}). Check the free space and the rights"
            " there."
        ) from error
