"""What the head does beside speaking: pose, brows, gaze and blinks of every frame of a video."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from gaussiantalker_ns.audio import FPS
from gaussiantalker_ns.driving.blinks import generate_blinks
from gaussiantalker_ns.driving.poses import longest_run, mirror_index, smooth_poses, turning_frames

PoseSource = Literal["track", "still"]
BlinkSource = Literal["auto", "track", "none"]

BLINK_CHUNK_FRAMES = FPS * 600
"""Generated blinks are made ten minutes at a time, so that a stream may be of any length."""

LEAST_RUN_FRAMES = 2 * FPS
"""Shortest stretch of the clip that is played to and fro, two seconds: the head would rock in a
shorter one. A clip that has gaps more often is played as if they were not there, and jumps."""


@dataclass(frozen=True)
class Performance:
    """How the talker acts; a stream's length need not be known."""

    pose: PoseSource | Path = "track"
    """The head's motion: `track` plays the training clip, or its longest stretch without a gap, to
    and fro, `still` holds its calmest pose, and a file (.npy, or .npz with `T_camera_head`) gives
    `[m, 4, 4]` poses in metres."""
    blink: BlinkSource | Path = "auto"
    """Eyelids: `auto` generates natural blinks, `track` takes those of the training clip with its
    gaze, `none` keeps the eyes open; a text or .npy file gives one closure in [0, 1] a frame."""
    pose_smoothing_frames: float = 0.0
    """Standard deviation in frames of a low-pass over the poses; 0 plays them as recorded."""
    lip_smoothing_frames: float = 0.6
    """Standard deviation in frames of a low-pass over the speech features, 0 to 25."""
    silence_gate: bool = True
    """Close the mouth where the audio is silent."""
    start_frame: int = 0
    """Frames of motion and blinks to skip, so that several videos need not begin alike."""
    seed: int = 0
    """Seed of the generated blinks."""

    def __post_init__(self) -> None:
        for name, literal in (("pose", PoseSource), ("blink", BlinkSource)):
            value = getattr(self, name)
            if value not in get_args(literal) and not Path(value).is_file():
                choices = ", ".join(get_args(literal))
                raise FileNotFoundError(
                    f"--{name} is {str(value)!r}, which is neither {choices} nor a file;"
                    " expected one of these. Check the spelling or the path."
                )
        for name in ("pose_smoothing_frames", "lip_smoothing_frames"):
            if not 0 <= getattr(self, name) <= 25:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 to 25 frames.")


def read_poses(path: Path, units_per_metre: float) -> Float[np.ndarray, "m 4 4"]:
    """Read `T_camera_head` (OpenCV, metres) and return it in scene units.

    Raises:
        ValueError: If the file does not hold finite rigid poses.
    """
    try:
        content = np.load(path, allow_pickle=False)
        poses = content["T_camera_head"] if path.suffix == ".npz" else content
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{path} cannot be read as poses ({error}); expected a .npy file, or a .npz file with"
            " the array T_camera_head."
        ) from error
    poses = np.asarray(poses, np.float64)
    right_shape = poses.ndim == 3 and poses.shape[1:] == (4, 4) and len(poses) > 0
    if not right_shape or not np.isfinite(poses).all():
        raise ValueError(
            f"{path} holds an array of shape {poses.shape}; expected finite poses [m, 4, 4]."
        )
    determinants = np.linalg.det(poses[:, :3, :3])
    if np.abs(determinants - 1).max() > 1e-3 or poses[:, 2, 3].min() <= 0:
        raise ValueError(
            f"{path} holds poses that are no rotations, or heads behind the camera; expected"
            " T_camera_head in OpenCV convention (z forward), in metres."
        )
    poses[:, :3, 3] *= units_per_metre
    return poses


def read_blinks(path: Path) -> Float[np.ndarray, " m"]:
    """Read one eyelid closure per frame, in [0, 1]."""
    try:
        values = np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.loadtxt(path)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as numbers ({error}).") from error
    values = np.atleast_1d(np.asarray(values, np.float64))
    if values.ndim != 1 or not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise ValueError(
            f"{path} holds an array of shape {values.shape}; expected one closure in [0, 1] for"
            " every frame."
        )
    return values


class Role:
    """The performance of one talker: which clip frame, pose and closure belong to which frame."""

    def __init__(
        self,
        performance: Performance,
        clip_poses: Float[np.ndarray, "m 4 4"],
        clip_frames: Int[np.ndarray, " k"],
        units_per_metre: float,
    ) -> None:
        """Prepare a performance.

        Args:
            performance: What is wanted.
            clip_poses: `T_camera_head` of all frames of the clip, in scene units.
            clip_frames: Frames that may be shown, ascending: the training frames with a face.
            units_per_metre: Scene units in a metre.
        """
        self._performance = performance
        run = longest_run(clip_frames)
        run = run if len(run) >= LEAST_RUN_FRAMES else clip_frames
        first, last = turning_frames(clip_poses[run])
        self._span = run[first : last + 1]
        smooth = smooth_poses(clip_poses[run], performance.pose_smoothing_frames)
        self._poses = smooth[first : last + 1]
        self._given: Float[np.ndarray, "m 4 4"] | None = None
        if performance.pose == "still":
            own = clip_poses[clip_frames]
            middle = np.median(own[:, :3, 3], axis=0)
            calm = int(np.linalg.norm(own[:, :3, 3] - middle, axis=1).argmin())
            self._span, self._poses = clip_frames[calm : calm + 1], own[calm : calm + 1]
        elif performance.pose != "track":
            given = read_poses(Path(performance.pose), units_per_metre)
            self._given = smooth_poses(given, performance.pose_smoothing_frames)
        self._closures: dict[int, Float[np.ndarray, " m"]] = {}
        if performance.blink not in get_args(BlinkSource):
            self._closures[-1] = read_blinks(Path(performance.blink))

    def clip_frames(self, frames: Int[np.ndarray, " b"]) -> Int[np.ndarray, " b"]:
        """Frames of the clip that lend torso, brows and (with `track`) eyes."""
        places = frames + self._performance.start_frame
        return self._span[mirror_index(places, len(self._span))]

    def poses(self, frames: Int[np.ndarray, " b"]) -> Float[np.ndarray, "b 4 4"]:
        """Head poses, scene units."""
        places = frames + self._performance.start_frame
        if self._given is not None:
            return self._given[mirror_index(places, len(self._given))]
        return self._poses[mirror_index(places, len(self._poses))]

    def closures(self, frames: Int[np.ndarray, " b"]) -> Float[np.ndarray, " b"] | None:
        """Eyelid closures in [0, 1]; None where the clip's own eyes are shown."""
        performance = self._performance
        if performance.blink == "track":
            return None
        if performance.blink == "none":
            return np.zeros(len(frames))
        places = frames + performance.start_frame
        if -1 in self._closures:
            given = self._closures[-1]
            return given[mirror_index(places, len(given))]
        return np.array([self._generated(int(place)) for place in places])

    def _generated(self, place: int) -> float:
        chunk, offset = divmod(place, BLINK_CHUNK_FRAMES)
        if chunk not in self._closures:
            self._closures = {
                chunk: generate_blinks(BLINK_CHUNK_FRAMES, seed=self._performance.seed + chunk)
            }
        return float(self._closures[chunk][offset])
