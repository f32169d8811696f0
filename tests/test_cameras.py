"""Camera conventions."""

import math

import pytest
import torch

from gaussiantalker_ns.dataparsers.cameras import (
    SCENE_UNITS_PER_METRE,
    fill_invalid_poses,
    head_pose_from_camera_to_worlds,
    head_pose_from_opengl,
    opengl_from_head_pose,
    project_points,
    to_scene_units,
)

EXACT = 1e-12  # Rotations and flips of float64 numbers of size 1.


def random_camera_to_head(count: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    rotation, _ = torch.linalg.qr(torch.randn(count, 3, 3, generator=generator).double())
    rotation = rotation * torch.linalg.det(rotation)[:, None, None]
    matrix = torch.eye(4).double().repeat(count, 1, 1)
    matrix[:, :3, :3] = rotation
    matrix[:, :3, 3] = torch.randn(count, 3, generator=generator).double()
    return matrix


def test_round_trip_between_opencv_and_opengl():
    camera_to_head = random_camera_to_head()
    pose = head_pose_from_opengl(camera_to_head)
    torch.testing.assert_close(opengl_from_head_pose(pose), camera_to_head, atol=EXACT, rtol=0)
    from_nerfstudio = head_pose_from_camera_to_worlds(camera_to_head[:, :3])
    torch.testing.assert_close(from_nerfstudio, pose, atol=EXACT, rtol=0)
    assert torch.linalg.det(pose[:, :3, :3]) == pytest.approx(torch.ones(5).double())


def test_a_camera_that_one_can_draw():
    """A camera 0.8 m before the face: the crown lands above the origin, the left ear right."""
    camera_to_head = torch.eye(4).double()
    camera_to_head[2, 3] = 0.8
    pose = head_pose_from_opengl(camera_to_head)
    assert pose.tolist() == [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0.8], [0, 0, 0, 1]]
    nose, crown, left_ear = [0.0, 0.0, 0.1], [0.0, 0.1, 0.0], [0.08, 0.0, 0.0]
    points = torch.tensor([nose, crown, left_ear]).double()
    pixels = project_points(points, pose, focal=80.0, cx=32.0, cy=32.0)
    expected = torch.tensor([[32.0, 32.0], [32.0, 22.0], [40.0, 32.0]]).double()
    torch.testing.assert_close(pixels, expected)


def test_real_legacy_pose_sees_the_head_before_the_camera():
    """A pose of a real data set (AD-NeRF's layout): the head is 0.9 m away and upright."""
    camera_to_head = torch.tensor(
        [
            [0.9988855123519897, -0.009574749507009983, -0.046217601746320724, -0.0239712968],
            [0.013674330897629261, 0.9959182739257812, 0.08921758085489273, 0.0980294793],
            [0.04517471790313721, -0.08975014835596085, 0.9949392676353455, 0.9079676866],
            [0.0, 0.0, 0.0, 1.0],
        ]
    ).double()
    pose = to_scene_units(head_pose_from_opengl(camera_to_head))
    assert float(pose[2, 3]) == pytest.approx(9.1, abs=0.2)
    head = torch.tensor([[0.0, 0.8, 0.0], [0.0, -0.8, 0.0]]).double()
    crown, chin = project_points(head, pose, 1100.0, 225.0, 225.0)
    assert 0 < crown[1] < chin[1] < 450
    assert SCENE_UNITS_PER_METRE == 10.0


def test_batch_of_poses_equals_single_ones():
    poses = head_pose_from_opengl(random_camera_to_head())
    points = torch.randn(7, 3).double()
    together = project_points(points, poses, 100.0, 1.0, 2.0)
    single = torch.stack([project_points(points, pose, 100.0, 1.0, 2.0) for pose in poses])
    torch.testing.assert_close(together, single)


def test_frames_without_a_face_take_the_nearest_pose():
    poses = torch.eye(4).double().repeat(6, 1, 1)
    poses[:, 0, 3] = torch.arange(6)
    valid = torch.tensor([False, True, False, False, True, False])
    poses[~valid] = math.nan
    filled = fill_invalid_poses(poses, valid)
    assert filled[:, 0, 3].tolist() == [1, 1, 1, 4, 4, 4]
