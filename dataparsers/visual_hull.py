"""Carving of hair, ears and the back of the head from the head masks of a few frames."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from scipy.spatial import Delaunay
from torch import Tensor

from gaussiantalker_ns.dataparsers.cameras import project_points
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.dataparsers.frames import Foreground, read_mask, read_picture
from gaussiantalker_ns.dataparsers.poses import ClipPoses

NUM_SILHOUETTES = 25
NUM_COLOR_FRAMES = 3
MIN_COVERED = 0.003  # Fraction of the image below which a mask counts as empty.
MIN_HITS = 0.7  # Fraction of the masks that must contain a point: masks err, and the scalp moves.
HEAD_DEPTH = 0.9  # Half the depth of a head, scene units; hair on the sides is inflated to it.
SHELL_INSIDE = 0.75  # Smallest accepted depth as a fraction of that of the inflated surface,
SHELL_OUTSIDE = 0.12  # and how far outside of it points are accepted, scene units.
RIM_FRACTION = 0.008  # Width of the rim, in image sides, where head and background blend.
RIM_DEPTH = 0.4  # Where the surface is less deep than this, near the silhouette, all depths count.
BACK_FRACTION = 0.25  # Points of the unseen back that are kept.
FACE_CLEARANCE = 0.95  # The face oval is shrunk by this before points in front of it are dropped.
EAR_DEPTH_QUANTILE = 0.05  # The rearmost vertices of a face mesh lie before the ears.
CANDIDATES, MAX_ROUNDS = 60_000, 20  # Points tried at once, and how often at most.
FALLBACK_RADII = (0.95, 1.35, 1.05)  # Half sizes of an average head with hair, scene units.


@dataclass(frozen=True)
class Silhouettes:
    """Masks of some frames and pictures of fewer, with their cameras, at the working size."""

    focal: float
    cx: float
    cy: float
    poses: Float64[Tensor, "b 4 4"]
    """`T_camera_head` of the masks, scene units."""
    masks: list[UInt8[np.ndarray, "h wd"]]
    """Head masks, 0..255, none of them empty."""
    color_poses: list[Float64[Tensor, "4 4"]]
    """`T_camera_head` of the pictures: the most frontal of three parts of the clip."""
    color_images: list[UInt8[np.ndarray, "h wd 3"]]
    """The pictures, with the colours of the head continued over its background."""


def read_silhouettes(
    layout: DatasetLayout,
    poses: ClipPoses,
    size: int,
    scale: float,
    foreground: Foreground = "head",
) -> Silhouettes:
    """Read evenly spread masks and pictures of the training frames."""
    frames = np.array([frame for frame in poses.train_frames if poses.valid[frame]])
    chosen = frames[np.linspace(0, len(frames) - 1, min(NUM_SILHOUETTES, len(frames))).astype(int)]
    masks = {frame: read_mask(layout.parsing(frame), size, foreground) for frame in chosen.tolist()}
    kept = [frame for frame, mask in masks.items() if (mask > 127).mean() > MIN_COVERED]
    facing = -poses.T_camera_head[:, 2, 2].numpy()
    parts = [part for part in np.array_split(frames, NUM_COLOR_FRAMES) if len(part)]
    colored = [int(part[np.argmax(facing[part])]) for part in parts]
    return Silhouettes(
        focal=poses.focal * scale,
        cx=poses.cx * scale,
        cy=poses.cy * scale,
        poses=poses.T_camera_head[kept],
        masks=[masks[frame] for frame in kept],
        color_poses=[poses.T_camera_head[frame] for frame in colored],
        color_images=[
            _extend_colors(
                read_picture(layout.frame(frame), size),
                read_mask(layout.parsing(frame), size, foreground),
            )
            for frame in colored
        ],
    )


def _extend_colors(
    image: UInt8[np.ndarray, "h wd 3"], mask: UInt8[np.ndarray, "h wd"]
) -> UInt8[np.ndarray, "h wd 3"]:
    """Give every pixel outside the mask the colour of the nearest one inside.

    Points at the rim fall a little beside the head in some frames and must not turn background.
    """
    rim = 2 * round(RIM_FRACTION * len(mask)) + 1
    inside = np.asarray(
        cv2.erode((mask > 127).astype(np.uint8), np.ones((rim, rim), np.uint8)), np.uint8
    )
    if not inside.any():
        return image
    nearest = cv2.distanceTransformWithLabels(
        1 - inside, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    labels = np.asarray(nearest[1], np.int64)
    colors = np.zeros((labels.max() + 1, 3), np.uint8)
    colors[labels[inside > 0]] = image[inside > 0]
    return colors[labels]


def carve_hair(
    face: Float[np.ndarray, "m 3"],
    silhouettes: Silhouettes,
    count: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "n 3"]:
    """Random points near the surface of the head but not on the face, head space, scene units.

    Where the masks are of no use (all empty), an average ellipsoid around the face stands in.
    """
    axis_depth = float(np.quantile(face[:, 2], EAR_DEPTH_QUANTILE))
    if len(silhouettes.masks) == 0:
        return _ellipsoid(face, axis_depth, count, rng)
    distances = [_distance_inside(mask) for mask in silhouettes.masks]
    low, high = _extent(face, silhouettes, axis_depth)
    oval = Delaunay(_shrunk(face[:, :2]))
    num_tried = min(CANDIDATES, 20 * count + 100)
    found: list[np.ndarray] = []
    total = 0
    for _ in range(MAX_ROUNDS):
        points = rng.uniform(low, high, (num_tried, 3))
        in_front = points[:, 2] > axis_depth
        on_face = oval.find_simplex(points[:, :2]) >= 0
        points = points[
            ~(on_face & in_front) & (in_front | (rng.random(num_tried) < BACK_FRACTION))
        ]
        inside, depth = _inflated_depth(points, silhouettes, distances)
        height = np.abs(points[:, 2] - axis_depth)
        shallow = (depth > RIM_DEPTH) & (height < SHELL_INSIDE * depth)
        points = points[inside & ~shallow & (height < depth + SHELL_OUTSIDE)]
        found.append(points)
        total += len(points)
        if total >= count:
            return np.concatenate(found)[:count]
    shortfall = _ellipsoid(face, axis_depth, count - total, rng)
    return np.concatenate([*found, shortfall])


def _distance_inside(mask: UInt8[np.ndarray, "h wd"]) -> Float[np.ndarray, "h wd"]:
    """Distance of every pixel inside the mask to its edge, zero outside; the image edge is none."""
    binary = np.asarray((mask > 127), np.uint8)
    return np.asarray(cv2.distanceTransform(binary, cv2.DIST_L2, 3))


def _extent(
    face: Float[np.ndarray, "m 3"], silhouettes: Silhouettes, axis_depth: float
) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, " 3"]]:
    """Corners of the box in which points are tried: the masks' boxes, back on the axis plane."""
    corners = []
    for pose, mask in zip(silhouettes.poses.numpy(), silhouettes.masks):
        rows, columns = np.nonzero(mask > 127)
        pixels = np.quantile(np.stack([columns, rows], axis=1), (0.003, 0.997), axis=0)
        center = (silhouettes.cx, silhouettes.cy)
        rays = np.column_stack([(pixels - center) / silhouettes.focal, np.ones(2)]) @ pose[:3, :3]
        origin = -pose[:3, 3] @ pose[:3, :3]
        corners.append(origin + rays * ((axis_depth - origin[2]) / rays[:, 2:]))
    middle = np.median(corners, axis=0)
    low = np.minimum(middle.min(axis=0), face.min(axis=0))
    high = np.maximum(middle.max(axis=0), face.max(axis=0))
    low[2], high[2] = axis_depth - HEAD_DEPTH, axis_depth + HEAD_DEPTH
    return low, high


