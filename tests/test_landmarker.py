"""One person is followed through all frames, gaps are filled, measures mean what they say."""

import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from gaussiantalker_ns.face import landmarker as landmarks_module
from gaussiantalker_ns.face.fan import detect_points68
from gaussiantalker_ns.face.interpolation import fill_gaps, fill_poses
from gaussiantalker_ns.face.landmarker import (
    Face,
    FaceLandmarker,
    LandmarkConfig,
    Landmarks,
    detect_landmarks,
    hidden_stderr,
)
from gaussiantalker_ns.face.measures import blink, eye_aspect_ratio, mouth_opening, mouth_width
from gaussiantalker_ns.face.subject import choose_person, closest_face
from gaussiantalker_ns.face.topology import LEFT_EYE_CONTOUR, RIGHT_EYE_CONTOUR
from gaussiantalker_ns.files import read_grey, read_rgb


def box(x: float, y: float, side: float) -> np.ndarray:
    return np.array([x, y, x + side, y + side], np.float32)


# The choice of the person.


def test_largest_person_is_followed_although_the_order_changes():
    left = [box(10 + frame, 50, 40) for frame in range(10)]
    right = [box(200 - frame, 50, 60) for frame in range(10)]
    frames = [
        [first, second] if frame % 2 else [second, first]
        for frame, (first, second) in enumerate(zip(left, right))
    ]
    assert choose_person(frames) == [0 if frame % 2 == 0 else 1 for frame in range(10)]


def test_passer_by_is_not_followed():
    frames = [[box(100, 100, 50)] for _ in range(30)]
    for frame in range(10, 14):
        frames[frame].append(box(250 + 20 * (frame - 10), 80, 90))
    assert choose_person(frames) == [0] * 30


def test_person_is_found_again_after_a_gap():
    frames = [[box(100, 100, 50)] for _ in range(10)]
    frames[4] = []
    frames[5] = [box(400, 100, 20)]  # Somebody else.
    assert choose_person(frames) == [0, 0, 0, 0, None, None, 0, 0, 0, 0]
    assert choose_person([[], []]) == [None, None]


def test_closest_face():
    boxes = [box(0, 0, 10), box(30, 0, 10)]
    assert closest_face(boxes, box(28, 0, 10)) == 1
    assert closest_face(boxes, box(200, 0, 10)) is None
    assert closest_face([], box(0, 0, 10)) is None


# Gaps.


def test_fill_gaps_worked_example():
    valid = np.array([False, True, False, False, True, False])
    values = np.array([9, 1, 9, 9, 4, 9], np.float32)
    filled = fill_gaps(values, valid)
    assert filled.tolist() == [1, 1, 2, 3, 4, 4]
    assert filled.dtype == np.float32
    np.testing.assert_array_equal(fill_gaps(values, np.ones(6, bool)), values)


def test_fill_poses_turns_steadily():
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[4, :3, :3] = Rotation.from_euler("y", 40, degrees=True).as_matrix()
    poses[4, :3, 3] = [4, 0, 8]
    poses[1:4, :3] = np.nan
    filled = fill_poses(poses, np.array([True, False, False, False, True]))
    angles = np.degrees(Rotation.from_matrix(filled[:, :3, :3]).magnitude())
    np.testing.assert_allclose(angles, [0, 10, 20, 30, 40], atol=1e-6)
    np.testing.assert_allclose(filled[:, 2, 3], [0, 2, 4, 6, 8])
    np.testing.assert_allclose(filled[:, 3], [[0, 0, 0, 1]] * 5)


def test_fill_poses_from_a_single_one():
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[1, :3, :3] = Rotation.from_euler("x", 10, degrees=True).as_matrix()
    filled = fill_poses(poses, np.array([False, True, False]))
    np.testing.assert_allclose(filled, poses[[1, 1, 1]])


# Detection, with a stand-in that reads faces off the picture: every pixel of red is one.


