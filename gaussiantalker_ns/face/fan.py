"""The 68 iBUG landmarks by FAN, as the research code uses them; needs the extra `[fan]`.

They replace the 68 points that are otherwise picked from the 478 of the face landmarker (files
`ori_imgs/{i}.lms`). Head tracking always uses the dense landmarks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32

from gaussiantalker_ns.face.interpolation import fill_gaps
from gaussiantalker_ns.face.subject import choose_person, follow_person
from gaussiantalker_ns.files import read_rgb

NUM_POINTS = 68


@dataclass
class Points68:
    """iBUG landmarks of a clip; rows that are not valid hold values interpolated over time."""

    points: Float32[np.ndarray, "b 68 2"]
    """Pixels, x to the right, y down."""
    valid: Bool[np.ndarray, " b"]
    """Whether a face was found in the frame."""


def load_face_alignment(device: str) -> Any:
    """Build the FAN detector.

    Raises:
        ValueError: the package or its model files are missing.
    """
    try:
        import face_alignment  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(
            "--landmarks face-alignment needs the package face-alignment, which is not installed. "
            "Run `pip install 'gaussiantalker-ns[fan]'`, or use the default --landmarks mediapipe."
        ) from error
    try:
        return face_alignment.FaceAlignment(
            face_alignment.LandmarksType.TWO_D, flip_input=False, device=device, compile=False
        )
    except OSError as error:  # urllib's URLError is one.
        raise ValueError(
            f"face-alignment could not load its models ({error}); expected s3fd-619a316812.pth and "
            "2DFAN4-11f355bf06.pth.tar in $TORCH_HOME/hub/checkpoints, or a network connection to "
            "download them. Put the files there, or use the default --landmarks mediapipe."
        ) from error


def detect_points68(
    image_paths: Sequence[Path],
    device: str = "cpu",
    progress: Callable[[int], None] | None = None,
    subject: Sequence[Sequence[int]] = (),
) -> Points68:
    """Find the 68 points of the person with the largest face in every frame.

    Args:
        image_paths: The pictures of frames 0 to N-1 in order.
        device: Torch device to run on.
        progress: Called with the number of frames done.
        subject: Where another person to follow was seen: rows of frame, x0, y0, x1, y1.

    Raises:
        ValueError: the extra is not installed, a model is missing, or no frame shows a face.
    """
    detector = load_face_alignment(device)
    found: list[list[Float32[np.ndarray, "68 2"]]] = []
    for path in image_paths:
        faces = detector.get_landmarks(read_rgb(path)) or []
        found.append([np.asarray(face, np.float32) for face in faces])
        if progress:
            progress(len(found))
    boxes = [[np.concatenate([f.min(axis=0), f.max(axis=0)]) for f in faces] for faces in found]
    choice = follow_person(boxes, subject) if len(subject) else choose_person(boxes)
    valid = np.array([index is not None for index in choice], bool)
    if not valid.any():
        raise ValueError(
            f"face-alignment found no face in any of the {len(found)} frames of "
            f"{image_paths[0].parent}; expected one person who looks towards the camera. Choose "
            "another part of the video with --start and --end."
        )
    points = np.zeros((len(found), NUM_POINTS, 2), np.float32)
    for frame, index in enumerate(choice):
        if index is not None:
            points[frame] = found[frame][index]
    return Points68(fill_gaps(points, valid), valid)
