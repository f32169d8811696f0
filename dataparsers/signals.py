"""Per-frame signals of a clip: audio features, blinks, blendshapes, boxes of face and lips."""

import csv
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from gaussiantalker_ns.dataparsers.cameras import SCENE_UNITS_PER_METRE, project_points
from gaussiantalker_ns.dataparsers.dataset_layout import AUDIO_FEATURE_FILES, DatasetLayout
from gaussiantalker_ns.dataparsers.face_mesh import FaceMesh
from gaussiantalker_ns.dataparsers.landmarks import read_points68
from gaussiantalker_ns.dataparsers.poses import ClipPoses
from gaussiantalker_ns.face.topology import BLINK_COLUMNS, IBUG68_FROM_MESH, NUM_BLENDSHAPES
from gaussiantalker_ns.timebase import FPS

MAX_COUNT_DIFFERENCE = 2
"""Rows that a table may lack or have too many; more means it belongs to another video."""

AU45_CLOSED = 2.0
"""OpenFace's intensity at which an eye counts as closed, as in the public code; more is no more."""
BLINK_CLOSED = 0.6  # Blendshape score of a closed eye: the scores peak at 0.55 to 0.75.
USUAL_RATES = (24, 29.97, 30, 48, 50, 59.94, 60)
AUDIO_NDIM = 3


def read_audio_features(
    layout: DatasetLayout, num_frames: int, encoder: str | None = None
) -> tuple[str, Float32[np.ndarray, "m w a"]]:
    """Read the windows of `encoder`, or of the best encoder that the data set has.

    Raises:
        FileNotFoundError: the data set has no features (of that encoder).
        ValueError: unknown encoder, wrong shape or count, or NaN.
    """
    available = layout.available_encoders()
    if encoder is not None and encoder not in AUDIO_FEATURE_FILES:
        layout.audio_features(encoder)  # Raises with the names of the known encoders.
    if encoder is None and not available:
        raise FileNotFoundError(
            f"{layout.root} has no audio features; expected one of "
            f"{', '.join(names[0] for names in AUDIO_FEATURE_FILES.values())}. "
            "Run `gaussiantalker process --only audio`."
        )
    if encoder is not None and encoder not in available:
        raise FileNotFoundError(
            f"{layout.root} has no features of the audio encoder '{encoder}', only of: "
            f"{', '.join(available) or 'none'}; expected {layout.audio_features(encoder).name}. "
            f"Run `gaussiantalker process --only audio`, or leave --audio-encoder out."
        )
    name = encoder or available[0]
    path = layout.audio_features(name)
    features = load_array(path)
    if features.ndim != AUDIO_NDIM:
        raise ValueError(
            f"{path} has the shape {list(features.shape)}; expected [frames, window, features]. "
            "Run `gaussiantalker process --only audio`."
        )
    features = fit_count(features, num_frames, path, "audio windows", "audio")
    return name, features.astype(np.float32, copy=False)


def read_blink(
    layout: DatasetLayout,
    num_frames: int,
    blendshapes: Float[np.ndarray, "m 52"] | None,
) -> Float32[np.ndarray, " m"]:
    """Read eye closure in [0, 1]: AU45 of the table, else of the blendshapes.

    Args:
        layout: The data set.
        num_frames: Frames of the clip.
        blendshapes: Scores of all frames, if there are any.

    Raises:
        FileNotFoundError: neither exists.
        ValueError: the table has no column AU45_r, or its rows do not belong to this video.
    """
    path = layout.action_units
    if path.exists():
        column = read_au45(path)
        column = fit_count(column, num_frames, path, "rows", "dataset")
        return np.clip(column / np.float32(AU45_CLOSED), 0.0, 1.0)
    if blendshapes is None:
        raise FileNotFoundError(
            f"{path} does not exist and neither does {layout.blendshapes.name}; expected a table "
            "with the column AU45_r. Run OpenFace on the video, or `gaussiantalker process`."
        )
    scores = blendshapes[:, BLINK_COLUMNS].mean(axis=1) / BLINK_CLOSED
    return np.clip(scores, 0.0, 1.0).astype(np.float32)


def read_au45(path: Path) -> Float32[np.ndarray, " m"]:
    """Read the column AU45_r of an OpenFace table; blanks around names and values do not matter."""
    with path.open(newline="") as file:
        rows = csv.reader(file)
        header = [name.strip() for name in next(rows, [])]
        if "AU45_r" not in header:
            raise ValueError(
                f"{path} has the columns {', '.join(header[:5])}, ...; expected one named AU45_r. "
                "Run OpenFace's FeatureExtraction with -aus, or `gaussiantalker process`."
            )
        column = header.index("AU45_r")
        values: list[float] = []
        for row in rows:
            if not row:
                continue
            try:
                values.append(float(row[column]))
            except (IndexError, ValueError) as error:
                raise ValueError(
                    f"{path} has no number for AU45_r in line {rows.line_num}; expected one value "
                    "per frame. Write the table again."
                ) from error
    return np.array(values, np.float32)


