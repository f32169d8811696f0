"""Everything that moves besides the mouth: head, shoulders, gaze, lids, brows and cheeks.

All angles in the head frame's sense: yaw turns the face towards the person's left (image right),
pitch lifts it, roll tilts its top towards the person's right.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from gaussiantalker_ns.scripts.dev.sample.parts import CHANNELS
from gaussiantalker_ns.scripts.dev.sample.speech import Phoneme

YAW_LIMIT_DEG, PITCH_LIMIT_DEG, ROLL_LIMIT_DEG = 14.0, 7.0, 5.0
BLINK_CLOSE_S, BLINK_HOLD_S, BLINK_OPEN_S = 0.085, 0.045, 0.17
OPENCV = np.diag([1.0, -1.0, -1.0])
"""From y up, z towards the viewer to OpenCV's y down, z away."""


@dataclass
class Motion:
    """Poses, gaze and upper-face weights of a clip's frames."""

    head_angles_deg: Float[np.ndarray, "n 3"]
    """Yaw, pitch, roll of the head relative to the camera's axes."""
    torso_angles_deg: Float[np.ndarray, "n 3"]
    torso_shift: Float[np.ndarray, "n 3"]
    """Shoulder sway in metres (x, y up, z to the viewer)."""
    gaze: Float[np.ndarray, "n 2"]
    """Eye yaw and pitch relative to the head, in radians."""
    weights: Float[np.ndarray, "n k"]
    """Brow, cheek, lid and smile weights."""


def wander(
    rng: np.random.Generator, times: Float[np.ndarray, " n"], period: float, power: float = 1.0
) -> Float[np.ndarray, " n"]:
    """Return smooth noise in [-1, 1] that changes over about `period` seconds, zero at time 0."""
    knots = np.arange(-2 * period, times[-1] + 3 * period, period / 2)
    values = rng.uniform(-1, 1, len(knots))
    fine = np.arange(knots[0], knots[-1], 0.02)
    track = gaussian_filter1d(np.interp(fine, knots, values), period / 2 / 0.02 * 0.55)
    track = track / np.abs(track).max()
    result = np.interp(times, fine, track)
    result = np.sign(result) * np.abs(result) ** power
    settle = np.clip(times / 0.8, 0, 1)
    return result * settle * settle * (3 - 2 * settle)


