"""Face landmarks of every frame: 478 points and 52 blendshapes of one person, by MediaPipe.

The landmarker runs in IMAGE mode: VIDEO mode low-passes the points, which delays the lips by 16 ms
and takes 9 % off the mouth opening. Frames without a face keep their index; their points are
interpolated and they are marked.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from gaussiantalker_ns.assets import asset_path
from gaussiantalker_ns.face.interpolation import fill_gaps
from gaussiantalker_ns.face.subject import choose_person, closest_face, follow_person
from gaussiantalker_ns.face.topology import NUM_BLENDSHAPES, NUM_LANDMARKS
from gaussiantalker_ns.files import default_workers, read_rgb

RETRY_CROP = 2.2  # Side of the square searched again around an expected face, in face box sides.

LEAST_CLEAR = 10
"""Fewer clear frames say less about a person than those with something before the face."""


@dataclass
class LandmarkConfig:
    """Settings of the landmark step."""

    num_workers: int = 0
    """Threads that run the landmarker, >= 1; 0 takes one per CPU core, at most 4."""
    max_faces: int = 3
    """Faces looked for in a frame, >= 1; the largest person is followed, the others are only there
    to be told apart."""
    min_confidence: float = 0.5
    """Detection and presence score below which a face is not believed, in [0, 1]."""

    def __post_init__(self) -> None:
        if self.num_workers < 0 or self.max_faces < 1 or not 0 <= self.min_confidence <= 1:
            raise ValueError(
                f"num_workers={self.num_workers}, max_faces={self.max_faces} and "
                f"min_confidence={self.min_confidence} are not usable; expected num_workers >= 0, "
                "max_faces >= 1 and a confidence in [0, 1]."
            )


class Face(NamedTuple):
    """One detected face."""

    points: Float32[np.ndarray, "478 3"]
    """Landmarks in pixels; z has the scale of x and is smaller nearer to the camera."""
    blendshapes: Float32[np.ndarray, " 52"]
    """MediaPipe's ARKit-like scores in [0, 1]; index 0 is neutral, 9 and 10 are the blinks, 25 is
    jawOpen."""

    @property
    def box(self) -> Float32[np.ndarray, " 4"]:
        """Bounding box x0, y0, x1, y1 of the points in pixels."""
        xy = self.points[:, :2]
        return np.concatenate([xy.min(axis=0), xy.max(axis=0)])


@dataclass
class Landmarks:
    """Landmarks of a clip, one row a frame; invalid rows hold values interpolated over time."""

    points: Float32[np.ndarray, "b 478 3"]
    """Pixels (x to the right, y down, z away from the camera at the scale of x); pixel centres are
    at .5."""
    blendshapes: Float32[np.ndarray, "b 52"]
    """Scores in [0, 1] in MediaPipe's order."""
    valid: Bool[np.ndarray, " b"]
    """Whether a face was found in the frame."""
    covered: Bool[np.ndarray, " b"] = field(default_factory=lambda: np.zeros(0, bool))
    """Whether something is before the lower half of the face: the points there are a guess."""

    def __post_init__(self) -> None:
        if len(self.covered) != len(self.valid):
            self.covered = np.zeros_like(self.valid)

    @property
    def clear(self) -> Bool[np.ndarray, " b"]:
        """Frames with a face and nothing before it."""
        return self.valid & ~self.covered

    @property
    def typical(self) -> Bool[np.ndarray, " b"]:
        """Frames that show what person and scene look like: clear ones, if there are enough."""
        return self.clear if self.clear.sum() >= LEAST_CLEAR else self.valid

    def save(self, path: Path) -> None:
        """Write an npz file, complete or not at all."""
        partial = path.with_name(f"{path.stem}.partial.npz")
        np.savez(partial, **vars(self))
        os.replace(partial, path)

    @classmethod
    def load(cls, path: Path) -> "Landmarks":
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            return cls(**arrays)  # Early versions did not know what is covered.


