"""A clip from start to end: speech, motion, frames on worker processes, truth, files."""

import hashlib
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from gaussiantalker_ns.scripts.dev.sample import encode, motion, truth, visemes
from gaussiantalker_ns.scripts.dev.sample.parts import CHANNELS, Character
from gaussiantalker_ns.scripts.dev.sample.renderer import Picture, Pose, Renderer
from gaussiantalker_ns.scripts.dev.sample.speech import Speech

FPS = 25
FOCAL_FACTOR = 2.25
"""Focal length over picture width: a portrait lens."""
CAMERA_OFFSET = np.array([0.0, -0.025, 1.20])
"""Origin of the resting head frame in the camera frame, metres (OpenCV axes)."""
NEUTRAL_SIZE = 512
"""Size of the neutral render in which the landmarks are found, whatever the clip's size."""


@dataclass
class Clip:
    """Poses of all frames and the speech that goes with them."""

    speech: Speech
    poses: list[Pose]
    size: int

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return FOCAL_FACTOR * self.size


def compose(speech: Speech, size: int, seed: int, neck_pivot: Float[np.ndarray, "3"]) -> Clip:
    """Turn speech into poses, one per frame, sampled at the frames' middles."""
    count = int(np.floor(speech.duration * FPS + 1e-6))
    times = (np.arange(count) + 0.5) / FPS
    acted = motion.perform(speech.phonemes, times, np.random.default_rng(seed))
    mouth = visemes.mouth_weights(speech.phonemes, speech.duration, times)
    weights = np.clip(mouth + acted.weights, 0, 1)
    head, torso = motion.camera_transforms(acted, neck_pivot, CAMERA_OFFSET)
    poses = [Pose(weights[i], acted.gaze[i], head[i], torso[i]) for i in range(count)]
    return Clip(speech, poses, size)


def neutral_pose() -> Pose:
    """Return the frontal pose with a neutral face and a straight gaze."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = motion.OPENCV, CAMERA_OFFSET
    return Pose(np.zeros(len(CHANNELS)), np.zeros(2), matrix, matrix)


_renderer: Renderer | None = None


def _start_worker(character: Character, size: int, focal: float, supersampling: int) -> None:
    """Build a worker process's renderer."""
    global _renderer  # noqa: PLW0603 - a worker process has exactly one renderer.
    _renderer = Renderer(character, size, focal, supersampling)


def _draw(pose: Pose) -> Picture:
    """Render one frame in a worker process."""
    assert _renderer is not None
    return _renderer.draw(pose)


def render(character: Character, clip: Clip, supersampling: int, workers: int) -> Iterator[Picture]:
    """Yield the frames in order; the pictures do not depend on the number of workers."""
    arguments = (character, clip.size, clip.focal, supersampling)
    if workers <= 1:
        renderer = Renderer(*arguments)
        for pose in clip.poses:
            yield renderer.draw(pose)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _start_worker, arguments) as pool:
        yield from pool.imap(_draw, clip.poses, chunksize=2)


def make_clip(
    character: Character, clip: Clip, output_dir: Path, supersampling: int, workers: int, track
) -> truth.Truth:
    """Render and write `presenter.mp4` and `truth.npz`; `track` wraps the frames for progress."""
    digest, areas = hashlib.sha256(), []

    def frames() -> Iterator[np.ndarray]:
        for picture in track(render(character, clip, supersampling, workers)):
            digest.update(picture.rgb.tobytes())
            areas.append(int(picture.head_mask.sum()))
            yield picture.rgb

    speech = clip.speech
    length = round(len(clip.poses) / FPS * speech.sample_rate_hz)
    sound = np.pad(speech.samples, (0, max(length - len(speech.samples), 0)))[:length]
    encode.write_mp4(output_dir / "presenter.mp4", frames(), FPS, sound, speech.sample_rate_hz)
    result = gather_truth(character, clip, np.array(areas), digest.hexdigest())
    result.save(output_dir / "truth.npz")
    return result


def gather_truth(character: Character, clip: Clip, areas: np.ndarray, digest: str) -> truth.Truth:
    """Collect the ground truth of a rendered clip."""
    renderer = Renderer(character, NEUTRAL_SIZE, FOCAL_FACTOR * NEUTRAL_SIZE, 2)
    landmarks = truth.tie_landmarks(character, renderer, neutral_pose())
    rest = landmarks.of(character.rest)
    offsets = landmarks.of(character.basis).astype(np.float32)
    weights = np.stack([pose.weights for pose in clip.poses]).astype(np.float32)
    blink = weights[:, [CHANNELS.index("eyeBlinkLeft"), CHANNELS.index("eyeBlinkRight")]]
    moved = rest + np.tensordot(weights.astype(np.float64), offsets, axes=1)
    phonemes = clip.speech.phonemes
    return truth.Truth(
        fps=np.array(float(FPS)),
        size=np.array([clip.size, clip.size]),
        intrinsics=np.array([clip.focal, clip.size / 2, clip.size / 2]),
        T_camera_head=np.stack([pose.T_camera_head for pose in clip.poses]),
        weight_names=np.array(CHANNELS),
        weights=weights,
        gaze=np.stack([pose.gaze for pose in clip.poses]).astype(np.float32),
        eyelid_closure=blink.mean(axis=1),
        mouth_opening_mm=truth.mouth_opening_mm(moved, rest).astype(np.float32),
        face_height_mm=np.array(truth.face_height_mm(rest)),
        landmark_rest=rest.astype(np.float32),
        landmark_offsets=offsets,
        head_area_px=areas.astype(np.int32),
        phonemes=np.array([item.symbol for item in phonemes]),
        phoneme_times=np.array([[item.start, item.end] for item in phonemes]).round(4),
        frames_sha256=np.array(digest),
    )
