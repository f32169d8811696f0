"""Initial points of the three legacy layouts: where our own tracker would put them.

One head is written as our data set and as each legacy one, in a head space that is turned, shifted
and 6 % larger, and both are read by the data parser.
"""

import cv2
import numpy as np
import pytest
import torch
from moved_head import (
    MOVED,
    NUM_VERTICES,
    mean_vertices,
    most_frontal,
    move_back,
    on_surface,
    write_head,
)
from scipy.spatial import KDTree
from synthetic_head import synthetic_head

from gaussiantalker_ns.dataparsers import average_face
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.dataparsers.face_mesh import FaceMesh, read_face_mesh
from gaussiantalker_ns.dataparsers.initial_points import FACE_FRACTION, MOUTH_FRACTION, mouth_border
from gaussiantalker_ns.dataparsers.poses import read_poses
from gaussiantalker_ns.dataparsers.talking_head import TalkingHeadDataParserConfig
from gaussiantalker_ns.face.topology import EYE_LEFT, EYE_RIGHT, LIPS_INNER, LIPS_OUTER

NUM_POINTS = 2000
OF_AVERAGE_FACE = 0.75
"""The head differs from the average face by waves of 3 mm, and no landmarks are on its forehead."""

NEAR = 0.003  # Metres: what a data set's initial points may differ from ours.
NUM_FACE, NUM_MOUTH = round(NUM_POINTS * FACE_FRACTION), round(NUM_POINTS * MOUTH_FRACTION)
FACE, MOUTH = slice(0, NUM_FACE), slice(NUM_FACE, NUM_FACE + NUM_MOUTH)


@pytest.fixture(scope="module")
def head():
    return synthetic_head()


@pytest.fixture(scope="module")
def ours(head, tmp_path_factory):
    return parse(write_head(tmp_path_factory.mktemp("ours") / "head", head, "ours"))


def parse(root, **options):
    options = {"num_points": NUM_POINTS, **options}
    return TalkingHeadDataParserConfig(data=root, **options).setup().shared_metadata


def positions(metadata):
    return metadata["points"].numpy().astype(np.float64) / 10


def check_points_like_ours(head, ours, legacy, share):
    """`share` of the face's points lie within 3 mm of our own mesh, and all within 1 cm."""
    own, moved = positions(ours), move_back(positions(legacy))
    mean = mean_vertices(head)
    distance = KDTree(on_surface(mean, 100_000)).query(moved[FACE])[0]
    assert np.median(distance) < NEAR / 2 and np.quantile(distance, share) < NEAR
    assert distance.max() < 0.01
    # All of the face is covered, not a part of it only.
    assert np.quantile(KDTree(moved[FACE]).query(own[FACE])[0], 0.95) < 3 * NEAR
    check_mouth(head, mean, own[MOUTH], moved[MOUTH])
    border = mouth_border(FaceMesh(MOVED(mean).astype(np.float32), None))
    assert ((legacy["mouth_border"] - border).abs() < 10 * NEAR).all()


def check_mouth(head, mean, own, moved):
    """Behind the lips, and between their outer rims and the ends of the inner ones in a picture."""
    assert np.abs(own.mean(axis=0) - moved.mean(axis=0)).max() < NEAR
    assert np.abs(np.ptp(own, axis=0) - np.ptp(moved, axis=0)).max() < 2 * NEAR
    rims = most_frontal(head, mean[list(LIPS_OUTER)]).astype(np.float32)
    ends = most_frontal(head, mean[list(LIPS_INNER)])[:, 0]
    pixels = most_frontal(head, moved)
    within = [cv2.pointPolygonTest(rims, (float(x), float(y)), True) for x, y in pixels]
    tolerance = NEAR * head.focal / 0.62  # Pixels.
    assert np.quantile(within, 0.05) > -tolerance
    assert pixels[:, 0].min() > ends.min() - tolerance
    assert pixels[:, 0].max() < ends.max() + tolerance
    lips = mean[[*LIPS_OUTER, *LIPS_INNER]]
    nearest = KDTree(lips[:, :2]).query(moved[:, :2])[1]
    assert (moved[:, 2] < lips[nearest, 2]).mean() > 0.95


def test_ad_nerf_without_tracker_result(head, ours, tmp_path, capsys):
    root = write_head(tmp_path / "head", head, "ad-nerf")
    check_points_like_ours(head, ours, parse(root), OF_AVERAGE_FACE)
    assert "average face" in " ".join(capsys.readouterr().out.split())


