"""Initial points of the canonical head."""

import numpy as np
import pytest
import torch
from synthetic_talker import HEAD_RADII, synthetic_face_mesh, write_synthetic_talker

from gaussiantalker_ns.dataparsers.cameras import SCENE_UNITS_PER_METRE, project_points
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.dataparsers.face_mesh import FaceMesh, read_face_mesh
from gaussiantalker_ns.dataparsers.initial_points import (
    FACE_FRACTION,
    mouth_border,
    points_at_random,
    points_from_mesh,
)
from gaussiantalker_ns.dataparsers.poses import read_poses
from gaussiantalker_ns.dataparsers.visual_hull import read_silhouettes
from gaussiantalker_ns.face.canonical_mesh import canonical_mesh
from gaussiantalker_ns.face.topology import (
    BROW_LEFT,
    EYE_LEFT,
    EYE_RIGHT,
    FACE_OVAL,
    LIPS_INNER,
    LIPS_OUTER,
)

SIZE, COUNT = 96, 4000
HAIR = np.array([60, 40, 30])
SKIN = np.array([224, 172, 140])


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    root = write_synthetic_talker(tmp_path_factory.mktemp("data"), num_frames=30, size=SIZE)
    return DatasetLayout(root)


@pytest.fixture(scope="module")
def mesh():
    return FaceMesh(**synthetic_face_mesh())


@pytest.fixture(scope="module")
def silhouettes(layout):
    return read_silhouettes(layout, read_poses(layout), SIZE, 1.0)


@pytest.fixture(scope="module")
def points(mesh, silhouettes):
    return points_from_mesh(mesh, silhouettes, COUNT, seed=0)


def test_count_and_determinism(mesh, silhouettes, points):
    assert points.positions.shape == points.colors.shape == (COUNT, 3)
    again = points_from_mesh(mesh, silhouettes, COUNT, seed=0)
    assert torch.equal(again.positions, points.positions)
    assert torch.equal(again.colors, points.colors)
    other = points_from_mesh(mesh, silhouettes, COUNT, seed=1)
    assert not torch.equal(other.positions, points.positions)


def test_points_project_into_the_head_of_every_frame(silhouettes, points):
    for pose, mask in zip(silhouettes.poses, silhouettes.masks):
        camera = (pose, silhouettes.focal, silhouettes.cx, silhouettes.cy)
        column, row = project_points(points.positions.double(), *camera).long().T
        assert (torch.from_numpy(mask)[row, column] > 0).float().mean() > 0.9


def test_points_lie_near_the_true_surface(points):
    """The synthetic head is an ellipsoid: its scaled radius is 1 on the surface."""
    radius = (points.positions / torch.tensor(HEAD_RADII * SCENE_UNITS_PER_METRE)).norm(dim=1)
    num_face = round(COUNT * FACE_FRACTION)
    assert (radius[:num_face] > 0.85).all() and (radius[:num_face] < 1.1).all()
    assert float(radius.quantile(0.95)) < 1.3
    visible = points.positions[:, 2] > 0.5
    assert float(radius[visible].quantile(0.02)) > 0.7


def test_bounds_hold_head_and_hair(points):
    low, high = points.bounds
    assert (points.positions > low).all() and (points.positions < high).all()
    top = HEAD_RADII[1] * SCENE_UNITS_PER_METRE
    assert float(high[1]) > 0.95 * top  # The crown, where no mesh point is.


def test_lips_and_eyes_get_more_points(mesh, points):
    face = points.positions[: round(COUNT * FACE_FRACTION)].numpy()
    vertices = mesh.vertices * SCENE_UNITS_PER_METRE

    def density(region):
        low, high = vertices[list(region)].min(axis=0), vertices[list(region)].max(axis=0)
        inside = ((face[:, :2] > low[:2]) & (face[:, :2] < high[:2])).all(axis=1)
        return inside.sum() / (high - low)[:2].prod()

    whole = density(FACE_OVAL)
    assert density(LIPS_OUTER) > 2 * whole
    assert density(EYE_LEFT) > 1.4 * whole


def test_colors_are_those_of_skin_and_hair(points):
    positions, colors = points.positions.numpy(), points.colors.numpy().astype(int)
    forehead = (abs(positions[:, 0]) < 0.1) & (abs(positions[:, 1] - 0.55) < 0.05)
    crown = (positions[:, 1] > 0.85) & (positions[:, 2] > 0)
    assert abs(np.median(colors[forehead], axis=0) - SKIN).max() < 40
    assert abs(np.median(colors[crown], axis=0) - HAIR).max() < 40


