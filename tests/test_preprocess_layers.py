"""Background and torso layers."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_portrait import BACKGROUND_RGB, SIDE, draw_portrait, drawn_clip, seen

from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.dataparsers.torso_layer import (
    NECK_EXTENSION,
    extension_lengths,
    make_torso_layer,
    top_edges,
)
from gaussiantalker_ns.preprocess.layers.background import (
    fill_smoothly,
    make_background,
    masked_median,
)
from gaussiantalker_ns.preprocess.layers.torso import write_torso_layers
from gaussiantalker_ns.preprocess.segmentation.base import (
    BACKGROUND,
    HEAD,
    NECK,
    TORSO,
    write_labels,
)


def test_masked_median_against_the_loop():
    rng = np.random.default_rng(0)
    stack = rng.integers(0, 256, (7, 4, 5, 3), np.uint8)
    seen = rng.random((7, 4, 5)) < 0.6
    seen[:, 0, 0] = False
    median, known = masked_median(stack, seen)
    for y in range(4):
        for x in range(5):
            assert known[y, x] == seen[:, y, x].any()
            if known[y, x]:
                expected = np.median(stack[seen[:, y, x], y, x], axis=0)
                np.testing.assert_array_equal(median[y, x], expected)


def test_fill_keeps_the_known_part_and_continues_a_flat_one():
    image = np.full((33, 40, 3), 80.0, np.float32)
    known = np.ones((33, 40), bool)
    known[8:25, 10:30] = False
    image[~known] = 0.0
    filled = fill_smoothly(image, known)
    np.testing.assert_allclose(filled, 80.0, atol=0.5)


def test_fill_is_smooth_between_two_colours():
    image = np.zeros((32, 64, 1), np.float32)
    image[:, 48:] = 100.0
    known = np.zeros((32, 64), bool)
    known[:, :16], known[:, 48:] = True, True
    filled = fill_smoothly(image, known)[16, :, 0]
    assert 25 < filled[32] < 75
    assert np.abs(np.diff(filled)).max() < 35


def test_fill_without_anything_known():
    assert (fill_smoothly(np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), bool)) == 127).all()


def write_clip(root: Path, num_frames: int = 6) -> DatasetLayout:
    dataset = DatasetLayout(root)
    dataset.frames_dir.mkdir(exist_ok=True)
    dataset.parsing_dir.mkdir(exist_ok=True)
    for index, frame in enumerate(drawn_clip(num_frames)):
        cv2.imwrite(str(dataset.frame(index)), frame.image[..., ::-1])
        write_labels(dataset.parsing(index), frame.labels)
    return dataset


def test_background_of_a_drawn_clip(tmp_path: Path):
    background = make_background(write_clip(tmp_path), seen(6))
    assert np.abs(background.image.astype(int) - BACKGROUND_RGB).mean() < 6
    assert 0.4 < background.seen_fraction < 0.9
    assert background.motion < 5


HIDDEN = (200, 60, 60)
"""A picture on the wall, which the person hides in every frame."""


def write_clip_with_card(root: Path, card: np.ndarray) -> DatasetLayout:
    """Twelve frames of a person, then four of something else, in which nobody is segmented."""
    dataset = write_clip(root, 12)
    for frame in range(12, 16):
        cv2.imwrite(str(dataset.frame(frame)), card[..., ::-1])
        write_labels(dataset.parsing(frame), np.zeros((SIDE, SIDE), np.uint8))
    return dataset


def empty_room() -> np.ndarray:
    room = np.full((SIDE, SIDE, 3), BACKGROUND_RGB, np.uint8)
    room[110:140, 110:140] = HIDDEN
    return room


def title_card() -> np.ndarray:
    card = np.zeros((SIDE, SIDE, 3), np.uint8)
    cv2.putText(card, "My film", (20, 140), cv2.FONT_HERSHEY_SIMPLEX, 1.5, (255, 255, 255), 3)
    return card


def test_an_empty_room_shows_what_the_person_hides(tmp_path: Path):
    dataset = write_clip_with_card(tmp_path, empty_room())
    background = make_background(dataset, seen(16, range(12, 16)))
    assert background.seen_fraction == 1.0
    assert np.abs(background.image[115:135, 115:135].astype(int) - HIDDEN).mean() < 8


@pytest.mark.parametrize("card", [np.zeros((SIDE, SIDE, 3), np.uint8), title_card()])
def test_black_frames_and_titles_do_not_count_for_the_background(tmp_path: Path, card: np.ndarray):
    """As one long black end did: a plate that is black in the person's outline."""
    landmarks = seen(16, range(12, 16))
    background = make_background(write_clip_with_card(tmp_path, card), landmarks)
    alone = make_background(write_clip(tmp_path, 12), seen(12))
    assert background.seen_fraction == alone.seen_fraction < 0.9
    np.testing.assert_array_equal(background.image, alone.image)