class FaceLandmarker:
    """MediaPipe's face landmarker for single RGB pictures; use it in a `with` statement."""

    def __init__(self, config: LandmarkConfig | None = None) -> None:
        from mediapipe.tasks.python import BaseOptions, vision

        config = config or LandmarkConfig()
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(asset_path("face_landmarker.task"))),
            running_mode=vision.RunningMode.IMAGE,
            num_faces=config.max_faces,
            min_face_detection_confidence=config.min_confidence,
            min_face_presence_confidence=config.min_confidence,
            output_face_blendshapes=True,
        )
        with hidden_stderr():
            self._landmarker = vision.FaceLandmarker.create_from_options(options)
            self.detect(np.zeros((64, 64, 3), np.uint8))

    def __enter__(self) -> "FaceLandmarker":
        return self

    def __exit__(self, *_: object) -> None:
        self._landmarker.close()

    def detect(self, image: UInt8[np.ndarray, "h wd 3"]) -> list[Face]:
        """Find all faces of a picture, in the landmarker's order."""
        import mediapipe as mp

        picture = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(image))
        result = self._landmarker.detect(picture)
        height, width = image.shape[:2]
        scale = np.array([width, height, width], np.float32)
        return [
            Face(
                np.array([(point.x, point.y, point.z) for point in points], np.float32) * scale,
                np.array([category.score for category in blendshapes], np.float32),
            )
            for points, blendshapes in zip(result.face_landmarks, result.face_blendshapes)
        ]

    def detect_near(
        self, image: UInt8[np.ndarray, "h wd 3"], box: Float32[np.ndarray, " 4"]
    ) -> list[Face]:
        """Look again in a square around `box`, where a small face fills more of the picture."""
        height, width = image.shape[:2]
        half = RETRY_CROP / 2 * float(max(box[2] - box[0], box[3] - box[1]))
        center = (box[:2] + box[2:]) / 2
        x0, y0 = np.clip((center - half).astype(int), 0, (width - 1, height - 1))
        x1, y1 = np.clip((center + half).astype(int) + 1, (x0 + 1, y0 + 1), (width, height))
        shift = np.array([x0, y0, 0], np.float32)
        return [
            Face(face.points + shift, face.blendshapes) for face in self.detect(image[y0:y1, x0:x1])
        ]


def detect_all(
    image_paths: Sequence[Path],
    config: LandmarkConfig,
    progress: Callable[[int], None] | None = None,
) -> list[list[Face]]:
    """Find the faces of every picture, `config.num_workers` pictures at a time."""
    num_workers = default_workers(config.num_workers)
    found: list[list[Face]] = []
    # The landmarker releases the interpreter lock, so threads use all cores; each call borrows one
    # of the landmarkers.
    idle: SimpleQueue[FaceLandmarker] = SimpleQueue()

    def detect(path: Path) -> list[Face]:
        image = read_rgb(path)
        landmarker = idle.get()
        try:
            return landmarker.detect(image)
        finally:
            idle.put(landmarker)

    with ExitStack() as stack:
        for _ in range(num_workers):
            idle.put(stack.enter_context(FaceLandmarker(config)))
        with ThreadPoolExecutor(num_workers) as pool:
            for faces in pool.map(detect, image_paths):
                found.append(faces)
                if progress:
                    progress(len(found))
    return found


def retry_missing(
    image_paths: Sequence[Path],
    chosen: list[Face | None],
    config: LandmarkConfig,
) -> None:
    """Search frames without the person again where it is expected, and fill in `chosen`."""
    missing = [frame for frame, face in enumerate(chosen) if face is None]
    seen = np.array([face is not None for face in chosen])
    if not missing or not seen.any():
        return
    boxes = np.stack([np.zeros(4, np.float32) if face is None else face.box for face in chosen])
    expected = fill_gaps(boxes, seen)
    with FaceLandmarker(config) as landmarker:
        for frame in missing:
            faces = landmarker.detect_near(read_rgb(image_paths[frame]), expected[frame])
            index = closest_face([face.box for face in faces], expected[frame])
            if index is not None:
                chosen[frame] = faces[index]


def detect_landmarks(
    image_paths: Sequence[Path],
    config: LandmarkConfig | None = None,
    progress: Callable[[int], None] | None = None,
    subject: Sequence[Sequence[int]] = (),
) -> Landmarks:
    """Follow one person, the one with the largest face over the clip, through all frames.

    Args:
        image_paths: The pictures of frames 0 to N-1 in order.
        config: Settings.
        progress: Called with the number of frames done.
        subject: Where another person to follow was seen: rows of frame, x0, y0, x1, y1.

    Raises:
        ValueError: no frame shows a face, or a picture cannot be read.
    """
    config = config or LandmarkConfig()
    found = detect_all(image_paths, config, progress)
    boxes = [[face.box for face in faces] for faces in found]
    choice = follow_person(boxes, subject) if len(subject) else choose_person(boxes)
    chosen = [None if index is None else faces[index] for faces, index in zip(found, choice)]
    retry_missing(image_paths, chosen, config)
    valid = np.array([face is not None for face in chosen], bool)
    if not valid.any():
        raise ValueError(
            f"No face was found in any of the {len(chosen)} frames of {image_paths[0].parent}; "
            "expected one person who looks towards the camera. Choose another part of the video "
            "with --start and --end, or crop to the head with --crop x,y,size."
        )
    absent = Face(np.zeros((NUM_LANDMARKS, 3), np.float32), np.zeros(NUM_BLENDSHAPES, np.float32))
    points = np.stack([(face or absent).points for face in chosen])
    blendshapes = np.stack([(face or absent).blendshapes for face in chosen])
    return Landmarks(fill_gaps(points, valid), fill_gaps(blendshapes, valid), valid)


@contextmanager
def hidden_stderr() -> Iterator[None]:
    """Hold back what native code writes to the error stream; it is shown only if the block fails.

    MediaPipe prints a page of warnings about its own defaults at every start, past Python's
    logging.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        saved = os.dup(2)
        os.dup2(held.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            if failed:
                held.seek(0)
                sys.stderr.write(held.read().decode(errors="replace"))
