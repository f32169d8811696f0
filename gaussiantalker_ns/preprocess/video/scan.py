"""Scan of a video: how the picture changes and where faces are, on small copies of it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, UInt8

from gaussiantalker_ns.face.landmarker import FaceLandmarker
from gaussiantalker_ns.preprocess.video.shots import Shots, changed_fraction, find_shots
from gaussiantalker_ns.timebase import FPS
from gaussiantalker_ns.video.reader import ConstantFpsReader, upright_rgb

SCAN_SIDE = 384
"""Shorter side in pixels of the copies that are looked at."""
FACE_INTERVAL = 12
"""Faces are looked for in every so many frames."""
HEAD_AND_SHOULDERS = 2.4
"""Side of the part in which cuts are looked for, in face box sides."""
WIDE = 1.2
"""Ratio of the sides from which on a picture without a face is searched again in square pieces."""

Box = Float32[np.ndarray, " 4"]


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

    def faces_between(self, first: int, last: int) -> list[list[Box]]:
        """The faces of the searched frames from `first` to `last` (exclusive)."""
        return [boxes for frame, boxes in self.faces.items() if first <= frame < last]


def find_faces(landmarker: FaceLandmarker, image: UInt8[np.ndarray, "h wd 3"]) -> list[Box]:
    """Find face boxes; in a wide picture also in square pieces, in which a small face is larger."""
    faces = [face.box for face in landmarker.detect(image)]
    height, width = image.shape[:2]
    if faces or width < WIDE * height:
        return faces
    for left in (0, (width - height) // 2, width - height):
        for face in landmarker.detect(image[:, left : left + height]):
            faces.append(face.box + np.array([left, 0, left, 0], np.float32))
    return faces


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
) -> Scan:
    """Look at frames `start` to `stop` (exclusive) of a video.

    Raises:
        ValueError: the video has no frame there.
    """
    scale = min(SCAN_SIDE / min(grid.width, grid.height), 1.0)
    width, height = round(grid.width * scale), round(grid.height * scale)
    faces: dict[int, list[Box]] = {}
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
                faces[index] = [box / np.float32(scale) for box in found]
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
    return Scan(start, index + 1, find_shots(np.array(changes), start), faces)
