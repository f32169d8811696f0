"""A head with known pose, camera and shape, as landmarks and as pictures of a dotted face."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from gaussiantalker_ns.face.canonical_mesh import canonical_mesh
from gaussiantalker_ns.face.landmarker import Landmarks
from gaussiantalker_ns.face.topology import vertex_normals
from gaussiantalker_ns.preprocess.tracking.projection import project

FRONTAL = Rotation.from_matrix(np.diag([1.0, -1.0, -1.0]))
NUM_DOTS = 2500
DOT_RADIUS = 3  # Pixels.


@dataclass
class SyntheticHead:
    """The truth that a tracking is compared with."""

    size: int
    focal: float
    vertices: np.ndarray
    """Personal mesh `[468, 3]`, metres."""
    T_camera_head: np.ndarray
    mouth: np.ndarray
    """Opening of the mouth per frame: how far the chin half of the mesh moves down, metres."""

    @property
    def center(self) -> np.ndarray:
        return np.full(2, self.size / 2)

    def posed_vertices(self) -> np.ndarray:
        lower = canonical_mesh().vertices[:, 1] < -0.04
        return self.vertices - self.mouth[:, None, None] * lower[:, None] * np.array([0, 1, 0])

    def pixels(self) -> np.ndarray:
        return project(self.T_camera_head, self.posed_vertices(), self.focal, self.center)

    def landmarks(self, noise_px: float = 0.5, seed: int = 0) -> Landmarks:
        rng = np.random.default_rng(seed)
        pixels = self.pixels()
        points = np.zeros((len(pixels), 478, 3), np.float32)
        points[:, :468, :2] = pixels + rng.normal(0, noise_px, pixels.shape)
        return Landmarks(
            points, np.zeros((len(pixels), 52), np.float32), np.ones(len(pixels), bool)
        )

    def write_pictures(self, folder: Path) -> list[Path]:
        """Draw dots that stick to the skin, the motion of which optical flow can follow."""
        rng = np.random.default_rng(1)
        corners = self.vertices[canonical_mesh().triangles]
        area = np.linalg.norm(
            np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
        )
        chosen = rng.choice(len(corners), NUM_DOTS, p=area / area.sum())
        dots = np.einsum("mk,mkc->mc", rng.dirichlet((1, 1, 1), NUM_DOTS), corners[chosen])
        level = rng.uniform(-60, 60, NUM_DOTS)
        normals = vertex_normals(self.vertices)[canonical_mesh().triangles[chosen]].mean(1)
        offsets = np.stack(
            np.meshgrid(*[np.arange(-DOT_RADIUS, DOT_RADIUS + 1)] * 2), axis=-1
        ).reshape(-1, 2)
        paths = []
        for frame, centers in enumerate(project(self.T_camera_head, dots, self.focal, self.center)):
            # The centre of the first pixel is at .5.
            pixel = np.floor(centers).astype(int)[:, None] + offsets
            distance = np.linalg.norm(pixel + 0.5 - centers[:, None], axis=-1)
            picture = np.full((self.size, self.size), 128.0)
            inside = ((pixel >= 0) & (pixel < self.size)).all(-1)
            # A hidden dot must not shine through.
            sight = dots @ self.T_camera_head[frame, :3, :3].T + self.T_camera_head[frame, :3, 3]
            facing = -(sight * (normals @ self.T_camera_head[frame, :3, :3].T)).sum(-1)
            amount = np.exp(-((distance / 1.2) ** 2)) * (level * (facing > 0))[:, None]
            np.add.at(picture, (pixel[inside][:, 1], pixel[inside][:, 0]), amount[inside])
            paths.append(folder / f"{frame}.png")
            cv2.imwrite(str(paths[-1]), np.clip(picture, 0, 255).astype(np.uint8))
        return paths


def synthetic_head(
    num_frames: int = 40, size: int = 256, focal: float = 460.0, seed: int = 0
) -> SyntheticHead:
    """A person who differs smoothly from the average face, nods, turns and speaks."""
    rng = np.random.default_rng(seed)
    average = canonical_mesh().vertices
    waves = np.sin(average @ rng.normal(0, 30, (3, 3)) + rng.uniform(0, 6, 3))
    time = np.arange(num_frames) / 25
    angles = np.stack(
        [8 * np.sin(2.1 * time), 15 * np.sin(1.3 * time + 1), 5 * np.sin(1.7 * time + 2)], axis=-1
    )
    T_camera_head = np.tile(np.eye(4), (num_frames, 1, 1))
    rotation = FRONTAL * Rotation.from_euler("xyz", angles, degrees=True)
    T_camera_head[:, :3, :3] = rotation.as_matrix()
    T_camera_head[:, 0, 3] = 0.01 * np.sin(1.1 * time)
    T_camera_head[:, 2, 3] = 0.62 + 0.02 * np.sin(0.7 * time)
    mouth = 0.008 * np.clip(np.sin(9 * time), 0, None)
    return SyntheticHead(size, focal, average + 0.003 * waves, T_camera_head, mouth)


def aligned_rotation_error(estimated: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Angles in degrees between rotations `[N, 3, 3]` after taking out the best constant offset.

    A tracking may define the head's own axes differently by a constant rotation.
    """
    offset = Rotation.from_matrix(estimated.transpose(0, 2, 1) @ true).mean()
    left = Rotation.from_matrix(estimated) * offset
    return np.degrees((left.inv() * Rotation.from_matrix(true)).magnitude())
