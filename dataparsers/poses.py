"""Reading `talker.json` and `transforms_*.json`: the frames of a clip, their poses, the split."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from gaussiantalker_ns.dataparsers.cameras import (
    fill_invalid_poses,
    head_pose_from_opengl,
    to_scene_units,
)
from gaussiantalker_ns.dataparsers.dataset_layout import TALKER_SCHEMA, DatasetLayout
from gaussiantalker_ns.timebase import FPS

ROTATION_TOLERANCE = 1e-2  # Largest |R^T R - 1| of a pose that still counts as rigid.

FOCAL_TOLERANCE = 0.01  # Relative difference of the focal lengths in x and y that is averaged.

FOREIGN_POSES = "Copy the file again, or track the head again with the tool that made the data set."
"""What to do about poses that another tool wrote."""

NEW_DATA_SET = "Process the video again into an empty folder with `gaussiantalker process`"

MAX_FRAMES = 10 * 3600 * FPS
"""Most frames of a clip, ten hours: larger numbers are damage, and would ask for terabytes."""


@dataclass
class ClipPoses:
    """The camera of every frame of a clip, at the size of the frames on disk."""

    focal: float
    """Focal length in pixels, one for x and y."""
    cx: float
    """Principal point, pixels from the left edge."""
    cy: float
    """Principal point, pixels from the top edge."""
    T_camera_head: Float64[Tensor, "m 4 4"]
    """OpenCV head poses in scene units; frames without a face have the nearest valid one's."""
    valid: Bool[Tensor, " m"]
    """Frames that have a pose and a face."""
    train_frames: list[int]
    """Frame ids of `transforms_train.json`, ascending, invalid ones included."""
    val_frames: list[int]
    """Frame ids of `transforms_val.json`, ascending, invalid ones included."""


def read_description(layout: DatasetLayout) -> dict[str, Any] | None:
    """Read `talker.json`; None for a data set made by other tools.

    Raises:
        ValueError: the file is damaged, newer than this program, or of another frame rate than 25.
    """
    if not layout.talker.exists():
        return None
    description = _read_json(layout.talker)
    schema, fps = description.get("schema"), description.get("fps")
    if not isinstance(schema, int) or schema > TALKER_SCHEMA:
        raise ValueError(
            f"{layout.talker} has schema {schema}; expected at most {TALKER_SCHEMA}. "
            f"Update gaussiantalker-ns. {NEW_DATA_SET} of this version otherwise."
        )
    if fps != FPS:
        raise ValueError(
            f"{layout.talker} says {fps} frames per second; expected {FPS}. "
            f"{NEW_DATA_SET}, which re-samples any video to {FPS} fps."
        )
    return description


def read_poses(layout: DatasetLayout, description: dict[str, Any] | None = None) -> ClipPoses:
    """Read both transforms files into one clip.

    Args:
        layout: The data set.
        description: Contents of `talker.json` if there is one: number of frames, invalid frames.

    Raises:
        FileNotFoundError: the data set or a transforms file is missing.
        ValueError: a file is damaged, a pose is no rigid transform or NaN, frame ids repeat or are
            out of range.
    """
    if not layout.root.is_dir():
        raise FileNotFoundError(
            f"{layout.root} is no folder; expected a data set made by `gaussiantalker process` or "
            "one in the AD-NeRF layout. Name it with --data."
        )
    description = description or {}
    splits = {split: _read_json(layout.transforms(split)) for split in ("train", "val")}
    ids = {
        split: _frame_ids(layout.transforms(split), content) for split, content in splits.items()
    }
    _check_split(layout, ids)
    num_frames = max(*ids["train"], *ids["val"]) + 1
    num_frames = max(num_frames, _num_frames(layout.talker, description))
    matrices = torch.full((num_frames, 4, 4), torch.nan, dtype=torch.float64)
    for split, content in splits.items():
        for frame, item in zip(ids[split], content["frames"]):
            matrices[frame] = _matrix(layout.transforms(split), frame, item)
    valid = torch.zeros(num_frames, dtype=torch.bool)
    valid[ids["train"] + ids["val"]] = True
    invalid = _invalid_frames(layout.talker, description)
    valid[[frame for frame in invalid if frame < num_frames]] = False
    _check_rigid(layout, matrices, valid)
    poses = to_scene_units(head_pose_from_opengl(matrices))
    first = splits["train"]
    return ClipPoses(
        focal=_focal_length(layout.transforms("train"), first),
        cx=_number(layout.transforms("train"), first, "cx"),
        cy=_number(layout.transforms("train"), first, "cy"),
        T_camera_head=fill_invalid_poses(poses, valid),
        valid=valid,
        train_frames=sorted(ids["train"]),
        val_frames=sorted(ids["val"]),
    )


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist; expected the poses of a split. A data set has both "
            f"transforms_train.json and transforms_val.json. {_remedy(path)}"
        )
    try:
        # From bytes, as Windows programs put a byte order mark before the text, in UTF-8 or UTF-16.
        content = json.loads(path.read_bytes())
    # ValueError: also what is no text, and whole numbers of thousands of digits.
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not JSON ({error}); expected a complete file. {_remedy(path)}"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds a {type(content).__name__}; expected an object. {_remedy(path)}"
        )
    return content


def _remedy(path: Path) -> str:
    """What to do about a damaged file of the data set."""
    layout = DatasetLayout(path.parent)
    if path == layout.talker:
        return f"Copy the file again. {NEW_DATA_SET} if there is no copy."
    return layout.remedy("dataset", FOREIGN_POSES)


