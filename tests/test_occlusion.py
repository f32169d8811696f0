"""Things before the mouth are found by the lower face alone, light and motion are not."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from astronaut_video import astronaut, swaying_motion

from gaussiantalker_ns.face.landmarker import FaceLandmarker, Landmarks
from gaussiantalker_ns.face.occlusion import LEAST_FRAMES, covered_frames, skin_places

SIDE, NUM_FRAMES = 192, 60
Change = Callable[[np.ndarray, int], np.ndarray]


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """Landmarks `[478, 3]` of the astronaut."""
    with FaceLandmarker() as landmarker:
        (found,) = landmarker.detect(astronaut(SIDE))
    return found.points


def clip(folder: Path, face: np.ndarray, change: Change) -> tuple[list[Path], Landmarks]:
    """The swaying astronaut with exact landmarks, every frame changed by `change`."""
    paths, points = [], []
    for index in range(NUM_FRAMES):
        motion = swaying_motion(index, SIDE)
        frame = cv2.warpAffine(astronaut(SIDE), motion, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT)
        paths.append(folder / f"{index}.png")
        cv2.imwrite(str(paths[-1]), change(frame, index)[..., ::-1])
        moved = face.copy()
        moved[:, :2] = face[:, :2] @ motion[:, :2].T + motion[:, 2]
        points.append(moved)
    landmarks = Landmarks(
        np.stack(points).astype(np.float32),
        np.zeros((NUM_FRAMES, 52), np.float32),
        np.ones(NUM_FRAMES, bool),
    )
    return paths, landmarks


def covered(folder: Path, face: np.ndarray, change: Change) -> list[int]:
    paths, landmarks = clip(folder, face, change)
    return np.flatnonzero(covered_frames(paths, landmarks, (), 2)).tolist()


def mouth_of(face: np.ndarray) -> tuple[int, int]:
    return tuple(face[13, :2].astype(int).tolist())


def test_nothing_is_before_a_bare_face(tmp_path: Path, face: np.ndarray):
    assert covered(tmp_path, face, lambda frame, _: frame) == []


def test_a_title_bar_that_is_there_most_of_the_time(tmp_path: Path, face: np.ndarray):
    """Most frames are not always right: the face is what keeps still under the landmarks."""
    _, y = mouth_of(face)
    with_bar = [index for index in range(NUM_FRAMES) if index % 20 < 16]

    def change(frame: np.ndarray, index: int) -> np.ndarray:
        if index in with_bar:
            frame[y - 6 : y + 10, 10:-10] = 0
        return frame

    assert covered(tmp_path, face, change) == with_bar


def test_a_hand_of_the_same_skin(tmp_path: Path, face: np.ndarray):
    x, y = mouth_of(face)
    skin = astronaut(SIDE)[tuple(face[50, 1::-1].astype(int))].tolist()
    with_hand = list(range(20, 32))

    def change(frame: np.ndarray, index: int) -> np.ndarray:
        if index in with_hand:
            cv2.ellipse(frame, (x + index % 3, y), (28, 18), 10, 0, 360, skin, -1, cv2.LINE_AA)
        return frame

    assert covered(tmp_path, face, change) == with_hand


def test_a_microphone(tmp_path: Path, face: np.ndarray):
    x, y = mouth_of(face)

    def change(frame: np.ndarray, index: int) -> np.ndarray:
        if index >= 45:
            cv2.ellipse(frame, (x, y + 12), (10, 22), 0, 0, 360, (30, 30, 34), -1, cv2.LINE_AA)
        return frame

    assert covered(tmp_path, face, change) == list(range(45, NUM_FRAMES))


def test_light_that_changes_is_no_thing(tmp_path: Path, face: np.ndarray):
    """Neither a lamp from one side nor a step of the exposure."""
    from_left = np.linspace(1.25, 0.7, SIDE)[None, :, None]

    def change(frame: np.ndarray, index: int) -> np.ndarray:
        gain = from_left if 15 <= index < 30 else 0.75 if index >= 45 else 1.0
        return np.clip(frame * gain, 0, 255).astype(np.uint8)

    assert covered(tmp_path, face, change) == []


def test_each_shot_is_compared_with_itself(tmp_path: Path, face: np.ndarray):
    """A beard in another shot is no thing, and a short shot tells nothing."""
    x, y = mouth_of(face)

    def change(frame: np.ndarray, index: int) -> np.ndarray:
        if index >= 52:
            cv2.ellipse(frame, (x, y + 6), (24, 16), 0, 0, 360, (40, 30, 25), -1, cv2.LINE_AA)
        return frame

    paths, landmarks = clip(tmp_path, face, change)
    assert covered_frames(paths, landmarks, (), 1)[52:].all()
    assert not covered_frames(paths, landmarks, (52,), 1).any()
    assert NUM_FRAMES - 52 < LEAST_FRAMES


def test_frames_without_a_face_are_neither_judged_nor_believed(tmp_path: Path, face: np.ndarray):
    paths, landmarks = clip(tmp_path, face, lambda frame, i: frame if i < 52 else 0 * frame)
    landmarks.valid[52:] = False
    assert not covered_frames(paths, landmarks, (), 1).any()
    landmarks.valid[10:] = False
    assert not covered_frames(paths, landmarks, (), 1).any()


def test_places_are_apart():
    places = skin_places()
    assert not (places.lower & places.upper).any()
    assert places.lower.sum() > 100 and places.upper.sum() > 50


def test_clear_and_typical_frames():
    points, scores = np.zeros((30, 478, 3), np.float32), np.zeros((30, 52), np.float32)
    landmarks = Landmarks(points, scores, np.arange(30) < 25)
    assert not landmarks.covered.any() and (landmarks.typical == landmarks.valid).all()
    landmarks.covered[:15] = True
    assert np.flatnonzero(landmarks.clear).tolist() == list(range(15, 25))
    assert (landmarks.typical == landmarks.clear).all()
    landmarks.covered[:20] = True  # Too few clear ones are left.
    assert (landmarks.typical == landmarks.valid).all()
