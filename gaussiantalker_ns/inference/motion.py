"""Motion beside speech: pose, brows, gaze and blinks of every frame of a video."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from gaussiantalker_ns.timebase import FPS, ping_pong

MEAN_INTERVAL_S = 3.2
"""People in conversation blink about 17 to 26 times a minute (Bentivoglio et al. 1997)."""

INTERVAL_SPREAD = 0.45
"""Standard deviation of the logarithm of the interval."""

CLOSING_S, CLOSED_S, OPENING_S = 0.10, 0.05, 0.20
"""The lid falls twice as fast as it rises."""

PULSE_S = CLOSING_S + CLOSED_S + OPENING_S


def lid_pulse(time_s: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Closure of the lid, 0 open to 1 closed, at times since its first movement."""
    falling = np.clip(time_s / CLOSING_S, 0, 1)
    rising = np.clip((time_s - CLOSING_S - CLOSED_S) / OPENING_S, 0, 1)
    return 0.5 * (1 - np.cos(np.pi * falling)) * 0.5 * (1 + np.cos(np.pi * rising))


def blink_times(duration_s: float, seed: int = 0) -> Iterator[tuple[float, float]]:
    """Yield start and depth of blinks in their order: intervals log-normal, depths nearly full.

    A longer while begins with the blinks of a shorter one, so that streams and files agree.
    """
    generator = np.random.default_rng(seed)
    start = 0.0
    while True:
        gap = MEAN_INTERVAL_S * np.exp(INTERVAL_SPREAD * generator.standard_normal())
        depth = generator.uniform(0.85, 1.0)
        start += max(gap, PULSE_S + 0.3)
        if start >= duration_s:
            return
        yield float(start), float(depth)


def generate_blinks(num_frames: int, seed: int = 0) -> Float[np.ndarray, " num_frames"]:
    """Make a track of eyelid closure in [0, 1], one value a frame, of `blink_times`."""
    frame_times = (np.arange(num_frames) + 0.5) / FPS
    track = np.zeros(num_frames)
    for start, depth in blink_times(num_frames / FPS, seed):
        lids_move = slice(*np.searchsorted(frame_times, (start, start + PULSE_S)))
        pulse = depth * lid_pulse(frame_times[lids_move] - start)
        track[lids_move] = np.maximum(track[lids_move], pulse)
    return track


TURNING_WINDOW_FRAMES = 25
"""The track is turned at its calmest frame among the first and the last second."""

HEAD_RADIUS = 1.0
"""Scene units (decimetres): converts a rotation speed into the speed of the skin."""

LEAST_RUN_FRAMES = 2 * FPS
"""Shortest stretch of the clip that is played in ping-pong: the head would rock in a shorter one.
A clip that has gaps more often is played as if they were not there, and jumps."""


def longest_run(frames: Int[np.ndarray, " k"]) -> Int[np.ndarray, " r"]:
    """The longest stretch of consecutive numbers: frames 0 1 5 6 7 9 give 5 6 7."""
    runs = np.split(frames, np.flatnonzero(np.diff(frames) != 1) + 1)
    return max(runs, key=len)


def frames_in_motion(clip_frames: Int[np.ndarray, " k"]) -> Int[np.ndarray, " r"]:
    """The frames that give the motion: the longest stretch without a gap, or all if it is short."""
    run = longest_run(clip_frames)
    return run if len(run) >= LEAST_RUN_FRAMES else clip_frames


def frame_speeds(T_camera_head: Float[np.ndarray, "m 4 4"]) -> Float[np.ndarray, " m"]:
    """Speed of the head around every frame, in scene units per frame."""
    # The Frobenius norm of the difference is sqrt(8) times the sine of half the angle between.
    chord = np.linalg.norm(np.diff(T_camera_head[:, :3, :3], axis=0), axis=(1, 2))
    turn = 2 * np.arcsin(np.minimum(chord / np.sqrt(8), 1))
    shift = np.linalg.norm(np.diff(T_camera_head[:, :3, 3], axis=0), axis=1)
    between = HEAD_RADIUS * turn + shift
    return np.maximum(np.append(between, between[-1]), np.insert(between, 0, between[0]))


def calmest_pose(T_camera_head: Float[np.ndarray, "m 4 4"]) -> int:
    """Number of the pose whose position is nearest to the median position."""
    places = T_camera_head[:, :3, 3]
    return int(np.linalg.norm(places - np.median(places, axis=0), axis=1).argmin())


