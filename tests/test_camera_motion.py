"""A camera in a hand is told from a still one, one that creeps, and a background that moves."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_portrait import SIDE, draw_portrait, seen

from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.preprocess.layers.camera_motion import camera_sway
from gaussiantalker_ns.preprocess.report.warnings import MAX_CAMERA_SWAY
from gaussiantalker_ns.preprocess.segmentation.base import BACKGROUND, write_labels

NUM_FRAMES = 100
MARGIN = 24
Shift = Callable[[int], tuple[float, float]]


def wall(seed: int = 0) -> np.ndarray:
    """A wall with things on it, larger than the picture."""
    rng = np.random.default_rng(seed)
    side = SIDE + 2 * MARGIN
    picture = np.full((side, side, 3), (120, 130, 125), np.uint8)
    for x, y, w, h in rng.integers(0, side, (60, 4)):
        color = rng.integers(30, 230, 3).tolist()
        cv2.rectangle(
            picture, (int(x), int(y)), (int(x + 6 + w % 30), int(y + 6 + h % 30)), color, -1
        )
    return picture


def sway_of(
    folder: Path, shift: Shift, picture: np.ndarray, moves: bool = False, noise: float = 0.0
) -> float | None:
    """Sway of a clip in which the wall (or a part of it) moves by `shift(frame)` pixels."""
    rng = np.random.default_rng(0)
    dataset = DatasetLayout(folder)
    dataset.frames_dir.mkdir()
    dataset.parsing_dir.mkdir()
    portrait = draw_portrait()
    size = (SIDE, SIDE)
    for frame in range(0, NUM_FRAMES, 5):
        x, y = shift(frame)
        motion = np.float32([[1, 0, x - MARGIN], [0, 1, y - MARGIN]])
        behind = cv2.warpAffine(picture, motion, size, flags=cv2.INTER_LINEAR)
        if moves:
            still = cv2.warpAffine(picture, np.float32([[1, 0, -MARGIN], [0, 1, -MARGIN]]), size)
            behind[:, : SIDE * 7 // 8] = still[:, : SIDE * 7 // 8]
        image = np.where(portrait.labels[..., None] == BACKGROUND, behind, portrait.image)
        image = np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(dataset.frame(frame)), image[..., ::-1])
        write_labels(dataset.parsing(frame), portrait.labels)
    return camera_sway(dataset, seen(NUM_FRAMES), 2)


def by_hand(frame: int) -> tuple[float, float]:
    return 4.0 * np.sin(frame / 11.0), 3.0 * np.sin(frame / 7.0 + 1.0)


def test_a_camera_in_a_hand(tmp_path: Path):
    sway = sway_of(tmp_path, by_hand, wall())
    assert sway == pytest.approx(8.0 / SIDE, rel=0.15)
    assert sway > MAX_CAMERA_SWAY


@pytest.mark.parametrize("shift", [lambda _: (0.0, 0.0), lambda frame: (frame / 100, 0.0)])
def test_a_camera_that_stands_or_creeps(tmp_path: Path, shift: Shift):
    sway = sway_of(tmp_path, shift, wall())
    assert sway is not None and sway < MAX_CAMERA_SWAY / 2


def test_something_that_moves_in_the_background(tmp_path: Path):
    sway = sway_of(tmp_path, by_hand, wall(), moves=True)
    assert sway is not None and sway < MAX_CAMERA_SWAY / 2


def test_a_plain_wall_tells_nothing(tmp_path: Path):
    plain = np.full((SIDE + 2 * MARGIN, SIDE + 2 * MARGIN, 3), 128, np.uint8)
    sway = sway_of(tmp_path, by_hand, plain, noise=2.0)
    assert sway is None or sway < MAX_CAMERA_SWAY / 2
