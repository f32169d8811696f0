"""The files of a data set, against the conventions of the trackers that other projects use."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from gaussiantalker_ns.audio.sync import OffsetEstimate
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.dataparsers.face_mesh import FaceMesh
from gaussiantalker_ns.face.canonical_mesh import canonical_mesh
from gaussiantalker_ns.face.landmarker import Landmarks
from gaussiantalker_ns.preprocess.audio_features import (
    choose_offset,
    describe_offset,
    lip_targets,
    num_train_frames,
    opening_range,
)
from gaussiantalker_ns.preprocess.export import legacy_pose, write_dataset
from gaussiantalker_ns.preprocess.tracking.track import Tracking

NUM_FRAMES = 22
FOCAL, SIDE = 900.0, 512
PIXEL_TOLERANCE = 1e-3


def axis_rotation(axis: int, angle: float) -> np.ndarray:
    """The usual right-handed rotation by a positive angle."""
    return Rotation.from_rotvec(angle * np.eye(3)[axis]).as_matrix()


@pytest.fixture
def tracking() -> Tracking:
    rng = np.random.default_rng(0)
    poses = np.tile(np.eye(4), (NUM_FRAMES, 1, 1))
    small = Rotation.from_rotvec(rng.normal(0, 0.2, (NUM_FRAMES, 3))).as_matrix()
    poses[:, :3, :3] = np.diag([1.0, -1.0, -1.0]) @ small
    poses[:, :3, 3] = (0.01, -0.02, 0.8)
    return Tracking(
        focal=FOCAL,
        cx=SIDE / 2,
        cy=SIDE / 2,
        T_camera_head=poses,
        mesh=canonical_mesh().vertices,
        expression_basis=np.zeros((4, 468, 3)),
        expression=np.zeros((NUM_FRAMES, 4)),
        blink=np.linspace(0, 1, NUM_FRAMES),
        valid=np.arange(NUM_FRAMES) != 7,
        quality={},
    )


@pytest.fixture
def landmarks() -> Landmarks:
    rng = np.random.default_rng(1)
    points = rng.uniform(0, SIDE, (NUM_FRAMES, 478, 3)).astype(np.float32)
    valid = np.arange(NUM_FRAMES) != 7
    return Landmarks(points, rng.random((NUM_FRAMES, 52)).astype(np.float32), valid)


@pytest.fixture
def dataset(tmp_path: Path, tracking: Tracking, landmarks: Landmarks) -> DatasetLayout:
    layout = DatasetLayout(tmp_path)
    layout.frames_dir.mkdir()
    layout.points68(7).write_text("left by an earlier run")
    facts = write_dataset(layout, layout, landmarks, tracking)
    assert facts == {"num_frames": NUM_FRAMES, "invalid_frames": [7]}
    return layout


def test_legacy_pose_projects_as_the_legacy_tracker_does(tracking: Tracking):
    """u = cx - f X / Z, v = cy + f Y / Z with X_c = R X + t, Z < 0, and the unit decimetre."""
    angles, translation = legacy_pose(tracking.T_camera_head)
    frame = 3
    theta, phi, psi = angles[frame]
    rotation = axis_rotation(0, theta).T @ axis_rotation(1, phi).T @ axis_rotation(2, psi).T
    camera = 10 * tracking.mesh @ rotation.T + translation[frame]
    assert (camera[:, 2] < 0).all()
    u = SIDE / 2 - FOCAL * camera[:, 0] / camera[:, 2]
    v = SIDE / 2 + FOCAL * camera[:, 1] / camera[:, 2]
    ours = tracking.project_mesh(frame)
    np.testing.assert_allclose(np.column_stack([u, v]), ours, atol=PIXEL_TOLERANCE)


def test_transforms_hold_split_intrinsics_and_camera_to_head(
    dataset: DatasetLayout, tracking: Tracking
):
    train, val = (json.loads(dataset.transforms(split).read_text()) for split in ("train", "val"))
    assert (train["focal_len"], train["cx"], train["cy"]) == (FOCAL, SIDE / 2, SIDE / 2)
    assert [frame["img_id"] for frame in train["frames"]] == list(range(20))
    assert [frame["aud_id"] for frame in val["frames"]] == [20, 21]
    # "rotation R^T, translation -R^T t / 10" of the legacy tracker's pose.
    angles, translation = legacy_pose(tracking.T_camera_head)
    theta, phi, psi = angles[5]
    rotation = axis_rotation(0, theta).T @ axis_rotation(1, phi).T @ axis_rotation(2, psi).T
    matrix = np.array(train["frames"][5]["transform_matrix"])
    np.testing.assert_allclose(matrix[:3, :3], rotation.T, atol=1e-9)
    np.testing.assert_allclose(matrix[:3, 3], -rotation.T @ translation[5] / 10, atol=1e-9)


def test_track_params_have_the_legacy_keys(dataset: DatasetLayout, tracking: Tracking):
    params = torch.load(dataset.track_params, weights_only=True)
    shapes = {name: list(value.shape) for name, value in params.items()}
    assert shapes == {
        "id": [1, 100],
        "exp": [NUM_FRAMES, 4],
        "euler": [NUM_FRAMES, 3],
        "trans": [NUM_FRAMES, 3],
        "focal": [1],
        "vertices": [1, 468, 3],
    }
    assert all(value.dtype == torch.float32 for value in params.values())
    np.testing.assert_allclose(params["vertices"].mean(0), 10 * tracking.mesh, atol=1e-5)


def test_action_units_look_like_openface(dataset: DatasetLayout):
    lines = dataset.action_units.read_text().splitlines()
    header = lines[0].split(",")
    assert " AU45_r" in header
    assert len(lines) == NUM_FRAMES + 1
    column = header.index(" AU45_r")
    assert float(lines[-1].split(",")[column]) == 2.0
    assert float(lines[1].split(",")[column]) == 0.0


def test_points68_are_rows_of_x_and_y(dataset: DatasetLayout, landmarks: Landmarks):
    points = np.loadtxt(dataset.points68(4))
    assert points.shape == (68, 2)
    # The tip of the nose, and the left corner of the mouth in the picture.
    np.testing.assert_allclose(points[30], landmarks.points[4, 4, :2], atol=PIXEL_TOLERANCE)
    np.testing.assert_allclose(points[48], landmarks.points[4, 61, :2], atol=PIXEL_TOLERANCE)
    assert not dataset.points68(7).exists()


def test_mesh_and_blendshapes(dataset: DatasetLayout, landmarks: Landmarks):
    mesh = FaceMesh.load(dataset.face_mesh)
    assert mesh.vertices.shape == (468, 3)
    assert mesh.triangles is not None and mesh.triangles.max() == 467
    blendshapes = np.load(dataset.blendshapes)
    assert blendshapes.dtype == np.float32
    np.testing.assert_array_equal(blendshapes, landmarks.blendshapes)


def test_split_of_the_obama_clip():
    assert num_train_frames(8000) == 7272


def test_frames_without_a_face_have_no_lips(landmarks: Landmarks):
    targets = lip_targets(landmarks)
    assert np.isnan(targets[7]).all()
    assert np.isfinite(np.delete(targets, 7, axis=0)).all()


def estimate(offset_ms: float, confidence: float) -> OffsetEstimate:
    lags = np.arange(-100.0, 261.0, 20.0)
    error = 10.0 if confidence else np.inf
    return OffsetEstimate(offset_ms, confidence, error, lags, np.zeros_like(lags), 0.001, 500)


def test_offset_is_the_users_else_the_estimate_if_it_is_sure():
    assert choose_offset(estimate(80.0, 0.9), None) == 80
    assert choose_offset(estimate(80.0, 0.1), None) == 0
    assert choose_offset(estimate(80.0, 0.9), -20.0) == -20
    assert choose_offset(estimate(80.0, 0.9), 0.0) == 0


def test_description_of_an_offset_is_json():
    lips = np.array([[0.0, 0.4], [0.1, 0.4], [np.nan, np.nan]], np.float32)
    text = json.dumps(describe_offset(estimate(12.34, 0.0), lips), allow_nan=False)
    assert json.loads(text)["standard_error_ms"] is None
    assert (json.loads(text)["known"], json.loads(text)["foreign"]) == (False, False)


def test_the_opening_range_tells_still_lips_from_moving_ones():
    lips = np.full((100, 2), 0.4, np.float32)
    lips[:, 0] = np.linspace(0.0, 0.2, 100)
    assert opening_range(lips) == pytest.approx(0.18, abs=0.005)
    lips[:, 0] = 0.05
    lips[3, 0], lips[7] = 0.3, np.nan
    assert opening_range(lips) == pytest.approx(0.0, abs=1e-6), "one slip is no motion"
    assert opening_range(np.full((5, 2), np.nan, np.float32)) == 0.0