def _frame_ids(path: Path, content: dict[str, Any]) -> list[int]:
    frames = content.get("frames")
    if not isinstance(frames, list) or not frames:
        raise ValueError(
            f"{path} lists no frames; expected a list under 'frames'. Is the video long enough to "
            f"be split? {_remedy(path)}"
        )
    for place, item in enumerate(frames):
        if not isinstance(item, dict):
            raise ValueError(
                f"{path} has a {type(item).__name__} at place {place} of 'frames'; expected an "
                f"object with 'img_id' and 'transform_matrix'. {_remedy(path)}"
            )
        if not _is_count(item.get("img_id"), MAX_FRAMES - 1):
            raise ValueError(
                f"{path} has the frame id {item.get('img_id')!r}; expected whole numbers from 0 to "
                f"{MAX_FRAMES - 1} under 'img_id'. {_remedy(path)}"
            )
    return [item["img_id"] for item in frames]


def _num_frames(path: Path, description: dict[str, Any]) -> int:
    count = description.get("num_frames", 0)
    if not _is_count(count, MAX_FRAMES):
        raise ValueError(
            f"{path} has {count!r} under 'num_frames'; expected a whole number from 0 to "
            f"{MAX_FRAMES}. {DatasetLayout(path.parent).remedy('dataset', FOREIGN_POSES)}"
        )
    return count


def _invalid_frames(path: Path, description: dict[str, Any]) -> list[int]:
    frames = description.get("invalid_frames", [])
    wrong = [frames]
    if isinstance(frames, list):
        wrong = [frame for frame in frames if not _is_count(frame, MAX_FRAMES - 1)]
    if wrong:
        raise ValueError(
            f"{path} has {wrong[0]!r} under 'invalid_frames'; expected a list of frame ids from 0. "
            f"{DatasetLayout(path.parent).remedy('dataset', FOREIGN_POSES)}"
        )
    return frames


def _is_count(value: object, largest: int) -> bool:
    """Whether a value of a JSON file is a whole number from 0 to `largest`; true is none."""
    return type(value) is int and 0 <= value <= largest


def _check_split(layout: DatasetLayout, ids: dict[str, list[int]]) -> None:
    together = ids["train"] + ids["val"]
    if len(set(together)) != len(together):
        repeated = next(frame for frame in together if together.count(frame) > 1)
        raise ValueError(
            f"{layout.root} lists frame {repeated} more than once in transforms_train.json and "
            "transforms_val.json; expected every frame once. "
            f"{layout.remedy('dataset', FOREIGN_POSES)}"
        )


def _matrix(path: Path, frame: int, item: dict[str, Any]) -> Float64[Tensor, "4 4"]:
    try:
        matrix = torch.tensor(item["transform_matrix"], dtype=torch.float64)
    # OverflowError: JSON has whole numbers that no float can hold.
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{path} has no matrix of numbers for frame {frame}; expected 4 rows of 4 under "
            f"'transform_matrix'. {_remedy(path)}"
        ) from error
    if matrix.shape != (4, 4):
        raise ValueError(
            f"{path} has a matrix of shape {list(matrix.shape)} for frame {frame}; expected 4x4. "
            f"{_remedy(path)}"
        )
    return matrix


def _check_rigid(
    layout: DatasetLayout, matrices: Float64[Tensor, "m 4 4"], valid: Bool[Tensor, " m"]
) -> None:
    if not bool(valid.any()):
        raise ValueError(
            f"{layout.root} has no frame with a face; expected a talking portrait. "
            "Film one person who faces the camera, and make a data set of that."
        )
    finite = torch.isfinite(matrices).all(dim=-1).all(dim=-1)
    rotation = matrices[:, :3, :3]
    identity = torch.eye(3, dtype=matrices.dtype)
    error = (rotation.transpose(1, 2) @ rotation - identity).abs().amax(dim=(1, 2))
    rigid = error <= ROTATION_TOLERANCE
    for fault, bad in (
        ("a pose with NaN or infinite numbers", valid & ~finite),
        ("a pose that is no rotation and translation", valid & finite & ~rigid),
        ("a pose that mirrors the head", valid & finite & rigid & (torch.det(rotation) < 0)),
    ):
        frames = torch.nonzero(bad).flatten().tolist()
        if frames:
            raise ValueError(
                f"{layout.root} has {fault} in {len(frames)} frames, the first is {frames[0]}; "
                "expected a rigid 4x4 camera-to-head matrix for every frame in transforms_*.json. "
                "Track the head again, or take these frames out of the files."
            )


def _focal_length(path: Path, content: dict[str, Any]) -> float:
    """The one focal length of `focal_len`, else of `fl_x` and `fl_y`, as newer trackers write."""
    named = [key for key in ("fl_x", "fl_y") if key in content]
    if "focal_len" in content or not named:
        return _number(path, content, "focal_len")
    lengths = [_number(path, content, key) for key in named]
    if max(lengths) - min(lengths) > FOCAL_TOLERANCE * max(lengths):
        raise ValueError(
            f"{path} has the focal lengths {lengths[0]:g} in x and {lengths[-1]:g} in y; expected "
            "square pixels. Resize the frames to square pixels and track the head again."
        )
    return sum(lengths) / len(lengths)


def _number(path: Path, content: dict[str, Any], key: str) -> float:
    value = content.get(key)
    # JSON's true is an int here, and Python reads NaN and Infinity from it, too.
    number = 0 if isinstance(value, bool) else value
    if not isinstance(number, (int, float)) or not 0 < number <= sys.float_info.max:
        raise ValueError(
            f"{path} has {value!r} under '{key}'; expected a positive, finite number of pixels. "
            f"{_remedy(path)}"
        )
    return float(number)