class FakeLandmarker(FaceLandmarker):
    """Sees a face of 20 pixels at every pure red pixel; in small pictures also at dark ones."""

    def __init__(self, _: LandmarkConfig | None = None) -> None:
        pass

    def __enter__(self) -> "FakeLandmarker":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def detect(self, image: np.ndarray) -> list[Face]:
        red = np.argwhere((image[..., 0] > 200) & (image[..., 1] == 0))
        if image.shape[0] < 90:  # A second look at a part of the picture.
            red = np.argwhere((image[..., 0] > 90) & (image[..., 1] == 0))
        faces = []
        for row, column in red:
            points = np.zeros((478, 3), np.float32)
            points[:, 0] = np.linspace(column - 10, column + 10, 478)
            points[:, 1] = np.linspace(row - 10, row + 10, 478)
            faces.append(Face(points, np.full(52, column / 100, np.float32)))
        return faces


def write_frames(folder: Path, marks: list[list[tuple[int, int, int]]]) -> list[Path]:
    """One 100 px picture a frame; marks are (x, y, red)."""
    paths = []
    for frame, dots in enumerate(marks):
        picture = np.full((100, 100, 3), 60, np.uint8)
        for x, y, red in dots:
            picture[y, x] = (0, 0, red)  # OpenCV writes blue first.
        paths.append(folder / f"{frame}.png")
        cv2.imwrite(str(paths[-1]), picture)
    return paths


def test_frames_without_a_face_keep_their_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(landmarks_module, "FaceLandmarker", FakeLandmarker)
    marks = [[(40, 50, 255)], [(42, 50, 255)], [], [(46, 50, 255)], [(48, 50, 255)]]
    counts: list[int] = []
    config = LandmarkConfig(num_workers=2)
    found = detect_landmarks(write_frames(tmp_path, marks), config, counts.append)
    assert found.valid.tolist() == [True, True, False, True, True]
    np.testing.assert_allclose(found.points[:, :, 0].mean(1), [40, 42, 44, 46, 48], atol=0.01)
    np.testing.assert_allclose(found.blendshapes[:, 0], [0.40, 0.42, 0.44, 0.46, 0.48], atol=1e-6)
    assert counts == [1, 2, 3, 4, 5]


def test_overlooked_face_is_found_at_the_second_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(landmarks_module, "FaceLandmarker", FakeLandmarker)
    marks = [[(40, 50, 255)], [(43, 55, 100)], [(46, 50, 255)]]
    found = detect_landmarks(write_frames(tmp_path, marks))
    assert found.valid.all()
    assert found.points[1].mean(0)[:2] == pytest.approx([43, 55], abs=0.01)


def test_no_face_in_any_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(landmarks_module, "FaceLandmarker", FakeLandmarker)
    with pytest.raises(ValueError, match="No face was found in any of the 3 frames"):
        detect_landmarks(write_frames(tmp_path, [[], [], []]))


def test_the_real_landmarker_sees_no_face_in_noise(tmp_path: Path, capfd: pytest.CaptureFixture):
    """The model of the package loads, runs in two threads, is quiet and invents nothing."""
    noise = np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)
    paths = [tmp_path / f"{frame}.png" for frame in range(3)]
    for path in paths:
        cv2.imwrite(str(path), noise)
    with pytest.raises(ValueError, match="No face was found in any of the 3 frames"):
        detect_landmarks(paths, LandmarkConfig(num_workers=2))
    assert "WARNING" not in capfd.readouterr().err


