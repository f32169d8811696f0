"""The synthetic head as data sets: ours, and the three legacy layouts in another head space."""

import json
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation
from synthetic_head import SyntheticHead

from gaussiantalker_ns.dataparsers.cameras import opengl_from_head_pose
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.dataparsers.face_mesh import FaceMesh
from gaussiantalker_ns.dataparsers.triangulation import Similarity
from gaussiantalker_ns.face.canonical_mesh import canonical_mesh
from gaussiantalker_ns.face.topology import IBUG68_FROM_MESH
from gaussiantalker_ns.preprocess.tracking.projection import project

MOVED = Similarity(
    1.06,
    Rotation.from_euler("xyz", (7, -5, 4), degrees=True).as_matrix(),
    np.array([0.012, -0.018, -0.021]),
)
"""From our head space to that of the legacy tracker."""

NUM_VERTICES = 34_650
LANDMARK_NOISE_PX = 0.5
HAIR = 1.25  # Size of the head in the masks, in sizes of the face.

Layout = Literal["ours", "ad-nerf", "er-nerf", "gaussiantalker"]


def mean_vertices(head: SyntheticHead) -> np.ndarray:
    """The mean over the frames of what a tracker without errors finds, our head space, metres."""
    return head.posed_vertices().mean(axis=0)


def on_surface(vertices: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Points evenly over the surface of a face with MediaPipe's vertices."""
    rng = np.random.default_rng(seed)
    corners = vertices[canonical_mesh().triangles]
    sides = corners[:, 1:] - corners[:, :1]
    area = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1)
    chosen = corners[rng.choice(len(corners), count, p=area / area.sum())]
    return np.einsum("nk,nkc->nc", rng.dirichlet((1, 1, 1), count), chosen)


def move_back(points: np.ndarray) -> np.ndarray:
    """From the legacy tracker's head space to ours, metres."""
    return (points - MOVED.translation) @ MOVED.rotation / MOVED.scale


def write_head(root: Path, head: SyntheticHead, layout: Layout, landmarks: bool = True) -> Path:
    """Write the data set of a layout below `root`; its frames are blank."""
    paths = DatasetLayout(root)
    for folder in (paths.frames_dir, paths.parsing_dir, paths.torso_dir):
        folder.mkdir(parents=True)
    _write_pictures(paths, head)
    if landmarks:
        points = head.landmarks(LANDMARK_NOISE_PX).points[:, IBUG68_FROM_MESH, :2]
        for frame, rows in enumerate(points):
            np.savetxt(paths.points68(frame), rows, fmt="%f")
    _write_transforms(paths, head, layout)
    count = len(head.T_camera_head)
    paths.action_units.write_text("frame, AU45_r\n" + "".join(f"{i}, 0\n" for i in range(count)))
    np.save(paths.audio_features("deepspeech"), np.zeros((count, 16, 29), np.float32))
    mean = mean_vertices(head)
    if layout == "ours":
        FaceMesh(mean.astype(np.float32), canonical_mesh().triangles).save(paths.face_mesh)
    elif layout == "er-nerf":
        torch.save({"euler": torch.zeros(count, 3)}, paths.track_params)
    elif layout == "gaussiantalker":
        vertices = torch.from_numpy(10 * MOVED(on_surface(mean, NUM_VERTICES))).float()
        torch.save({"vertices": vertices.expand(2, -1, -1).clone()}, paths.track_params)
    return root


def _write_pictures(paths: DatasetLayout, head: SyntheticHead) -> None:
    blank = np.full((head.size, head.size, 3), 200, np.uint8)
    cv2.imwrite(str(paths.background), blank)
    for frame, pixels in enumerate(head.pixels()):
        cv2.imwrite(str(paths.frame(frame)), blank)
        cv2.imwrite(str(paths.torso(frame)), np.zeros((head.size, head.size, 4), np.uint8))
        # Hair all round the face but below the chin.
        chin = pixels[152]
        outline = cv2.convexHull((chin + HAIR * (pixels - chin)).astype(np.int32))
        labels = cv2.fillConvexPoly(np.full_like(blank, 255), outline, (255, 0, 0))
        cv2.imwrite(str(paths.parsing(frame)), labels)


def _write_transforms(paths: DatasetLayout, head: SyntheticHead, layout: Layout) -> None:
    matrices = opengl_from_head_pose(torch.from_numpy(head.T_camera_head)).numpy()
    if layout != "ours":
        matrices[:, :3, 3] = MOVED(matrices[:, :3, 3])
        matrices[:, :3, :3] = MOVED.rotation @ matrices[:, :3, :3]
    count = len(matrices)
    for split, ids in (
        ("train", range(count * 10 // 11)),
        ("val", range(count * 10 // 11, count)),
    ):
        frames = [{"img_id": i, "aud_id": i, "transform_matrix": matrices[i].tolist()} for i in ids]
        content = {"focal_len": head.focal, "cx": head.size / 2, "cy": head.size / 2}
        paths.transforms(split).write_text(json.dumps({**content, "frames": frames}))


def most_frontal(head: SyntheticHead, points: np.ndarray) -> np.ndarray:
    """Pixels of points, in our head space, in the frame that shows the face from the front."""
    frame = int(np.argmin(head.T_camera_head[:, 2, 2]))
    poses = head.T_camera_head[frame : frame + 1]
    return project(poses, points, head.focal, head.center)[0]