def test_er_nerf_with_a_tracker_result_without_vertices(head, ours, tmp_path, capsys):
    root = write_head(tmp_path / "head", head, "er-nerf")
    assert (root / "track_params.pt").exists()
    check_points_like_ours(head, ours, parse(root), OF_AVERAGE_FACE)
    assert "average face" in " ".join(capsys.readouterr().out.split())


def test_gaussiantalker_with_vertices_of_its_own(head, ours, tmp_path):
    root = write_head(tmp_path / "head", head, "gaussiantalker")
    check_points_like_ours(head, ours, parse(root), share=0.98)
    # Its mesh has no lips that could be named: they are laid on it.
    layout = DatasetLayout(root)
    mesh = read_face_mesh(layout, read_poses(layout))
    assert len(mesh.vertices) == NUM_VERTICES
    error = np.linalg.norm(move_back(mesh.named_vertices) - mean_vertices(head), axis=1)
    named = [*LIPS_OUTER, *LIPS_INNER, *EYE_LEFT, *EYE_RIGHT]
    assert error[named].max() < NEAR and np.median(error) < NEAR / 2


def test_every_vertex_of_a_legacy_mesh_becomes_a_point(head, tmp_path):
    root = write_head(tmp_path / "head", head, "gaussiantalker")
    points = positions(parse(root, num_points=None, image_size=64))
    vertices = torch.load(root / "track_params.pt")["vertices"][0].numpy() / 10
    np.testing.assert_allclose(points[:NUM_VERTICES], vertices, atol=1e-6)
    shares = round(NUM_VERTICES * MOUTH_FRACTION) + NUM_VERTICES - round(NUM_VERTICES * 0.665)
    assert abs(len(points) - NUM_VERTICES - shares) <= 1


def test_as_many_points_on_our_own_mesh(head, tmp_path):
    root = write_head(tmp_path / "head", head, "ours")
    assert len(positions(parse(root, num_points=None, image_size=64))) == NUM_VERTICES


@pytest.mark.parametrize("layout", ["ad-nerf", "gaussiantalker"])
def test_blank_frames_without_landmarks_fall_back_to_the_masks(
    head, tmp_path, capsys, layout, monkeypatch
):
    monkeypatch.setattr(average_face, "NUM_SEARCHED_FRAMES", 3)
    root = write_head(tmp_path / "head", head, layout, landmarks=False)
    paths = DatasetLayout(root)
    mesh = read_face_mesh(paths, read_poses(paths))
    said = " ".join(capsys.readouterr().out.split())
    assert "3 frames are searched" in said and "No face was found" in said
    error = np.linalg.norm(move_back(mesh.named_vertices) - mean_vertices(head), axis=1)
    # A mesh of the tracker's own says much more than the masks.
    assert np.median(error) < (0.025 if layout == "ad-nerf" else NEAR)


def test_landmarks_found_in_the_frames_stand_in_for_files(head, tmp_path, monkeypatch):
    """The landmarker itself is replaced: it finds what the synthetic head would show."""
    root = write_head(tmp_path / "head", head, "ad-nerf", landmarks=False)
    frames = iter(head.landmarks().points)
    monkeypatch.setattr("gaussiantalker_ns.face.landmarker.FaceLandmarker", lambda: Finder(frames))
    monkeypatch.setattr(average_face, "NUM_SEARCHED_FRAMES", len(head.T_camera_head))
    paths = DatasetLayout(root)
    mesh = read_face_mesh(paths, read_poses(paths))
    error = np.linalg.norm(move_back(mesh.named_vertices) - mean_vertices(head), axis=1)
    assert np.quantile(error, 0.95) < NEAR


class Finder:
    """A landmarker that returns prepared faces, and in every fifth frame none."""

    def __init__(self, frames):
        self.frames, self.count = frames, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def detect(self, image):
        from gaussiantalker_ns.face.landmarker import Face

        points = next(self.frames)
        self.count += 1
        return [Face(points, np.zeros(52, np.float32))] if self.count % 5 else []


def test_landmarks_of_other_frames_are_refused(head, tmp_path):
    root = write_head(tmp_path / "head", head, "ad-nerf")
    for path in (root / "ori_imgs").glob("*.lms"):
        np.savetxt(path, np.loadtxt(path)[::-1], fmt="%f")
    with pytest.raises(ValueError, match=r"mm away from a face.*expected less than 20 mm"):
        parse(root)