def turning_frames(T_camera_head: Float[np.ndarray, "m 4 4"]) -> tuple[int, int]:
    """Return the calmest frames of the first and of the last second of a track.

    A track that is played in ping-pong between them changes its direction where the head hardly
    moves, so that the turn is not seen.
    """
    length = len(T_camera_head)
    if length < 2:
        return 0, 0
    speeds = frame_speeds(T_camera_head)
    window = min(TURNING_WINDOW_FRAMES, max(1, length // 4))
    return int(speeds[:window].argmin()), length - 1 - int(speeds[::-1][:window].argmin())


def low_pass(values: Float[np.ndarray, "m ..."], sigma: float) -> Float[np.ndarray, "m ..."]:
    """Gaussian filter along the first axis, cut off at four sigmas; the ends are repeated."""
    radius = int(4 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    ends = [(radius, radius)] + [(0, 0)] * (values.ndim - 1)
    padded = np.pad(values, ends, mode="edge")
    weighed = [weight * padded[k : k + len(values)] for k, weight in enumerate(kernel)]
    return np.sum(weighed, axis=0) / kernel.sum()


def smooth_poses(
    T_camera_head: Float[np.ndarray, "m 4 4"], sigma_frames: float
) -> Float[np.ndarray, "m 4 4"]:
    """Low-pass poses in time; rotations become the one next to the mean of their matrices.

    Args:
        T_camera_head: Poses, OpenCV convention.
        sigma_frames: Standard deviation of the filter; 0 returns the poses unchanged.
    """
    if sigma_frames <= 0 or len(T_camera_head) < 2:
        return T_camera_head.copy()
    smooth = T_camera_head.copy()
    smooth[:, :3] = low_pass(T_camera_head[:, :3], sigma_frames)
    left, _, right = np.linalg.svd(smooth[:, :3, :3])
    smooth[:, :3, :3] = left @ right
    return smooth


PoseSource = Literal["track", "still"]
BlinkSource = Literal["auto", "track", "none"]

BLINK_CHUNK_FRAMES = FPS * 600
"""Generated blinks are made ten minutes at a time, so that a stream may be of any length."""


@dataclass(frozen=True)
class MotionConfig:
    """How the talker acts; a stream's length need not be known."""

    pose: PoseSource | Path = "track"
    """The head's motion: `track` plays the training clip, or its longest stretch without a gap, in
    ping-pong, `still` holds its calmest pose, and a file (.npy, or .npz with `T_camera_head`)
    gives `[m, 4, 4]` poses in metres."""
    blink: BlinkSource | Path = "auto"
    """Eyelids: `auto` generates natural blinks, `track` takes those of the training clip with its
    gaze, `none` keeps the eyes open; a text or .npy file gives one closure in [0, 1] a frame."""
    pose_smoothing_frames: float = 0.0
    """Standard deviation in frames of a low-pass over the poses; 0 plays them as recorded."""
    lip_smoothing_frames: float = 0.6
    """Standard deviation in frames of a low-pass over the speech features, 0 to 25."""
    lip_gain: float = 1.0
    """How far the lips move, 0 to 3: 1 as far as in the training clip. Models without an
    articulation code have no such gain."""
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
        if not 0 <= self.lip_gain <= 3:
            raise ValueError(f"lip_gain is {self.lip_gain}; expected a factor from 0 to 3.")
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


class MotionSampler:
    """The motion of one talker: which clip frame, pose and closure belong to which frame."""

    def __init__(
        self,
        motion: MotionConfig,
        clip_poses: Float[np.ndarray, "m 4 4"],
        clip_frames: Int[np.ndarray, " k"],
        units_per_metre: float,
    ) -> None:
        """Prepare for a video.

        Args:
            motion: What is wanted.
            clip_poses: `T_camera_head` of all frames of the clip, in scene units.
            clip_frames: Frames that may be shown, ascending: the training frames with a face.
            units_per_metre: Scene units in a metre.
        """
        self._motion = motion
        run = frames_in_motion(clip_frames)
        first, last = turning_frames(clip_poses[run])
        self._span = run[first : last + 1]
        smooth = smooth_poses(clip_poses[run], motion.pose_smoothing_frames)
        self._poses = smooth[first : last + 1]
        self._given: Float[np.ndarray, "m 4 4"] | None = None
        if motion.pose == "still":
            own = clip_poses[clip_frames]
            calm = calmest_pose(own)
            self._span, self._poses = clip_frames[calm : calm + 1], own[calm : calm + 1]
        elif motion.pose != "track":
            given = read_poses(Path(motion.pose), units_per_metre)
            self._given = smooth_poses(given, motion.pose_smoothing_frames)
        self._closures: dict[int, Float[np.ndarray, " m"]] = {}
        if motion.blink not in get_args(BlinkSource):
            self._closures[-1] = read_blinks(Path(motion.blink))

    def clip_frames(self, frames: Int[np.ndarray, " b"]) -> Int[np.ndarray, " b"]:
        """Frames of the clip that gives torso, brows and (with `track`) eyes."""
        places = frames + self._motion.start_frame
        return self._span[ping_pong(places, len(self._span))]

    def poses(self, frames: Int[np.ndarray, " b"]) -> Float[np.ndarray, "b 4 4"]:
        """Head poses, scene units."""
        places = frames + self._motion.start_frame
        if self._given is not None:
            return self._given[ping_pong(places, len(self._given))]
        return self._poses[ping_pong(places, len(self._poses))]

    def closures(self, frames: Int[np.ndarray, " b"]) -> Float[np.ndarray, " b"] | None:
        """Eyelid closures in [0, 1]; None where the clip's own eyes are shown."""
        motion = self._motion
        if motion.blink == "track":
            return None
        if motion.blink == "none":
            return np.zeros(len(frames))
        places = frames + motion.start_frame
        if -1 in self._closures:
            given = self._closures[-1]
            return given[ping_pong(places, len(given))]
        return np.array([self._generated(int(place)) for place in places])

    def _generated(self, place: int) -> float:
        chunk, offset = divmod(place, BLINK_CHUNK_FRAMES)
        if chunk not in self._closures:
            self._closures = {
                chunk: generate_blinks(BLINK_CHUNK_FRAMES, seed=self._motion.seed + chunk)
            }
        return float(self._closures[chunk][offset])