def test_frames_with_something_before_the_face_do_not_count_for_the_background(tmp_path: Path):
    dataset, landmarks = write_clip(tmp_path, 24), seen(24)
    alone = make_background(dataset, seen(24, range(12, 24))).image
    landmarks.covered[12:] = True
    for frame in range(12, 24):
        image = cv2.imread(str(dataset.frame(frame)))
        image[150:180] = 0
        cv2.imwrite(str(dataset.frame(frame)), image)
    np.testing.assert_array_equal(make_background(dataset, landmarks).image, alone)


def test_extension_is_long_in_the_middle_of_the_neck_only():
    columns = np.arange(100, 201)
    is_neck = (columns >= 120) & (columns <= 180)
    lengths = extension_lengths(columns, is_neck, 512)
    offset = np.abs(columns - 150) / 30
    assert lengths[offset < 0.2].min() >= 0.9 * NECK_EXTENSION * 512
    assert lengths[(offset >= 0.75) & is_neck].max() <= 25
    assert lengths[0] == lengths[-1] == 9
    assert np.abs(np.diff(lengths)).max() <= 6


def test_extension_without_a_neck():
    lengths = extension_lengths(np.arange(5), np.zeros(5, bool), 512)
    assert lengths.tolist() == [9] * 5


def test_top_edges_are_below_the_head():
    labels = np.uint8([[0, 3, 3], [1, 3, 2], [1, 1, 2]])
    assert top_edges(labels).tolist() == [[1, 2], [2, 1]]


def test_torso_layer_keeps_the_body_and_grows_only_under_the_head():
    frame = draw_portrait()
    layer = make_torso_layer(frame.image, frame.labels)
    body = (frame.labels == NECK) | (frame.labels == TORSO)
    alpha = layer[..., 3]
    assert set(np.unique(alpha).tolist()) == {0, 255}
    assert (layer[..., :3][body] == frame.image[body]).all()
    assert (alpha[body] == 255).all()
    grown = (alpha > 0) & ~body
    assert grown.sum() > 200
    assert (frame.labels[grown] == HEAD).all()
    assert (layer[alpha == 0] == 0).all()
    # What has grown under the chin has the colour of the neck.
    neck = frame.image[frame.labels == NECK].mean(0)
    middle = grown.copy()
    middle[:, : SIDE // 2 - 8], middle[:, SIDE // 2 + 8 :] = False, False
    assert np.abs(layer[..., :3][middle].mean(0) - neck).max() < 12


def test_torso_layer_without_anything_below_the_head():
    labels = np.full((32, 32), HEAD, np.uint8)
    assert make_torso_layer(np.full((32, 32, 3), 99, np.uint8), labels).sum() == 0


@pytest.mark.parametrize("with_composites", [False, True])
def test_layers_of_a_clip(tmp_path: Path, with_composites: bool):
    dataset = write_clip(tmp_path, 3)
    output = DatasetLayout(tmp_path / "new")
    output.root.mkdir()
    background = np.full((SIDE, SIDE, 3), (9, 200, 9), np.uint8) if with_composites else None
    counts: list[int] = []
    write_torso_layers(dataset, output, 3, 2, counts.append, background)
    assert counts == [1, 2, 3]
    stored = cv2.imread(str(output.torso(2)), cv2.IMREAD_UNCHANGED)
    assert stored.shape == (SIDE, SIDE, 4)
    assert output.composites_dir.exists() == with_composites
    if with_composites:
        composite = cv2.imread(str(output.composite(2)))[..., ::-1].astype(int)
        background = cv2.erode(
            (drawn_clip(3)[2].labels == BACKGROUND).astype(np.uint8), np.ones((9, 9))
        )
        assert np.abs(composite[background > 0] - (9, 200, 9)).mean() < 5
