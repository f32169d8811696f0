"""Frame pairs: a rendered frame, the real one, and the regions in which they are compared."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gaussiantalker_ns.dataparsers.signals import boxes_from_points68
from gaussiantalker_ns.face.landmarker import Face
from gaussiantalker_ns.face.topology import IBUG68_FROM_MESH
from gaussiantalker_ns.metrics.image import Box, crop
from gaussiantalker_ns.video.reader import ConstantFpsReader, upright_rgb

REGIONS = ("face", "head", "frame")
"""Face box (primary, as in the paper), head mask, whole frame."""

MASKED = 0.5
"""Head masks count from here on where a region needs a yes or no."""


def region_key(region: str, name: str) -> str:
    """Key of a value in a region. ("face", "psnr") -> "face_psnr", ("frame", "psnr") -> "psnr"."""
    return name if region == "frame" else f"{region}_{name}"


@dataclass(frozen=True)
class FramePair:
    """One rendered frame with the real one at the same size, both in [0, 1]."""

    frame: int
    """Number of the frame in the clip, 25 a second."""
    rendered: Float[Tensor, "h wd 3"]
    real: Float[Tensor, "h wd 3"]
    boxes: Mapping[str, Box] = field(default_factory=dict)
    """Boxes `face`, `lips` and `eyes` in the real frame; empty until they are found."""
    head_mask: Float[Tensor, "h wd"] | None = None
    """Fraction of the head in every pixel; None where nobody knows it."""
    rendered_face: Face | None = None
    """What the face landmarker found in the render."""
    real_face: Face | None = None
    """What it found in the real frame."""

    @cached_property
    def rendered_pixels(self) -> UInt8[np.ndarray, "h wd 3"]:
        """The render in 8 bits, on the CPU."""
        return to_pixels(self.rendered)

    @cached_property
    def real_pixels(self) -> UInt8[np.ndarray, "h wd 3"]:
        """The real frame in 8 bits, on the CPU."""
        return to_pixels(self.real)

    @cached_property
    def regions(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Render and real frame inside each region that this frame has.

        The head's pictures are the bounding box of its mask; what is not head shows the real frame
        in both, so that only the head can differ.
        """
        found = {"frame": (self.rendered, self.real)}
        if "face" in self.boxes:
            found["face"] = (
                crop(self.rendered, self.boxes["face"]),
                crop(self.real, self.boxes["face"]),
            )
        if self.head_mask is not None and bool((self.head_mask >= MASKED).any()):
            box = mask_box(self.head_mask)
            inside = crop((self.head_mask >= MASKED)[..., None].expand_as(self.real).float(), box)
            rendered, real = crop(self.rendered, box), crop(self.real, box)
            found["head"] = torch.where(inside > 0, rendered, real), real
        return {name: found[name] for name in REGIONS if name in found and found[name][0].numel()}


def to_pixels(image: Float[Tensor, "h wd 3"]) -> UInt8[np.ndarray, "h wd 3"]:
    """Round colours in [0, 1] to 8 bits. (0.5) -> 128."""
    return (image.detach().clamp(0, 1) * 255 + 0.5).byte().cpu().numpy()


def from_pixels(image: UInt8[np.ndarray, "h wd 3"]) -> Float[Tensor, "h wd 3"]:
    """Colours in [0, 1]. (255) -> 1.0."""
    return torch.from_numpy(image).float() / 255.0


def mask_box(mask: Float[Tensor, "h wd"]) -> tuple[int, int, int, int]:
    """Bounding box x0, y0, x1, y1 (ends exclusive) of a mask that is not empty."""
    inside = (mask >= MASKED).cpu().numpy()
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def boxes_of_face(face: Face, size: int) -> dict[str, tuple[int, int, int, int]]:
    """Boxes of face, lips and eyes, as the data parser makes them, from found landmarks."""
    points = face.points[list(IBUG68_FROM_MESH), :2].astype(np.float64)
    boxes = boxes_from_points68(points[None], size)
    return {
        name: (int(box[0, 0]), int(box[0, 1]), int(box[0, 2]), int(box[0, 3]))
        for name, box in boxes.items()
    }


def video_frames(
    path: Path, num_frames: int | None = None
) -> Iterator[UInt8[np.ndarray, "h wd 3"]]:
    """Decode a video at 25 frames a second, one picture at a time.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no video.
    """
    grid = ConstantFpsReader(path)
    for _, picture in grid.frames(0, num_frames):
        yield upright_rgb(picture, grid.height, grid.width)


def count_frames(path: Path, most: int | None = None) -> int:
    """How many frames `video_frames` yields: by decoding, as what a file declares may be wrong."""
    return sum(1 for _ in ConstantFpsReader(path).frames(0, most))


def video_pairs(rendered: Path, real: Path, num_frames: int | None = None) -> Iterator[FramePair]:
    """The frames of two videos that show the same, in step.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: one is no video, or they differ in size or length.
    """
    grids = ConstantFpsReader(rendered), ConstantFpsReader(real)
    sizes = [f"{grid.width}x{grid.height}" for grid in grids]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"{rendered} has {sizes[0]} pixels and {real} {sizes[1]}; expected one size. Scale one"
            " of them first."
        )
    streams = video_frames(rendered, num_frames), video_frames(real, num_frames)
    for frame, (first, second) in enumerate(zip_longest(*streams)):
        if first is None or second is None:
            shorter = rendered if first is None else real
            raise ValueError(
                f"{shorter} ends after {frame} frames at 25 a second, the other video goes on;"
                " expected the same frames in both. Cut them, or give --max-frames."
            )
        yield FramePair(frame, from_pixels(first), from_pixels(second))


def fitted(
    image: UInt8[np.ndarray, "h wd 3"], height: int, width: int
) -> UInt8[np.ndarray, "h2 wd2 3"]:
    """A picture at another size, without margins."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = image.shape[0] > height
    return cv2.resize(
        image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    )
