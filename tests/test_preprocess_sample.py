"""Reading, landmarks and tracking of the sample clip against the truth it was rendered from."""

from pathlib import Path

import numpy as np
import pytest
from synthetic_head import aligned_rotation_error

from gaussiantalker_ns.assets import asset_path
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.face.landmarker import detect_landmarks
from gaussiantalker_ns.face.measures import mouth_opening
from gaussiantalker_ns.preprocess.tracking.track import track_head
from gaussiantalker_ns.preprocess.video.extract import extract


def true_pixels(truth: dict[str, np.ndarray]) -> np.ndarray:
    """The mesh landmarks of every frame as the renderer placed them."""
    weights = truth["weights"].astype(np.float64)
    head = truth["landmark_rest"] + np.tensordot(weights, truth["landmark_offsets"], axes=1)
    poses = truth["T_camera_head"]
    camera = head @ poses[:, :3, :3].transpose(0, 2, 1) + poses[:, None, :3, 3]
    focal, *center = truth["intrinsics"]
    return focal * camera[..., :2] / camera[..., 2:] + np.array(center)


@pytest.mark.slow
def test_sample_is_tracked_as_it_was_rendered(tmp_path: Path):
    info = extract(asset_path("sample/presenter.mp4"), tmp_path)
    layout = DatasetLayout(tmp_path)
    paths = [layout.frame(frame) for frame in range(info.num_frames)]
    landmarks = detect_landmarks(paths)
    tracking = track_head(paths, landmarks, (info.size, info.size))
    with np.load(asset_path("sample/truth.npz")) as file:
        truth = dict(file)

    assert (info.take, info.cuts) == ((0, len(truth["weights"]) - 1), [])
    assert landmarks.valid.all()
    errors = aligned_rotation_error(
        tracking.T_camera_head[:, :3, :3], truth["T_camera_head"][:, :3, :3]
    )
    assert errors.mean() <= 1.0
    assert np.percentile(errors, 95) <= 2.0
    seen = np.stack([tracking.project_mesh(frame) for frame in range(info.num_frames)])
    assert np.linalg.norm(seen - true_pixels(truth), axis=-1).mean() <= 1.5
    assert np.corrcoef(tracking.blink, truth["eyelid_closure"])[0, 1] >= 0.9
    opening = mouth_opening(landmarks.points)
    assert np.corrcoef(opening, truth["mouth_opening_mm"])[0, 1] >= 0.9
    assert tracking.quality["held_out_flow_px"] <= 0.35
    assert tracking.quality["rigid_reprojection_px"] <= 1.2
