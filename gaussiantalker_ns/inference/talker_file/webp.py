"""WebP pictures of a talker file: written, measured by their headers, and then decoded."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from gaussiantalker_ns.inference.talker_file.archive import wrong

LOSSLESS = 101
"""OpenCV's quality of a lossless WebP."""

VP8_START = b"\x9d\x01\x2a"
"""Mark of a key frame."""

LOSSLESS_MARK = 0x2F
SIDE_BITS = 0x3FFF
"""Fourteen bits hold a side."""


def encode(image: UInt8[np.ndarray, "h wd c"], quality: int = LOSSLESS) -> bytes:
    """Encode an RGB or RGBA picture; the alpha is kept exactly.

    Args:
        image: The picture; straight alpha.
        quality: 1 to 100, or 101 for a lossless file.
    """
    code = cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    done, encoded = cv2.imencode(
        ".webp", cv2.cvtColor(image, code), [cv2.IMWRITE_WEBP_QUALITY, quality]
    )
    assert done, "OpenCV encodes WebP"
    return encoded.tobytes()


def sides_of(data: memoryview) -> tuple[int, int] | None:
    """Width and height of a still WebP picture by its headers; None if it is none.

    All headers that state a size have to agree, because decoders believe any of them.
    """
    if len(data) < 20 or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    if int.from_bytes(data[4:8], "little") + 8 != len(data):
        return None
    sides, num_pictures, place = set(), 0, 12
    while place + 8 <= len(data):
        kind, size = (
            bytes(data[place : place + 4]),
            int.from_bytes(data[place + 4 : place + 8], "little"),
        )
        body = data[place + 8 : place + 8 + size]
        if len(body) != size:
            return None
        place += 8 + size + size % 2
        if kind == b"VP8X":
            sides.add(canvas_sides(body))
        elif kind in (b"VP8 ", b"VP8L"):
            num_pictures += 1
            sides.add(lossy_sides(body) if kind == b"VP8 " else lossless_sides(body))
        elif kind != b"ALPH":
            return None
    if num_pictures != 1 or len(sides) != 1 or place != len(data):
        return None
    return sides.pop()


def canvas_sides(body: memoryview) -> tuple[int, int] | None:
    """Sides in the header of an extended file; None if it is too short."""
    if len(body) < 10:
        return None
    return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1


def lossy_sides(body: memoryview) -> tuple[int, int] | None:
    """Sides in the first bytes of a lossy picture; None if they are none."""
    if len(body) < 10 or body[3:6] != VP8_START:
        return None
    width, height = (int.from_bytes(body[k : k + 2], "little") & SIDE_BITS for k in (6, 8))
    return width, height


def lossless_sides(body: memoryview) -> tuple[int, int] | None:
    """Sides in the first bytes of a lossless picture; None if they are none."""
    if len(body) < 5 or body[0] != LOSSLESS_MARK:
        return None
    bits = int.from_bytes(body[1:5], "little")
    return (bits & SIDE_BITS) + 1, (bits >> 14 & SIDE_BITS) + 1


def check_sides(
    data: memoryview, width: int, heights: range, name: str, path: Path
) -> tuple[int, int]:
    """Check the size of a picture before anybody decodes it; returns width and height.

    Raises:
        TalkerFileError: It is no WebP picture, or has other sides than expected.
    """
    sides = sides_of(data)
    if sides is None:
        raise wrong(path, f"holds a {name} that is no still WebP picture")
    if sides[0] != width or sides[1] not in heights:
        high = f"{heights[0]}" if len(heights) == 1 else f"{heights[0]} to {heights[-1]}"
        raise wrong(path, f"holds a {name} of {sides[0]}x{sides[1]} pixels, not {width}x{high}")
    return sides


def decode(
    data: memoryview, num_channels: int, name: str, path: Path
) -> UInt8[np.ndarray, "h wd c"]:
    """Decode a picture whose sides were checked, to RGB (3 channels) or RGBA (4).

    Raises:
        TalkerFileError: It cannot be decoded.
    """
    sides = sides_of(data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None or image.dtype != np.uint8 or image.ndim != 3 or sides is None:
        raise wrong(path, f"holds a {name} that cannot be decoded")
    if (image.shape[1], image.shape[0]) != sides:
        raise wrong(path, f"holds a {name} of another size than its header says")
    codes = {
        (3, 3): cv2.COLOR_BGR2RGB,
        (4, 4): cv2.COLOR_BGRA2RGBA,
        (4, 3): cv2.COLOR_BGRA2RGB,
        # A picture without a transparent pixel may be stored without alpha.
        (3, 4): cv2.COLOR_BGR2RGBA,
    }
    return np.asarray(cv2.cvtColor(image, codes[image.shape[2], num_channels]), np.uint8)
