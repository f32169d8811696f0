"""Head tracking against a head whose pose, shape and camera are known."""

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.spatial.transform import Rotation
from synthetic_head import FRONTAL, SyntheticHead, aligned_rotation_error, synthetic_head

from gaussiantalker_ns.face.canonical_mesh import canonical_mesh
from gaussiantalker_ns.face.topology import rigid_vertices
from gaussiantalker_ns.preprocess.tracking.bundle_adjustment import adjust_bundle
from gaussiantalker_ns.preprocess.tracking.expression_basis import fit_expressions
from gaussiantalker_ns.preprocess.tracking.optical_flow import OpticalFlow, track_pair
from gaussiantalker_ns.preprocess.tracking.pnp import initial_poses, refine_poses
from gaussiantalker_ns.preprocess.tracking.pose_refinement import (
    ClipProblem,
    normal_equations,
    pieces,
    refine_clip,
    solve_banded_blocks,
    total_cost,
)
from gaussiantalker_ns.preprocess.tracking.projection import (
    move_poses,
    pose_jacobian,
    project,
    projection_jacobian,
    transform,
)
from gaussiantalker_ns.preprocess.tracking.quality import head_angles, rotation_jitter
from gaussiantalker_ns.preprocess.tracking.track import Tracking, TrackingConfig, track_head

DERIVATIVE_TOLERANCE = 1e-3
"""Of forward differences with steps of 1e-7 on values of hundreds of pixels."""


def as_vector_pose(change: np.ndarray, pose: np.ndarray) -> np.ndarray:
    return move_poses(pose[None], change[None])


# Projection and its derivatives.


@pytest.fixture
def head() -> SyntheticHead:
    return synthetic_head()


def test_projection_worked_example():
    """A point 1 m in front and 0.1 m right of the camera, f = 500: 50 px right of the centre."""
    pose = np.eye(4)[None]
    pixel = project(pose, np.array([[0.1, 0.0, 1.0]]), 500.0, np.array([128.0, 128.0]))
    np.testing.assert_allclose(pixel, [[[178, 128]]])


def test_jacobians_match_differences(head: SyntheticHead):
    pose, point = head.T_camera_head[3], head.vertices[100:101]
    camera = transform(pose[None], point)
    analytic = pose_jacobian(camera, pose[None, :3, 3], head.focal)[0, 0]
    for row in range(2):

        def pixel(change: np.ndarray, row: int = row) -> float:
            moved = as_vector_pose(change, pose)
            return float(project(moved, point, head.focal, head.center)[0, 0, row])

        numeric = approx_fprime(np.zeros(6), pixel, 1e-7)
        np.testing.assert_allclose(analytic[row], numeric, rtol=DERIVATIVE_TOLERANCE, atol=1e-2)
    np.testing.assert_allclose(analytic[:, 3:], projection_jacobian(camera, head.focal)[0, 0])


# Poses from landmarks.


def test_exact_landmarks_give_exact_poses(head: SyntheticHead):
    rigid = rigid_vertices()
    pixels, vertices = head.pixels()[:, rigid], head.vertices[rigid]
    poses = initial_poses(pixels, vertices, head.focal, head.center)
    poses = refine_poses(poses, pixels, vertices, np.ones(len(vertices)), head.focal, head.center)
    np.testing.assert_allclose(poses, head.T_camera_head, atol=1e-5)


def test_refinement_ignores_gross_errors(head: SyntheticHead):
    rigid = rigid_vertices()
    pixels, vertices = head.pixels()[:, rigid], head.vertices[rigid]
    wrong = pixels.copy()
    wrong[:, ::10] += 15
    start = initial_poses(wrong, vertices, head.focal, head.center)
    weights = np.ones(len(vertices))
    poses = refine_poses(start, wrong, vertices, weights, head.focal, head.center)
    assert np.abs(project(poses, vertices, head.focal, head.center) - pixels).mean() < 0.6
    assert np.abs(project(start, vertices, head.focal, head.center) - pixels).mean() > 0.9


