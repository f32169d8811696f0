"""Mean points from rays, and faces fitted to them."""

import numpy as np
import pytest
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation
from synthetic_head import FRONTAL

from gaussiantalker_ns.dataparsers.triangulation import (
    MeanPoints,
    Similarity,
    combined,
    fit_similarity,
    surface_points,
    triangulate,
    warp,
)
from gaussiantalker_ns.face.canonical_mesh import canonical_mesh

FACE = canonical_mesh().vertices
KNOWN = np.tile(np.eye(3), (len(FACE), 1, 1))
TINY = 1e-6


def poses(yaws_degrees):
    T_camera_head = np.tile(np.eye(4), (len(yaws_degrees), 1, 1))
    turns = Rotation.from_euler("y", np.array(yaws_degrees, float)[:, None], degrees=True)
    T_camera_head[:, :3, :3] = (FRONTAL * turns).as_matrix()
    T_camera_head[:, 2, 3] = 0.8
    return T_camera_head


def seen(points, T_camera_head):
    camera = points @ T_camera_head[:, :3, :3].transpose(0, 2, 1) + T_camera_head[:, None, :3, 3]
    return camera[..., :2] / camera[..., 2:]


def test_two_views_meet_in_a_point():
    """A point 5 cm before the head's origin, seen from 90 degrees to either side.

    From the front it is on the axis; a quarter turn shows it 5 cm aside at the distance of .8 m.
    """
    T_camera_head = poses([0, 90])
    rays = np.array([[[0.0, 0.0]], [[0.05 / 0.8, 0.0]]])
    np.testing.assert_allclose(seen(np.array([[0, 0, 0.05]]), T_camera_head), rays, atol=TINY)
    points = triangulate(rays, T_camera_head)
    np.testing.assert_allclose(points.positions, [[0, 0, 0.05]], atol=TINY)
    # Up and down both views see, each of the other two directions about one of them.
    np.testing.assert_allclose(np.diag(points.information[0]), [0.5, 1, 0.5], atol=0.02)


def test_missing_and_stray_landmarks_do_no_harm():
    T_camera_head = poses(np.linspace(-10, 10, 21))
    rays = seen(FACE[:5], T_camera_head)
    rays += np.random.default_rng(0).normal(0, 1e-4, rays.shape)
    rays[3:8, 0] = np.nan
    rays[[2, 11], 1] += 0.1
    rays[:, 4] = np.nan
    points = triangulate(rays, T_camera_head)
    np.testing.assert_allclose(points.positions[:4], FACE[:4], atol=5e-4)
    assert np.abs(points.information[4]).max() < TINY  # Never seen.


def test_a_still_head_leaves_depth_open():
    information = triangulate(seen(FACE, poses([0, 0, 0])), poses([0, 0, 0])).information
    values = np.linalg.eigvalsh(information)
    assert values[:, 0].max() < TINY and values[:, 1:].min() > 0.9


@pytest.mark.parametrize("yaws", [np.linspace(-12, 12, 25), [0.0, 0.0]], ids=["turning", "still"])
def test_similarity_is_found_as_far_as_it_can_be(yaws):
    """A head that turns tells all; of one that does not, picture and usual size are kept."""
    turn = Rotation.from_euler("xyz", (5, -8, 6), degrees=True).as_matrix()
    moved = Similarity(1.1, turn, np.array([0.02, -0.01, -0.03]))
    T_camera_head = poses(yaws)
    rays = seen(moved(FACE), T_camera_head)
    found = fit_similarity(FACE, triangulate(rays, T_camera_head))
    if len(yaws) > 2:
        np.testing.assert_allclose(found(FACE), moved(FACE), atol=5e-4)
    else:
        np.testing.assert_allclose(seen(found(FACE), T_camera_head), rays, atol=2e-3)
        assert 0.9 < found.scale < 1.15


def test_one_wrong_point_does_not_move_a_face():
    positions = FACE.copy()
    positions[4] += 0.05
    found = fit_similarity(FACE, MeanPoints(positions, KNOWN))
    np.testing.assert_allclose(found(FACE), FACE, atol=2e-4)


def test_warp_follows_points_and_carries_the_neighbourhood():
    wave = 0.003 * np.sin(FACE[:, [1]] * 60) * np.array([0.0, 0.0, 1.0])
    indices = np.arange(0, len(FACE), 4)
    bent = warp(FACE, indices, MeanPoints(FACE[indices] + wave[indices], KNOWN[indices]))
    assert np.abs(bent - FACE - wave).mean() < 4e-4
    still = warp(FACE, indices, MeanPoints(FACE[indices] + wave[indices], 0 * KNOWN[indices]))
    np.testing.assert_allclose(still, FACE, atol=TINY)


def test_a_plane_is_known_along_its_normal():
    """A dense plane at depth .04: points 5 mm before it know .04, and nothing sideways."""
    rng = np.random.default_rng(0)
    plane = np.column_stack([rng.uniform(-0.1, 0.1, (20_000, 2)), np.full(20_000, 0.04)])
    points = surface_points(
        np.array([[0.0, 0.0, 0.045], [0.01, 0.0, 0.2]]), KDTree(plane), reach=0.01
    )
    np.testing.assert_allclose(points.positions[0, 2], 0.04, atol=TINY)
    np.testing.assert_allclose(points.information[0], np.diag([0, 0, 1.0]), atol=TINY)
    assert not points.information[1].any()  # Out of reach.


def test_combined_points_are_one_list():
    first, second = MeanPoints(FACE[:2], KNOWN[:2]), MeanPoints(FACE[5:8], 2 * KNOWN[5:8])
    both = combined(first, second)
    np.testing.assert_array_equal(both.positions, FACE[[0, 1, 5, 6, 7]])
    assert both.information[:, 0, 0].tolist() == [1, 1, 2, 2, 2]
