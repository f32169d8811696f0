"""Quality of a tracking in numbers.

Low reprojection error or low jitter alone proves nothing: smoothing and free expressions improve
both and make the poses worse. The honest figure is the flow of skin points that the fit never saw.
"""

import numpy as np
from jaxtyping import Bool, Float64
from scipy.spatial.transform import Rotation

from gaussiantalker_ns.preprocess.tracking.optical_flow import OpticalFlow

# Head space y up, z towards the viewer -> OpenCV: a frontal head has this rotation.
FRONTAL = np.diag([1.0, -1.0, -1.0])


def flow_residuals(
    pixels: Float64[np.ndarray, "b m 2"], flow: OpticalFlow
) -> Float64[np.ndarray, " k"]:
    """Distance of predicted and measured motion of every measured point, pixels."""
    predicted = pixels[flow.first + flow.gap] - pixels[flow.first]
    return np.linalg.norm(predicted - flow.motion, axis=-1)[flow.measured]


def head_angles(poses: Float64[np.ndarray, "b 4 4"]) -> Float64[np.ndarray, "b 3"]:
    """Pitch, yaw and roll in degrees of poses `T_camera_head`, all zero for a frontal head.

    Positive pitch looks down, positive yaw looks to the picture's right, positive roll tilts
    clockwise in the picture.
    """
    rotation = Rotation.from_matrix(poses[:, :3, :3] @ FRONTAL)
    roll, yaw, pitch = rotation.as_euler("ZYX", degrees=True).T
    return np.stack([pitch, -yaw, roll], axis=-1)


def rotation_jitter(poses: Float64[np.ndarray, "b 4 4"], valid: Bool[np.ndarray, " b"]) -> float:
    """Root mean square change of the rotation from one frame step to the next, degrees."""
    rotation = Rotation.from_matrix(poses[:, :3, :3])
    steps = (rotation[1:] * rotation[:-1].inv()).as_rotvec(degrees=True)
    triple = valid[2:] & valid[1:-1] & valid[:-2]
    changes = np.diff(steps, axis=0)[triple]
    return float(np.sqrt((changes**2).sum(-1).mean())) if len(changes) else float("nan")


def mean_or_nan(values: Float64[np.ndarray, "*m"]) -> float:
    """Mean, NaN for no values at all (without numpy's warning)."""
    return float(values.mean()) if values.size else float("nan")


def tracking_quality(
    *,
    poses: Float64[np.ndarray, "b 4 4"],
    valid: Bool[np.ndarray, " b"],
    rigid_error: Float64[np.ndarray, "m k"],
    mesh_error: Float64[np.ndarray, "m 468"],
    held_out_flow: Float64[np.ndarray, " n"],
    held_out_drift: Float64[np.ndarray, " d"],
    landmark_flow: Float64[np.ndarray, " w"],
    flow_coverage: float,
    face_side: Float64[np.ndarray, " m"],
) -> dict[str, float]:
    """Collect the figures of a tracking; the data set's `talker.json` holds them.

    Args:
        poses: Poses of all frames.
        valid: Frames in which the face was found.
        rigid_error: Distances of rigid vertices from their landmarks in the valid frames, pixels.
        mesh_error: The same of all vertices with expressions.
        held_out_flow: Residuals of flow that the poses were not fitted to, pixels.
        held_out_drift: The same over the longest gap that was measured, a second.
        landmark_flow: Residuals between neighbouring frames for poses from landmarks alone.
        flow_coverage: Fraction of the rigid points whose flow could be measured.
        face_side: Longer side of the face in every valid frame, pixels.
    """
    pitch, yaw, roll = head_angles(poses[valid]).T
    return {
        "num_frames": float(len(poses)),
        "num_invalid": float((~valid).sum()),
        "rigid_reprojection_px": mean_or_nan(rigid_error),
        "reprojection_px": mean_or_nan(mesh_error),
        "held_out_flow_px": mean_or_nan(held_out_flow),
        "held_out_flow_median_px": float(np.median(held_out_flow))
        if len(held_out_flow)
        else np.nan,
        "held_out_drift_px": mean_or_nan(held_out_drift),
        "landmark_only_flow_px": mean_or_nan(landmark_flow),
        "flow_coverage": flow_coverage,
        "rotation_jitter_deg": rotation_jitter(poses, valid),
        "pitch_range_deg": float(np.ptp(np.percentile(pitch, [2, 98]))),
        "yaw_range_deg": float(np.ptp(np.percentile(yaw, [2, 98]))),
        "roll_range_deg": float(np.ptp(np.percentile(roll, [2, 98]))),
        "largest_turn_deg": float(np.abs(np.stack([pitch, yaw])).max()),
        "face_side_px": float(np.median(face_side)),
    }