def test_empty_masks_give_an_average_head(tmp_path, mesh):
    layout = DatasetLayout(write_synthetic_talker(tmp_path))
    for path in layout.parsing_dir.iterdir():
        path.write_bytes(_white_png())
    silhouettes = read_silhouettes(layout, read_poses(layout), 64, 1.0)
    assert silhouettes.masks == []
    points = points_from_mesh(mesh, silhouettes, 1000, seed=0)
    assert points.positions.shape == (1000, 3) and torch.isfinite(points.positions).all()


def _white_png():
    import cv2

    return cv2.imencode(".png", np.full((64, 64, 3), 255, np.uint8))[1].tobytes()


def test_random_points_fill_the_same_box(mesh, silhouettes, points):
    random = points_at_random(mesh, silhouettes, COUNT, seed=0)
    low, high = random.bounds
    assert (random.positions > low).all() and (random.positions < high).all()
    assert ((random.bounds - points.bounds).abs() < 0.2).all()
    assert torch.equal(
        points_at_random(mesh, silhouettes, COUNT, seed=0).positions, random.positions
    )


def test_the_mouths_region_ends_between_lips_and_nose(mesh):
    low, high = mouth_border(mesh).tolist()
    heights = mesh.vertices[:, 1] * SCENE_UNITS_PER_METRE
    assert heights[list(LIPS_OUTER)].max() < low < high
    assert high < heights[[*EYE_LEFT, *EYE_RIGHT]].min()


def test_legacy_cloud_is_averaged_once_and_sampled(tmp_path, silhouettes):
    layout = DatasetLayout(write_synthetic_talker(tmp_path, layout="legacy"))
    vertices = torch.load(layout.track_params)["vertices"]
    poses = read_poses(layout)
    mesh = read_face_mesh(layout, poses)
    assert mesh.triangles is None
    np.testing.assert_allclose(mesh.vertices, vertices.mean(dim=0) / 10, atol=1e-6)
    layout.track_params.unlink()  # The mean is kept.
    np.testing.assert_array_equal(read_face_mesh(layout, poses).vertices, mesh.vertices)
    points = points_from_mesh(mesh, silhouettes, COUNT, seed=0)
    assert len(torch.unique(points.positions, dim=0)) == COUNT


def test_our_own_vertices_in_a_tracker_result_get_triangles(tmp_path, mesh):
    layout = DatasetLayout(write_synthetic_talker(tmp_path, layout="legacy"))
    torch.save({"vertices": 10 * torch.from_numpy(mesh.vertices)[None]}, layout.track_params)
    read = read_face_mesh(layout, read_poses(layout))
    np.testing.assert_allclose(read.named_vertices, mesh.vertices, atol=1e-6)
    assert read.triangles is not None and read.triangles.max() == 467


def test_a_mesh_is_written_whole_or_not_at_all(tmp_path, mesh, monkeypatch):
    path = tmp_path / "face_mesh.npz"
    mesh.save(path)
    names = []

    def write_half(file, **arrays):
        names.append(file.name)
        file.write_bytes(b"PK")
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", write_half)
    for _ in range(2):  # Two processes must not write the same temporary file.
        with pytest.raises(OSError, match="no space left"):
            mesh.save(path)
    assert len({*names, path.name}) == 3
    np.testing.assert_array_equal(FaceMesh.load(path).vertices, mesh.vertices)
    assert list(tmp_path.iterdir()) == [path]


def test_tracker_without_vertices_gives_the_average_face(tmp_path, capsys):
    layout = DatasetLayout(write_synthetic_talker(tmp_path, layout="legacy"))
    torch.save({"euler": torch.zeros(24, 3)}, layout.track_params)
    mesh = read_face_mesh(layout, read_poses(layout))
    assert mesh.vertices.shape == (468, 3) and mesh.triangles is not None
    assert "average face" in " ".join(capsys.readouterr().out.split())


def test_region_indices_lie_where_they_should_on_the_average_face():
    """Lips below the eyes, brows above them, left is the person's left (positive x)."""
    vertices = canonical_mesh().vertices
    mean = {
        name: vertices[list(region)].mean(axis=0)
        for name, region in {
            "outer": LIPS_OUTER,
            "inner": LIPS_INNER,
            "left": EYE_LEFT,
            "right": EYE_RIGHT,
            "brow": BROW_LEFT,
        }.items()
    }
    assert mean["left"][0] > 0.02 and mean["right"][0] < -0.02
    assert mean["outer"][1] < -0.02 < mean["left"][1] < mean["brow"][1]
    width = {r: np.ptp(vertices[list(r), 0]) for r in (LIPS_OUTER, LIPS_INNER)}
    assert width[LIPS_INNER] < width[LIPS_OUTER]
    outline = vertices[list(FACE_OVAL)]
    assert np.ptp(outline[:, 0]) == pytest.approx(np.ptp(vertices[:, 0]), abs=0.005)