def _inflated_depth(
    points: Float[np.ndarray, "n 3"],
    silhouettes: Silhouettes,
    distances: list[Float[np.ndarray, "h wd"]],
) -> tuple[np.ndarray, np.ndarray]:
    """Whether points lie in the masks, and the half depth of the head where they are.

    The half depth at distance d from the silhouette is that of a ball of radius HEAD_DEPTH:
    sqrt(d (2 HEAD_DEPTH - d)).
    """
    hits = np.zeros(len(points))
    margin = np.zeros(len(points))
    for pose, distance in zip(silhouettes.poses, distances):
        pixels = project_points(
            torch.from_numpy(points), pose, silhouettes.focal, silhouettes.cx, silhouettes.cy
        ).numpy()
        column, row = np.clip(pixels, 0, len(distance) - 1).astype(int).T
        hits += distance[row, column] > 0
        margin += distance[row, column] * (float(pose[2, 3]) / silhouettes.focal)
    margin = np.minimum(margin / len(distances), HEAD_DEPTH)
    return hits >= MIN_HITS * len(distances), np.sqrt(margin * (2 * HEAD_DEPTH - margin))


def _shrunk(outline: Float[np.ndarray, "m 2"]) -> Float[np.ndarray, "m 2"]:
    center = (outline.min(axis=0) + outline.max(axis=0)) / 2
    return center + FACE_CLEARANCE * (outline - center)


def _ellipsoid(
    face: Float[np.ndarray, "m 3"], axis_depth: float, count: int, rng: np.random.Generator
) -> Float[np.ndarray, "n 3"]:
    """Points on an average head around the face, all but the face itself."""
    center = np.array([*((face.min(axis=0) + face.max(axis=0)) / 2)[:2], axis_depth])
    oval = Delaunay(_shrunk(face[:, :2]))
    directions = rng.normal(size=(20 * count + 1, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    points = center + directions * FALLBACK_RADII
    on_face = (points[:, 2] > axis_depth) & (oval.find_simplex(points[:, :2]) >= 0)
    return points[~on_face][:count]
