"""Step 7: poses, blinks, expressions and the face mesh in the files that data parsers read."""

import json
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64
from scipy.spatial.transform import Rotation

from gaussiantalker_ns.dataparsers.blinks import AU45_CLOSED
from gaussiantalker_ns.dataparsers.cameras import SCENE_UNITS_PER_METRE, opengl_from_head_pose
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.dataparsers.face_mesh import FaceMesh
from gaussiantalker_ns.face.canonical_mesh import canonical_mesh
from gaussiantalker_ns.face.landmarker import Landmarks
from gaussiantalker_ns.face.topology import IBUG68_FROM_MESH
from gaussiantalker_ns.preprocess.audio_features import num_train_frames
from gaussiantalker_ns.preprocess.tracking.track import Tracking
from gaussiantalker_ns.timebase import FPS

NUM_LEGACY_IDENTITY = 100
"""Numbers in the identity code of the Basel face model, which other projects expect."""


def legacy_pose(
    T_camera_head: Float64[np.ndarray, "b 4 4"],
) -> tuple[Float64[np.ndarray, "b 3"], Float64[np.ndarray, "b 3"]]:
    """Angles (radians) and translation (decimetres) of the trackers of AD-NeRF and its heirs.

    Their camera is OpenGL's (x right, y up, looking along -z) and their rotation is
    Rx(a) Ry(b) Rz(c), where every factor is the transpose of the usual one.
    """
    flip = np.array([1.0, -1.0, -1.0])
    rotation = flip[:, None] * T_camera_head[:, :3, :3]
    angles = -Rotation.from_matrix(rotation).as_euler("XYZ")
    return angles, SCENE_UNITS_PER_METRE * flip * T_camera_head[:, :3, 3]


def write_transforms(output: DatasetLayout, tracking: Tracking) -> None:
    """Write `transforms_train.json` and `transforms_val.json`: intrinsics, split and poses."""
    num_frames = len(tracking.T_camera_head)
    poses = opengl_from_head_pose(torch.from_numpy(tracking.T_camera_head)).tolist()
    split = num_train_frames(num_frames)
    for name, frames in (("train", range(split)), ("val", range(split, num_frames))):
        content = {
            "focal_len": tracking.focal,
            "cx": tracking.cx,
            "cy": tracking.cy,
            "frames": [
                {"img_id": frame, "aud_id": frame, "transform_matrix": poses[frame]}
                for frame in frames
            ],
        }
        output.transforms(name).write_text(json.dumps(content), encoding="utf-8")


def write_track_params(output: DatasetLayout, tracking: Tracking) -> None:
    """Write `track_params.pt` with the keys of other trackers.

    `euler`, `trans` and `focal` mean the same. `vertices` `[1, 468, 3]` is the unposed mean face in
    decimetres (other projects store one mesh a frame, of which only the mean is used). `exp`
    `[N, c]` belongs to our own expression basis in `tracking.npz`, and `id` is all zeros, since no
    Basel face model is involved.
    """
    angles, translation = legacy_pose(tracking.T_camera_head)
    values = {
        "id": np.zeros((1, NUM_LEGACY_IDENTITY)),
        "exp": tracking.expression,
        "euler": angles,
        "trans": translation,
        "focal": np.array([tracking.focal]),
        "vertices": SCENE_UNITS_PER_METRE * tracking.mesh[None],
    }
    tensors = {name: torch.from_numpy(value.astype(np.float32)) for name, value in values.items()}
    torch.save(tensors, output.track_params)


def write_action_units(output: DatasetLayout, tracking: Tracking) -> None:
    """Write `au.csv` as OpenFace would, with the one column that is used: AU45, the blink.

    A closed eye has 2, where the public code and our own reader cut off what OpenFace says.
    """
    rows = ["frame, face_id, timestamp, confidence, success, AU45_r"]
    for frame, (blink, valid) in enumerate(zip(tracking.blink, tracking.valid)):
        confidence = 0.98 if valid else 0.0
        rows.append(
            f"{frame + 1}, 0, {frame / FPS:.3f}, {confidence:.2f}, {int(valid)}, "
            f"{AU45_CLOSED * blink:.3f}"
        )
    output.action_units.write_text("\n".join(rows) + "\n", encoding="utf-8")


def write_points68(
    dataset: DatasetLayout, points: Float32[np.ndarray, "b 68 2"], valid: Bool[np.ndarray, " b"]
) -> None:
    """Write `{i}.lms` for every frame with a face: the 68 iBUG landmarks as rows `x y`.

    They belong into the folder of the frames, so they are written in place.
    """
    for frame in range(len(points)):
        path = dataset.points68(frame)
        if valid[frame]:
            rows = (f"{x:f} {y:f}\n" for x, y in points[frame])
            path.write_text("".join(rows), encoding="utf-8")
        else:
            path.unlink(missing_ok=True)


def write_dataset(
    dataset: DatasetLayout, output: DatasetLayout, landmarks: Landmarks, tracking: Tracking
) -> dict[str, Any]:
    """Write everything but images and sound.

    Returns:
        The facts for `talker.json`.
    """
    write_points68(dataset, landmarks.points[:, IBUG68_FROM_MESH, :2], landmarks.valid)
    write_transforms(output, tracking)
    write_track_params(output, tracking)
    write_action_units(output, tracking)
    mesh = FaceMesh(tracking.mesh.astype(np.float32), canonical_mesh().triangles.astype(np.int64))
    mesh.save(output.face_mesh)
    np.save(output.blendshapes, landmarks.blendshapes.astype(np.float32))
    # What is before the mouth must not be learned: such frames keep their number, but do not count.
    invalid = np.flatnonzero(~(landmarks.clear & tracking.valid))
    return {"num_frames": len(landmarks.points), "invalid_frames": invalid.tolist()}