def read_blendshapes(layout: DatasetLayout, num_frames: int) -> Float32[np.ndarray, "m 52"] | None:
    """Read the 52 blendshape scores per frame, or None for a data set without them."""
    path = layout.blendshapes
    if not path.exists():
        return None
    values = load_array(path)
    if values.ndim != 2 or values.shape[1] != NUM_BLENDSHAPES:
        raise ValueError(
            f"{path} has the shape {list(values.shape)}; expected [frames, {NUM_BLENDSHAPES}]. "
            "Run `gaussiantalker process --only dataset`."
        )
    values = fit_count(values, num_frames, path, "rows", "dataset")
    return values.astype(np.float32, copy=False)


def load_array(path: Path) -> np.ndarray:
    """Read a `.npy` file of numbers.

    Raises:
        ValueError: the file is damaged or holds something else than numbers.
    """
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(
            f"{path} cannot be read as an array of numbers ({error}); expected a complete .npy "
            "file. Write it again with `gaussiantalker process`."
        ) from error


def fit_count(values: np.ndarray, num_frames: int, path: Path, noun: str, step: str) -> np.ndarray:
    """Give the table one row per frame: repeat its last row or cut it, for one or two rows at most.

    AU tables and features often lack a last row. More than that is an error, and so is a NaN.
    """
    count = len(values)
    if abs(count - num_frames) > MAX_COUNT_DIFFERENCE or count == 0:
        hint = _other_rate(count, num_frames)
        raise ValueError(
            f"{path} holds {count} {noun} for {num_frames} frames; expected one per frame. {hint}"
            f"Re-run `gaussiantalker process --only {step}`."
        )
    if not np.isfinite(values).all():
        row = int(np.argwhere(~np.isfinite(values))[0][0])
        raise ValueError(
            f"{path} has NaN or infinite numbers, first in row {row}; expected numbers. "
            f"Re-run `gaussiantalker process --only {step}`."
        )
    if count == num_frames:
        return values
    CONSOLE.print(
        f"{path} holds {count} {noun} for {num_frames} frames: the last one is "
        f"{'repeated' if count < num_frames else 'ignored'}.",
        style="yellow",
    )
    last = np.repeat(values[-1:], max(num_frames - count, 0), axis=0)
    return np.concatenate([values, last])[:num_frames]


def _other_rate(count: int, num_frames: int) -> str:
    """A sentence about the frame rate if the counts have the ratio of a usual one to ours."""
    difference, rate = min((abs(count * rate / FPS - num_frames), rate) for rate in USUAL_RATES)
    if difference > MAX_COUNT_DIFFERENCE:
        return ""
    return f"The frames look like {rate:g} per second; expected {FPS}, so process the video again. "


EYES68 = slice(36, 48)
LIPS68 = slice(48, 60)


def read_boxes(
    layout: DatasetLayout, poses: ClipPoses, mesh: FaceMesh, disk_size: int, size: int
) -> dict[str, Int64[Tensor, "m 4"]]:
    """Boxes "face", "lips" and "eyes" per frame: x0, y0, x1, y1 (exclusive), working pixels.

    Frames without landmarks get those of the mesh projected by their pose.
    """
    points = read_points68(layout, len(poses.valid))
    missing = ~np.isfinite(points).all(axis=(1, 2))
    missing |= ~poses.valid.numpy()
    points[missing] = _projected_points68(poses, mesh)[missing]
    return boxes_from_points68(points * (size / disk_size), size)


def boxes_from_points68(
    points: Float[np.ndarray, "m 68 2"], size: int
) -> dict[str, Int64[Tensor, "m 4"]]:
    """Boxes as in the public code: those of face and eyes bound the points, the lips' is square."""
    boxes = {
        "face": _bounds(points),
        "lips": _square(_bounds(points[:, LIPS68])),
        "eyes": _bounds(points[:, EYES68]),
    }
    return {name: _whole_pixels(box, size) for name, box in boxes.items()}


def _square(bounds: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "m 4"]:
    """Square of whole pixels about the middle of a box, half as large as its longer side.

    Example: columns 10.2 to 31.9 and rows 40.5 to 50.1 have the middle (20, 45) and the longer side
    31 - 10; the square is 10, 35, 30, 55.
    """
    low, high = np.floor(bounds[:, :2]), np.floor(bounds[:, 2:])
    center = (low + high) // 2
    half = np.maximum((high - low).max(axis=1, keepdims=True) // 2, 1)
    return np.concatenate([center - half, center + half], axis=1)


def _bounds(points: Float[np.ndarray, "m p 2"]) -> Float[np.ndarray, "m 4"]:
    return np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)


def _whole_pixels(box: Float[np.ndarray, "m 4"], size: int) -> Int64[Tensor, "m 4"]:
    """Round outwards and clip to the image; every box keeps at least one pixel."""
    low = np.clip(np.floor(box[:, :2]), 0, size - 1)
    high = np.clip(np.ceil(box[:, 2:]), low + 1, size)
    return torch.from_numpy(np.concatenate([low, high], axis=1).astype(np.int64))


def _projected_points68(poses: ClipPoses, mesh: FaceMesh) -> Float[np.ndarray, "m 68 2"]:
    """The 68 points of the mesh by pose."""
    vertices = torch.from_numpy(mesh.named_vertices[list(IBUG68_FROM_MESH)]).double()
    points = vertices * SCENE_UNITS_PER_METRE
    return project_points(points, poses.T_camera_head, poses.focal, poses.cx, poses.cy).numpy()