def test_bundle_adjustment_finds_the_person_when_the_focal_length_is_known(head: SyntheticHead):
    landmarks = head.landmarks(0.3).points[:, :468, :2].astype(np.float64)
    bundle = adjust_bundle(landmarks, (256, 256), focal=head.focal)
    assert bundle.focal == head.focal
    rigid = rigid_vertices()
    error = np.linalg.norm(align(bundle.vertices, head.vertices) - head.vertices, axis=1)
    average = canonical_mesh().vertices
    before = np.linalg.norm(align(average, head.vertices) - head.vertices, axis=1)
    assert error[rigid].mean() < 0.6 * before[rigid].mean()  # Depth is hard to see.
    errors = aligned_rotation_error(bundle.poses[:, :3, :3], head.T_camera_head[:, :3, :3])
    assert errors.mean() < 0.4


def test_bundle_adjustment_estimates_the_focal_length_within_reason(head: SyntheticHead):
    landmarks = head.landmarks(0.3).points[:, :468, :2].astype(np.float64)
    bundle = adjust_bundle(landmarks, (256, 256))
    assert 0.7 < bundle.focal / head.focal < 1.4


def align(vertices: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Best similarity transform of one point set onto another."""
    source, goal = vertices - vertices.mean(0), target - target.mean(0)
    rotation, _ = Rotation.align_vectors(goal, source)
    turned = rotation.apply(source)
    return turned * (turned * goal).sum() / (turned**2).sum() + target.mean(0)


# Refinement with flow.


def clip_problem(head: SyntheticHead, landmarks: np.ndarray) -> ClipProblem:
    """Landmarks as given, flow without any error."""
    rigid = rigid_vertices()
    pixels = head.pixels()[:, rigid].astype(np.float32)
    flows = []
    for gap, stride in ((1, 1), (8, 4)):
        motion = (pixels[gap:] - pixels[:-gap])[::stride]
        flows.append(OpticalFlow(gap, stride, motion, np.ones(motion.shape[:2], bool)))
    return ClipProblem(
        head.vertices[rigid],
        np.ones(int(rigid.sum())),
        landmarks[:, rigid],
        np.ones(len(landmarks), bool),
        flows,
        head.focal,
        head.center,
    )


def test_banded_solver_matches_a_dense_one():
    """Neighbouring blocks are coupled, and every second block with the one three further on."""
    rng = np.random.default_rng(0)
    num_blocks, size = 7, 6
    dense = np.eye(num_blocks * size)
    tiles = dense.reshape(num_blocks, size, num_blocks, size).swapaxes(1, 2)
    first = {1: np.arange(6), 3: np.arange(0, 4, 2)}
    for gap, rows in first.items():
        for row in rows:
            half = rng.normal(size=(2 * size, 2 * size))
            block = half @ half.T
            for i, k in ((0, 0), (0, 1), (1, 0), (1, 1)):
                part = block[i * size : (i + 1) * size, k * size : (k + 1) * size]
                tiles[row + i * gap, row + k * gap] += part
    couplings = [(rows, gap, tiles[rows, rows + gap]) for gap, rows in first.items()]
    right = rng.normal(size=(num_blocks, size))
    index = np.arange(num_blocks)
    solution = solve_banded_blocks(tiles[index, index], couplings, right)
    np.testing.assert_allclose(solution.ravel(), np.linalg.solve(dense, right.ravel()))


def test_gradient_of_the_clip_matches_differences(
    head: SyntheticHead, monkeypatch: pytest.MonkeyPatch
):
    """Also over the seams of the pieces into which a long clip is cut."""
    monkeypatch.setattr("gaussiantalker_ns.preprocess.tracking.pose_refinement.FRAMES_AT_ONCE", 16)
    landmarks = head.landmarks(0.5).points[:, :468, :2].astype(np.float64)
    problem = clip_problem(head, landmarks)
    assert len(pieces(len(landmarks))) == 3
    gradient = normal_equations(problem, head.T_camera_head).gradient
    for frame in (0, 15, 16, 17, 39):
        for number in (1, 4):

            def cost(value: np.ndarray, frame: int = frame, number: int = number) -> float:
                change = np.zeros((len(head.T_camera_head), 6))
                change[frame, number] = value[0]
                return total_cost(problem, move_poses(head.T_camera_head, change))

            # The start is not exactly the minimum of the flow term, hence the central difference.
            step = 1e-6
            numeric = (cost(np.array([step])) - cost(np.array([-step]))) / (2 * step)
            assert gradient[frame, number] == pytest.approx(numeric, rel=1e-2, abs=5)


def test_flow_calms_and_corrects_the_poses(head: SyntheticHead):
    landmarks = head.landmarks(1.0).points[:, :468, :2].astype(np.float64)
    rigid = rigid_vertices()
    vertices, weights = head.vertices[rigid], np.ones(int(rigid.sum()))
    start = initial_poses(landmarks[:, rigid], vertices, head.focal, head.center)
    start = refine_poses(start, landmarks[:, rigid], vertices, weights, head.focal, head.center)
    refined = refine_clip(clip_problem(head, landmarks), start)
    true = head.T_camera_head[:, :3, :3]
    before = aligned_rotation_error(start[:, :3, :3], true).mean()
    after = aligned_rotation_error(refined[:, :3, :3], true).mean()
    assert after < 0.5 * before
    valid = np.ones(len(start), bool)
    truth = rotation_jitter(head.T_camera_head, valid)
    assert rotation_jitter(refined, valid) == pytest.approx(truth, rel=0.5)
    assert rotation_jitter(start, valid) > 3 * truth


def test_frames_without_observations_keep_their_pose(head: SyntheticHead):
    landmarks = head.landmarks(0.5).points[:, :468, :2].astype(np.float64)
    problem = clip_problem(head, landmarks)
    problem.valid[7] = False
    for flow in problem.flows:
        flow.measured[(flow.first == 7) | (flow.first + flow.gap == 7)] = False
    refined = refine_clip(problem, head.T_camera_head)
    np.testing.assert_array_equal(refined[7], head.T_camera_head[7])
    assert not np.array_equal(refined[8], head.T_camera_head[8])


def test_flow_of_a_shifted_picture():
    import cv2

    noise = np.random.default_rng(0).uniform(0, 255, (128, 128)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    smooth = np.uint8(255 * (smooth - smooth.min()) / np.ptp(smooth))
    shift = np.array([[1, 0, 2.25], [0, 1, -1.5]])
    moved = cv2.warpAffine(smooth, shift, (128, 128), flags=cv2.INTER_CUBIC)
    points = np.random.default_rng(1).uniform(30, 98, (50, 2)).astype(np.float32)
    motion, measured = track_pair(smooth, moved, points, points, 15)
    assert measured.mean() > 0.8
    np.testing.assert_allclose(motion[measured].mean(0), [2.25, -1.5], atol=0.05)


# Expressions.


def test_expressions_explain_the_mouth(head: SyntheticHead):
    valid = np.ones(len(head.mouth), bool)
    valid[5] = False
    result = fit_expressions(
        head.pixels(), valid, head.T_camera_head, head.vertices, head.focal, head.center, 3
    )
    assert result.basis.shape == (3, 468, 3)
    strongest = result.coefficients[valid, 0]
    assert abs(np.corrcoef(strongest, head.mouth[valid])[0, 1]) > 0.99
    assert strongest.std() == pytest.approx(1, rel=0.05)
    middle = (result.coefficients[4] + result.coefficients[6]) / 2
    np.testing.assert_allclose(result.coefficients[5], middle)


# The whole.


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> tuple[SyntheticHead, Tracking]:
    head = synthetic_head(60)
    paths = head.write_pictures(tmp_path_factory.mktemp("frames"))
    landmarks = head.landmarks(0.7)
    landmarks.valid[20:23] = False
    landmarks.points[20:23] += 30
    config = TrackingConfig(num_keyframes=30, num_workers=2)
    return head, track_head(paths, landmarks, (256, 256), config)


def test_tracked_poses_are_right(tracked: tuple[SyntheticHead, Tracking]):
    head, tracking = tracked
    errors = aligned_rotation_error(
        tracking.T_camera_head[:, :3, :3], head.T_camera_head[:, :3, :3]
    )
    assert errors.mean() < 1.0
    assert np.percentile(errors, 95) < 1.7
    seen = np.stack([tracking.project_mesh(frame) for frame in range(60)])
    assert np.linalg.norm(seen - head.pixels(), axis=-1)[tracking.valid].mean() < 0.8


def test_tracking_reports_its_quality(tracked: tuple[SyntheticHead, Tracking]):
    _, tracking = tracked
    quality = tracking.quality
    assert quality["held_out_flow_px"] < 0.3
    assert quality["held_out_flow_px"] < 0.6 * quality["landmark_only_flow_px"]
    assert quality["rigid_reprojection_px"] < 1.2
    assert quality["num_invalid"] == 3
    assert quality["focal_px"] == tracking.focal
    assert all(np.isfinite(list(quality.values())))


def test_missing_frames_are_interpolated_and_marked(tracked: tuple[SyntheticHead, Tracking]):
    head, tracking = tracked
    assert np.flatnonzero(~tracking.valid).tolist() == [20, 21, 22]
    assert np.isfinite(tracking.T_camera_head).all()
    centers = tracking.T_camera_head[:, 2, 3] / tracking.focal
    assert np.abs(np.diff(centers)).max() < 0.02 * centers.mean()
    assert tracking.expression.shape == (60, 16)
    assert (tracking.blink >= 0).all() and (tracking.blink <= 1).all()


def test_tracking_survives_saving(tracked: tuple[SyntheticHead, Tracking], tmp_path: Path):
    _, tracking = tracked
    tracking.save(tmp_path / "tracking.npz")
    loaded = Tracking.load(tmp_path / "tracking.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["tracking.npz"]
    assert loaded.quality == tracking.quality
    for name, value in vars(tracking).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(loaded, name), value)
        elif isinstance(value, float):
            assert getattr(loaded, name) == value


def test_tracking_does_not_depend_on_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gaussiantalker_ns.preprocess.tracking.bundle_adjustment.MAX_STEPS", 2)
    head = synthetic_head(20)
    paths, landmarks = head.write_pictures(tmp_path), head.landmarks(0.7)
    one, two = (
        track_head(paths, landmarks, (256, 256), TrackingConfig(num_workers=workers))
        for workers in (1, 2)
    )
    np.testing.assert_array_equal(one.T_camera_head, two.T_camera_head)


def test_head_angles_worked_example():
    def angles(axis: str, degrees: float) -> list[float]:
        pose = np.eye(4)[None]
        turn = Rotation.from_euler(axis, degrees, degrees=True)
        pose[0, :3, :3] = (FRONTAL * turn).as_matrix()
        return np.round(head_angles(pose)[0], 6).tolist()

    # In head space x is to the person's left, y up, z forward.
    assert angles("x", 10) == [10, 0, 0]  # The nose goes down: looks down.
    assert angles("y", 10) == [0, 10, 0]  # The nose goes to the person's left, picture right.
    assert angles("z", -10) == [0, 0, 10]  # The crown goes to the picture's right: clockwise.


def test_too_few_faces(tmp_path: Path):
    head = synthetic_head(12)
    landmarks = head.landmarks()
    landmarks.valid[5:] = False
    with pytest.raises(ValueError, match="found in only 5 of 12 frames"):
        track_head([], landmarks, (256, 256))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"focal": -1.0}, "expected pixels > 0"),
        ({"num_keyframes": 3}, "at least 10 keyframes"),
        ({"num_expressions": 0}, "1 expression"),
    ],
)
def test_bad_settings(settings: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        TrackingConfig(**settings)  # pyright: ignore[reportArgumentType]
