"""Scan of a video: how the picture changes and where faces are, on small copies of it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from jaxtyping import UInt8

from gaussiantalker_ns.face.landmarker import FaceLandmarker
from gaussiantalker_ns.face.subject import Box, box_side
from gaussiantalker_ns.preprocess.video.shots import Shots, changed_fraction, find_shots
from gaussiantalker_ns.timebase import FPS
from gaussiantalker_ns.video.reader import ConstantFpsReader, upright_rgb

SCAN_SIDE = 384
"""Shorter side in pixels of the copies that are looked at."""
FACE_INTERVAL = 12
"""Faces are looked for in every so many frames."""
HEAD_AND_SHOULDERS = 2.4
"""Side of the part in which cuts are looked for, in face box sides."""
LONG = 1.2
"""Ratio of the sides from which on a picture without a face is searched again in square pieces."""
SMALLER_PIECES = 2
"""Where that finds nothing either, the pieces are this much smaller than the shorter side."""
OTHERS_INTERVAL = 4
"""Small faces beside a large one are looked for in every so many of the searched pictures."""
OTHER_FACE = 0.7
"""Least distance of the boxes of two faces, in sides of the larger: a piece of the picture that
holds half a face shows another box of it."""
THUMB_SIDE = 16
"""Side of the copies by which whole scenes are compared."""


@dataclass
class Scan:
    """What a first pass over a video found."""

    start: int
    """First frame looked at, counted at 25 a second."""
    stop: int
    """Frame behind the last one."""
    shots: Shots
    """Cuts and jumps."""
    faces: dict[int, list[Box]] = field(default_factory=dict)
    """Face boxes x0, y0, x1, y1 in source pixels of every frame that was searched."""
    small_faces: dict[int, list[Box]] = field(default_factory=dict)
    """The same for frames in which faces much smaller than the picture were looked for, too."""
    thumbs: UInt8[np.ndarray, "b t t 3"] = field(
        default_factory=lambda: np.zeros((0, THUMB_SIDE, THUMB_SIDE, 3), np.uint8)
    )
    """A tiny copy of every frame from `start` to `stop`."""
    size: tuple[int, int] = (0, 0)
    """Width and height of the source picture in pixels."""

    def faces_between(self, first: int, last: int) -> list[list[Box]]:
        """The faces of the searched frames from `first` to `last` (exclusive)."""
        return [boxes for frame, boxes in self.faces.items() if first <= frame < last]


def square_pieces(height: int, width: int, side: int) -> list[tuple[int, int]]:
    """Upper left corners of squares that cover a picture, neighbours half over each other.

    Example: a picture of 100 x 200 pixels and squares of 100 pixels give x = 0, 50 and 100.
    """

    def starts(length: int) -> list[int]:
        count = max(round(2 * (length - side) / side), 1 if length > side else 0) + 1
        return np.linspace(0, length - side, count).astype(int).tolist()

    return [(x, y) for y in starts(height) for x in starts(width)]


def faces_in_pieces(
    landmarker: FaceLandmarker, image: UInt8[np.ndarray, "h wd 3"], side: int
) -> list[Box]:
    """Find face boxes in square pieces of a picture, in which a small face is larger."""
    found: list[Box] = []
    height, width = image.shape[:2]
    for x, y in square_pieces(height, width, side):
        for face in landmarker.detect(image[y : y + side, x : x + side]):
            box = face.box + np.array([x, y, x, y], np.float32)
            # Pieces overlap, so the same face may come twice.
            if all(apart(box, other) for other in found):
                found.append(box)
    return found


def apart(first: Box, second: Box) -> bool:
    """Whether two boxes are about different faces."""
    distance = float(np.linalg.norm((first[:2] + first[2:] - second[:2] - second[2:]) / 2))
    return distance > OTHER_FACE * max(box_side(first), box_side(second))


def find_faces(landmarker: FaceLandmarker, image: UInt8[np.ndarray, "h wd 3"]) -> list[Box]:
    """Find face boxes; a picture that seems to have none is searched again in square pieces."""
    faces = [face.box for face in landmarker.detect(image)]
    shorter, longer = sorted(image.shape[:2])
    if not faces and longer >= LONG * shorter:
        faces = faces_in_pieces(landmarker, image, shorter)
    return faces or faces_in_pieces(landmarker, image, shorter // SMALLER_PIECES)


def find_small_faces(
    landmarker: FaceLandmarker, image: UInt8[np.ndarray, "h wd 3"], known: list[Box]
) -> list[Box]:
    """Smaller faces that stand apart from the known ones; none if none is known."""
    if not known:
        return []
    found = faces_in_pieces(landmarker, image, min(image.shape[:2]) // SMALLER_PIECES)
    return [box for box in found if all(apart(box, other) for other in known)]


def shows_face(grid: ConstantFpsReader, start: int = 0, stop: int | None = None) -> bool:
    """Whether a face is found in any of the pictures that `scan_video` searches; ends at the first.

    Args:
        grid: The video.
        start: First frame.
        stop: Frame behind the last one; None goes to the end.
    """
    scale = min(SCAN_SIDE / min(grid.width, grid.height), 1.0)
    height, width = round(grid.height * scale), round(grid.width * scale)
    with FaceLandmarker() as landmarker:
        return any(
            bool(find_faces(landmarker, upright_rgb(frame, height, width)))
            for index, frame in grid.frames(start, stop)
            if (index - start) % FACE_INTERVAL == 0
        )


def region_around(boxes: list[Box], width: int, height: int) -> tuple[int, int, int, int] | None:
    """Head and shoulders around the largest face, cut to the picture; None without a face."""
    if not boxes:
        return None
    x0, y0, x1, y1 = max(boxes, key=lambda box: float(box[2] - box[0]))
    half = HEAD_AND_SHOULDERS / 2 * max(x1 - x0, y1 - y0)
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return (
        int(max(x - half, 0)),
        int(max(y - half, 0)),
        int(np.ceil(min(x + half, width))),
        int(np.ceil(min(y + half, height))),
    )


def scan_video(
    grid: ConstantFpsReader,
    start: int = 0,
    stop: int | None = None,
    progress: Callable[[int], None] | None = None,
    all_faces: bool = False,
) -> Scan:
    """Look at frames `start` to `stop` (exclusive) of a video.

    Args:
        grid: The video.
        start: First frame.
        stop: Frame behind the last one; None goes to the end.
        progress: Called with the number of frames looked at.
        all_faces: Whether small faces beside a large one are looked for in all searched frames.

    Raises:
        ValueError: the video has no frame there.
    """
    scale = min(SCAN_SIDE / min(grid.width, grid.height), 1.0)
    width, height = round(grid.width * scale), round(grid.height * scale)
    faces: dict[int, list[Box]] = {}
    small_faces: dict[int, list[Box]] = {}
    thumbs: list[UInt8[np.ndarray, "t t 3"]] = []
    changes: list[float] = []
    before: UInt8[np.ndarray, "h wd 3"] | None = None
    region = None
    index = start - 1
    with FaceLandmarker() as landmarker:
        for index, frame in grid.frames(start, stop):
            image = upright_rgb(frame, height, width)
            if (index - start) % FACE_INTERVAL == 0:
                found = find_faces(landmarker, image)
                region = region_around(found, width, height) or region
                others = []
                if all_faces or (index - start) % (OTHERS_INTERVAL * FACE_INTERVAL) == 0:
                    others = find_small_faces(landmarker, image, found)
                    small_faces[index] = [box / np.float32(scale) for box in [*found, *others]]
                found += others if all_faces else []
                faces[index] = [box / np.float32(scale) for box in found]
            thumbs.append(cv2.resize(image, (THUMB_SIDE, THUMB_SIDE), interpolation=cv2.INTER_AREA))
            if before is not None:
                changes.append(changed_fraction(before, image, region))
            before = image
            if progress:
                progress(index - start + 1)
    if index < start:
        raise ValueError(
            f"{grid.path} ends before --start {start / FPS:.1f} s; expected a start inside "
            "the video."
        )
    return Scan(
        start=start,
        stop=index + 1,
        shots=find_shots(np.array(changes), start),
        faces=faces,
        small_faces=small_faces,
        thumbs=np.stack(thumbs),
        size=(grid.width, grid.height),
    )