def blinks(rng: np.random.Generator, times: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return lid closure in [0, 1]: a blink every 2 to 5 seconds, now and then a double one."""
    closure = np.zeros(len(times))
    at = rng.uniform(0.9, 1.6)
    while at < times[-1]:
        depth = rng.uniform(0.94, 1.0)
        # Blinks are centred on a frame's middle, so that 25 fps always shows the lids shut.
        peak = times[np.abs(times - at).argmin()]
        start = peak - BLINK_CLOSE_S - BLINK_HOLD_S / 2
        close = np.clip((times - start) / BLINK_CLOSE_S, 0, 1)
        opening = np.clip((peak + BLINK_HOLD_S / 2 + BLINK_OPEN_S - times) / BLINK_OPEN_S, 0, 1)
        lid = np.minimum(close * close * (3 - 2 * close), opening**2 * (3 - 2 * opening))
        closure = np.maximum(closure, depth * lid)
        at += 0.42 if rng.random() < 0.12 else rng.uniform(2.0, 4.8)
    return closure


def stress_track(
    phonemes: list[Phoneme], times: Float[np.ndarray, " n"], width: float
) -> Float[np.ndarray, " n"]:
    """Return bumps of about `width` seconds at syllables with primary stress, in [0, 1]."""
    track = np.zeros(len(times))
    for phoneme in phonemes:
        if phoneme.stress == 2:
            middle = 0.5 * (phoneme.start + phoneme.end)
            track += (
                (phoneme.end - phoneme.start)
                / 0.12
                * np.exp(-0.5 * ((times - middle) / width) ** 2)
            )
    return np.clip(track, 0, 1)


def pause_track(phonemes: list[Phoneme], times: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return 1 within pauses longer than 0.25 s (and before and after speech), smoothed."""
    voiced = np.zeros(len(times))
    for phoneme in phonemes:
        if not phoneme.symbol.startswith("_"):
            voiced[(times > phoneme.start - 0.12) & (times < phoneme.end + 0.12)] = 1
    return gaussian_filter1d(1 - voiced, 3.0, mode="nearest")


def perform(
    phonemes: list[Phoneme], times: Float[np.ndarray, " n"], rng: np.random.Generator
) -> Motion:
    """Invent the motion of a clip, deterministic in the generator."""
    nod, accent = stress_track(phonemes, times, 0.11), stress_track(phonemes, times, 0.20)
    rest = pause_track(phonemes, times)
    yaw = 14.0 * wander(rng, times, 3.6, 0.75) + 3.0 * wander(rng, times, 1.3)
    pitch = 3.8 * wander(rng, times, 2.7) + 1.0 * wander(rng, times, 0.9) - 2.0 * nod
    roll = 3.2 * wander(rng, times, 4.2) + 0.10 * yaw
    limits = np.array([YAW_LIMIT_DEG, PITCH_LIMIT_DEG, ROLL_LIMIT_DEG])
    head = np.stack([yaw, pitch, roll], axis=1)
    head = limits * np.tanh(head / limits)
    torso = np.stack([0.16 * head[:, 0], 0 * yaw, 1.2 * wander(rng, times, 5.0)], axis=1)
    breath = 0.0016 * np.sin(2 * np.pi * times / 3.7)
    shift = np.stack(
        [0.007 * wander(rng, times, 4.5), breath + 0.002 * wander(rng, times, 3.0),
         0.008 * wander(rng, times, 5.5)], axis=1
    )  # fmt: skip
    weights, gaze = np.zeros((len(times), len(CHANNELS))), _gaze(rng, times, head)

    def put(name: str, values: np.ndarray) -> None:
        for side in (name,) if name in CHANNELS else (name + "Left", name + "Right"):
            weights[:, CHANNELS.index(side)] += values

    raised = np.clip(0.30 * accent + 0.22 * wander(rng, times, 1.9), 0, 0.6)
    put("browInnerUp", raised)
    put("browOuterUp", 0.55 * raised)
    put("browDown", np.clip(0.20 * wander(rng, times, 3.1), 0, 0.2) * (1 - raised))
    smile = np.clip(0.13 + 0.07 * wander(rng, times, 3.4) + 0.20 * rest, 0, 0.4)
    put("mouthSmile", smile)
    put("cheekSquint", 0.5 * smile + 0.10 * accent)
    put("eyeSquint", 0.25 * smile)
    _lids(rng, times, gaze, put)
    return Motion(head, torso, shift, gaze, weights)


def _gaze(
    rng: np.random.Generator, times: np.ndarray, head_deg: np.ndarray
) -> Float[np.ndarray, "n 2"]:
    """Return eye angles that hold the camera while the head turns, with small saccades."""
    aside = np.zeros((len(times), 2))
    at = rng.uniform(1.0, 2.0)
    while at < times[-1]:
        until = at + rng.uniform(0.5, 1.6)
        goal = rng.normal(size=2) * np.array([2.6, 1.4])
        aside[(times >= at) & (times < until)] = goal
        at = until + rng.uniform(0.6, 2.2)
    aside = gaussian_filter1d(aside, 0.6, axis=0, mode="nearest")
    hold = -np.stack([head_deg[:, 0], head_deg[:, 1]], axis=1) * 0.92
    return np.radians(hold + aside)


def _lids(rng: np.random.Generator, times: np.ndarray, gaze: np.ndarray, put) -> None:
    """Add blinks, lids that follow the gaze, and the push that keeps lids outside the eyeball."""
    closure = blinks(rng, times)
    up = gaze[:, 1] / np.radians(25.0)
    put("eyeBlink", closure)
    put("lidArc", 4 * closure * (1 - closure))
    put("eyeLookUp", np.clip(up, 0, 1) * (1 - closure))
    put("eyeLookDown", np.clip(-up, 0, 1) * (1 - closure))


def rotation(angles_deg: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """Return the rotation yaw * pitch * roll in y-up axes.

    Example: 90 degrees of yaw take the face's direction (0, 0, 1) to (1, 0, 0).
    """
    yaw, pitch, roll = np.radians(angles_deg)
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    lift = np.array(
        [[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]]
    )
    tilt = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return turn @ lift @ tilt


def camera_transforms(
    motion: Motion, neck_pivot: Float[np.ndarray, "3"], camera_offset: Float[np.ndarray, "3"]
) -> tuple[Float[np.ndarray, "n 4 4"], Float[np.ndarray, "n 4 4"]]:
    """Return T_camera_head and T_camera_torso (OpenCV, metres) of every frame.

    `camera_offset` is where the origin of the resting head frame lies in the camera frame. The head
    turns about `neck_pivot`, which itself rides on the torso.
    """
    count = len(motion.gaze)
    head, torso = np.tile(np.eye(4), (count, 1, 1)), np.tile(np.eye(4), (count, 1, 1))
    for i in range(count):
        torso_turn = rotation(motion.torso_angles_deg[i])
        head_turn = rotation(motion.head_angles_deg[i])
        pivot = neck_pivot + motion.torso_shift[i]
        for matrix, turn in ((torso[i], torso_turn), (head[i], head_turn)):
            matrix[:3, :3] = OPENCV @ turn
            matrix[:3, 3] = OPENCV @ (pivot - turn @ neck_pivot) + camera_offset
    return head, torso
