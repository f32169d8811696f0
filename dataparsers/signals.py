"""Per-frame signals of a clip: audio features, blendshapes, boxes of face and lips."""

import zipfile
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from gaussiantalker_ns.audio.encoders.registry import READY_MADE
from gaussiantalker_ns.dataparsers.cameras import SCENE_UNITS_PER_METRE, project_points
from gaussiantalker_ns.dataparsers.dataset_layout import AUDIO_FEATURE_FILES, DatasetLayout
from gaussiantalker_ns.dataparsers.face_mesh import FaceMesh
from gaussiantalker_ns.dataparsers.landmarks import read_points68
from gaussiantalker_ns.dataparsers.poses import ClipPoses
from gaussiantalker_ns.face.topology import IBUG68_FROM_MESH, NUM_BLENDSHAPES
from gaussiantalker_ns.timebase import FPS

MAX_COUNT_DIFFERENCE = 2
"""Rows that a table may lack or have too many; more means it belongs to another video."""

USUAL_RATES = (24, 29.97, 30, 48, 50, 59.94, 60)
AUDIO_NDIM = 3
HUBERT_SIZE = 1024


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
        others = sorted(path.name for path in layout.root.glob("aud*.npy"))
        found = f"only {', '.join(others)}, whose encoder is not known here" if others else "none"
        raise FileNotFoundError(
            f"{layout.root} has no audio features that can be used ({found}); expected one of "
            f"{', '.join(names[0] for names in AUDIO_FEATURE_FILES.values())}. "
            f"{audio_remedy(layout)}"
        )
    if encoder is not None and encoder not in available:
        raise FileNotFoundError(
            f"{layout.root} has no features of the audio encoder '{encoder}', only of: "
            f"{', '.join(available) or 'none'}; expected {layout.audio_features(encoder).name}. "
            f"{audio_remedy(layout, encoder)} Or leave --audio-encoder out."
        )
    name = encoder or available[0]
    path = layout.audio_features(name)
    features = read_feature_rows(path, audio_remedy(layout, name))
    features = fit_count(features, num_frames, path, "audio windows", audio_remedy(layout, name))
    return name, features.astype(np.float32, copy=False)


def audio_remedy(layout: DatasetLayout, encoder: str = "whisper") -> str:
    """How to get other audio features: by the command, or from who made the data set."""
    command = f"`gaussiantalker process --only audio --output-dir {layout.root}`"
    if encoder in READY_MADE:
        return (
            f"Get {READY_MADE[encoder]} from where the data set is from, or run {command}, which "
            "computes other features of the same sound."
        )
    if encoder not in ("whisper", *READY_MADE):
        command = f"{command[:-1]} --audio-encoder {encoder}`"
    if layout.talker.exists() or layout.audio.exists():
        return f"Run {command}."
    return f"Put the clip's sound there as {layout.audio.name} and run {command}."


def read_feature_rows(path: Path, remedy: str) -> Float[np.ndarray, "m w a"]:
    """Read a file of audio features, one window per frame.

    Raises:
        ValueError: the file is damaged, or of another shape; the message says how to turn flat
            tokens, as some tools keep HuBERT's, into windows.
    """
    features = load_array(path, remedy)
    if features.ndim == 2 and features.shape[1] == HUBERT_SIZE:
        raise ValueError(
            f"{path} has the shape {list(features.shape)}, two HuBERT tokens per frame one after "
            'another; expected [frames, 2, 1024]. Bring them together: python -c "import numpy as '
            f"np; a = np.load('{path}'); np.save('{path}', a[:len(a) // 2 * 2].reshape(-1, 2, "
            '1024))"'
        )
    if features.ndim != AUDIO_NDIM or 0 in features.shape[1:]:
        raise ValueError(
            f"{path} has the shape {list(features.shape)}; expected [frames, window, features]. "
            f"{remedy}"
        )
    return features


def read_blendshapes(layout: DatasetLayout, num_frames: int) -> Float32[np.ndarray, "m 52"] | None:
    """Read the 52 blendshape scores per frame, or None for a data set without them."""
    path = layout.blendshapes
    if not path.exists():
        return None
    remedy = layout.remedy("dataset", "Delete the file: blinks are then read from au.csv.")
    values = load_array(path, remedy)
    if values.ndim != 2 or values.shape[1] != NUM_BLENDSHAPES:
        raise ValueError(
            f"{path} has the shape {list(values.shape)}; expected [frames, {NUM_BLENDSHAPES}]. "
            f"{remedy}"
        )
    values = fit_count(values, num_frames, path, "rows", remedy)
    return values.astype(np.float32, copy=False)


def load_array(path: Path, remedy: str) -> np.ndarray:
    """Read a `.npy` file of numbers.

    Args:
        path: The file.
        remedy: What an error tells the user to do.

    Raises:
        ValueError: the file is damaged or holds something else than numbers.
    """
    try:
        values = np.load(path, allow_pickle=False)
    # NumPy has no error of its own: what is cut off, zipped or pickled fails in as many ways.
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} cannot be read as an array of numbers ({error}); expected a complete .npy "
            f"file. {remedy}"
        ) from error
    if not isinstance(values, np.ndarray):
        raise ValueError(
            f"{path} is an archive of several arrays; expected a .npy file of one. {remedy}"
        )
    if values.dtype.kind not in "fiu":
        raise ValueError(
            f"{path} holds values of type {values.dtype}; expected an array of numbers. {remedy}"
        )
    return values


def fit_count(
    values: np.ndarray,
    num_frames: int,
    path: Path,
    noun: str,
    remedy: str,
    most_missing: int = MAX_COUNT_DIFFERENCE,
) -> np.ndarray:
    """Give the table one row per frame: repeat its last row or cut it, for one or two rows at most.

    AU tables and features often lack a last row, of which `most_missing` says how many may. More
    than that is an error, and so is a NaN.
    """
    count = len(values)
    if not -MAX_COUNT_DIFFERENCE <= num_frames - count <= most_missing or count == 0:
        hint = _other_rate(count, num_frames)
        raise ValueError(
            f"{path} holds {count} {noun} for {num_frames} frames; expected one per frame. {hint}"
            f"{remedy}"
        )
    if not np.isfinite(values).all():
        row = int(np.argwhere(~np.isfinite(values))[0][0])
        raise ValueError(
            f"{path} has NaN or infinite numbers, first in row {row}; expected numbers. {remedy}"
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
    return f"The frames look like {rate:g} per second; expected {FPS}. "


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