def test_landmarks_survive_saving(tmp_path: Path):
    rng = np.random.default_rng(0)
    saved = Landmarks(
        rng.normal(size=(3, 478, 3)).astype(np.float32),
        rng.uniform(size=(3, 52)).astype(np.float32),
        np.array([True, False, True]),
    )
    saved.save(tmp_path / "landmarks.npz")
    loaded = Landmarks.load(tmp_path / "landmarks.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["landmarks.npz"]
    for name, value in vars(saved).items():
        np.testing.assert_array_equal(getattr(loaded, name), value)
        assert getattr(loaded, name).dtype == value.dtype


def test_bad_settings():
    with pytest.raises(ValueError, match="max_faces >= 1"):
        LandmarkConfig(max_faces=0)


def test_damaged_frame_is_named(tmp_path: Path):
    path = tmp_path / "7.jpg"
    path.write_bytes(b"no picture")
    for read in (read_rgb, read_grey):
        with pytest.raises(ValueError, match=r"7.jpg holds a JPEG without its end.*Run the video"):
            read(path)
        with pytest.raises(FileNotFoundError, match=r"8.jpg does not exist.*Run the video"):
            read(tmp_path / "8.jpg")


def test_rgb_order(tmp_path: Path):
    path = tmp_path / "0.png"
    cv2.imwrite(str(path), np.full((4, 4, 3), (10, 20, 30), np.uint8))
    assert read_rgb(path)[0, 0].tolist() == [30, 20, 10]


def test_native_output_is_shown_only_on_failure(capfd: pytest.CaptureFixture):
    import os

    with hidden_stderr():
        os.write(2, b"chatter\n")
    assert capfd.readouterr().err == ""

    def fail() -> None:
        with hidden_stderr():
            os.write(2, b"reason\n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert "reason" in capfd.readouterr().err


# Measures.


def face_points(eye_height: float = 6, mouth_height: float = 0) -> np.ndarray:
    """Eyes 20 px wide, outer corners 80 px apart, mouth 40 px wide."""
    points = np.zeros((478, 3), np.float32)
    for indices, x in ((RIGHT_EYE_CONTOUR, 0), (LEFT_EYE_CONTOUR, 60)):
        corner, upper1, upper2, other, lower2, lower1 = indices
        points[corner, :2], points[other, :2] = (x, 50), (x + 20, 50)
        for upper, lower, dx in ((upper1, lower1, 5), (upper2, lower2, 15)):
            points[upper, :2] = x + dx, 50 - eye_height / 2
            points[lower, :2] = x + dx, 50 + eye_height / 2
    points[13, :2], points[14, :2] = (40, 100 - mouth_height / 2), (40, 100 + mouth_height / 2)
    points[61, :2], points[291, :2] = (20, 100), (60, 100)
    return points


def test_measures_worked_example():
    points = face_points(eye_height=6, mouth_height=16)[None]
    assert eye_aspect_ratio(points)[0] == pytest.approx(0.3)
    assert mouth_opening(points)[0] == pytest.approx(0.2)
    assert mouth_width(points)[0] == pytest.approx(0.5)
    for measure in (eye_aspect_ratio, mouth_opening, mouth_width):
        assert measure(3 * points)[0] == pytest.approx(measure(points)[0])


def test_blink_is_one_when_closed_and_zero_when_open():
    heights = np.full(200, 6.0)
    heights[50:53] = 1.6  # The ratio of closed eyes.
    heights[120] = 3.8  # Half-way.
    points = np.stack([face_points(height) for height in heights])
    closed = blink(points)
    assert closed[51] == pytest.approx(1, abs=1e-3)
    assert closed[120] == pytest.approx(0.5, abs=1e-3)
    assert closed[[0, 49, 53, 199]] == pytest.approx(0, abs=1e-6)


# FAN.


class FakeFan:
    """Stands for face_alignment.FaceAlignment."""

    def __init__(self, kind: str, **options: object) -> None:
        assert (kind, options["compile"]) == ("2D", False)

    def get_landmarks(self, image: np.ndarray) -> list[np.ndarray] | None:
        if image[0, 0, 0] < 50:
            return None
        small, large = np.zeros((68, 2)), np.zeros((68, 2))
        small[:, 0], large[:, 0] = np.linspace(0, 10, 68), np.linspace(50, 90, 68)
        return [small, large + image[0, 0, 0]]


def install_fan(monkeypatch: pytest.MonkeyPatch, detector: object) -> None:
    kinds = SimpleNamespace(TWO_D="2D")
    package = SimpleNamespace(FaceAlignment=detector, LandmarksType=kinds)
    monkeypatch.setitem(sys.modules, "face_alignment", package)


def test_fan_follows_the_largest_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    install_fan(monkeypatch, FakeFan)
    paths = []
    for frame, level in enumerate((100, 0, 104)):
        paths.append(tmp_path / f"{frame}.png")
        cv2.imwrite(str(paths[-1]), np.full((8, 8, 3), level, np.uint8))
    found = detect_points68(paths)
    assert found.points.shape == (3, 68, 2)
    assert found.valid.tolist() == [True, False, True]
    np.testing.assert_allclose(found.points[:, 0, 0], [150, 152, 154])


def test_fan_not_installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "face_alignment", None)
    with pytest.raises(ValueError, match=r"pip install 'gaussiantalker-ns\[fan\]'"):
        detect_points68([])


def test_fan_without_its_models(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    install_fan(monkeypatch, fail)
    with pytest.raises(ValueError, match=r"2DFAN4-11f355bf06\.pth\.tar in \$TORCH_HOME"):
        detect_points68([])
