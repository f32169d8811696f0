"""Segmentation: its parts against slow references, the whole on drawn portraits."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from drawn_portrait import BACKGROUND_RGB, SIDE, draw_portrait, drawn_clip, seen

from gaussiantalker_ns.face.alignment import FaceFrames, face_mask, similarity, skin_mask
from gaussiantalker_ns.face.landmarker import Landmarks
from gaussiantalker_ns.preprocess.segmentation import segformer, segment
from gaussiantalker_ns.preprocess.segmentation.base import (
    colors_to_labels,
    labels_to_colors,
    read_labels,
    write_labels,
)
from gaussiantalker_ns.preprocess.segmentation.builtin import BuiltinSegmenter
from gaussiantalker_ns.preprocess.segmentation.color_models import (
    ColorModel,
    color_index,
    log_likelihood_tables,
)
from gaussiantalker_ns.preprocess.segmentation.matting import (
    NETWORK_SIDE,
    EdgePixels,
    SelfieNetwork,
    guided_coefficients,
    guided_values,
    keep_connected_to,
    keep_largest,
    refine_matte,
)
from gaussiantalker_ns.preprocess.segmentation.pixel_classifier import drawn_prior
from gaussiantalker_ns.preprocess.segmentation.segment import make_segmenter

FLOAT_TOLERANCE = 1e-4
"""Single precision over windows of a few dozen pixels."""


class FakeNetwork:
    """What the selfie network is like: right, but blurred and a few pixels too large."""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        different = np.abs(image.astype(int) - BACKGROUND_RGB).sum(-1) > 40
        person = cv2.medianBlur(different.astype(np.uint8), 5)
        person = cv2.dilate(person, np.ones((7, 7), np.uint8))
        small = cv2.resize(person.astype(np.float32), (NETWORK_SIDE, NETWORK_SIDE))
        return cv2.GaussianBlur(small, (0, 0), 1.5)

    def close(self) -> None:
        pass


@pytest.fixture
def fake_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "gaussiantalker_ns.preprocess.segmentation.builtin.SelfieNetwork", FakeNetwork
    )


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    return (found & truth).sum() / (found | truth).sum()


def test_guided_filter_against_the_loop():
    rng = np.random.default_rng(0)
    guide, values = rng.random((2, 13, 13)).astype(np.float32)
    radius, epsilon = 2, 1e-2
    slopes, offsets = np.zeros((13, 13)), np.zeros((13, 13))
    for y in range(2, 11):
        for x in range(2, 11):
            window = np.s_[y - 2 : y + 3, x - 2 : x + 3]
            g, v = guide[window].ravel().astype(float), values[window].ravel().astype(float)
            slopes[y, x] = ((g * v).mean() - g.mean() * v.mean()) / (g.var() + epsilon)
            offsets[y, x] = v.mean() - slopes[y, x] * g.mean()
    slope, offset = guided_coefficients(guide, values, radius, epsilon)
    middle, around = (6, 6), np.s_[4:9, 4:9]
    assert slope[middle] == pytest.approx(slopes[around].mean(), abs=FLOAT_TOLERANCE)
    assert offset[middle] == pytest.approx(offsets[around].mean(), abs=FLOAT_TOLERANCE)


def test_guided_filter_moves_the_edge_of_a_mask_to_the_guide():
    guide = np.zeros((32, 32), np.float32)
    guide[:, 16:] = 1.0
    blurred = cv2.GaussianBlur(guide, (0, 0), 2.0)
    pixels = EdgePixels.of(np.ones((32, 32), np.uint8), (32, 32))
    values = guided_values(guide, blurred, 3, 1e-4, pixels, guide[pixels.rows, pixels.columns])
    sharp = values.reshape(32, 32)
    assert sharp[16, 16] - sharp[16, 15] > 2.5 * (blurred[16, 16] - blurred[16, 15])


def test_edge_pixels_of_an_empty_band():
    assert len(EdgePixels.of(np.zeros((8, 8), np.uint8), (16, 16)).rows) == 0


def test_similarity_is_found():
    rng = np.random.default_rng(1)
    source = rng.normal(size=(9, 2))
    angle, scale = 0.3, 1.7
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    target = source @ linear.T + (3.0, -2.0)
    found = similarity(source, target)
    np.testing.assert_allclose(found, np.column_stack([linear, (3.0, -2.0)]), atol=1e-9)


def test_aligned_frames_lie_on_each_other():
    points = np.stack([frame.points for frame in drawn_clip(5)])
    frames = FaceFrames.from_landmarks(points, 0.5, np.ones(5, bool))
    motion = frames.between(1, 3)
    moved = frames.points[1] @ motion[:, :2].T + motion[:, 2]
    np.testing.assert_allclose(moved, frames.points[3], atol=1e-3)


def test_skin_leaves_out_eyes_and_lips():
    points = draw_portrait().points[:, :2]
    face, skin = (mask(points, (SIDE, SIDE)) for mask in (face_mask, skin_mask))
    assert (skin <= face).all()
    for landmark in (13, 159, 386):
        x, y = points[landmark].astype(int)
        assert face[y, x] == 1 and skin[y, x] == 0


def test_color_model_knows_what_it_saw():
    red, blue = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)
    red[..., 0], blue[..., 2] = 200, 200
    models = [ColorModel.empty(), ColorModel.empty()]
    for model, image in zip(models, (red, blue)):
        model.add(color_index(image), np.ones((4, 4), np.float32))
    tables = log_likelihood_tables(models)
    of_red = tables[:, color_index(red)[0, 0]]
    assert of_red[0] > of_red[1] + 3
    assert models[0].weight == 16


def test_class_without_samples_has_even_likelihood():
    model = ColorModel.empty()
    model.add(color_index(np.full((4, 4, 3), 90, np.uint8)), np.ones((4, 4), np.float32))
    empty = log_likelihood_tables([model, ColorModel.empty()])[1]
    assert np.isfinite(empty).all()


def test_connected_parts():
    mask = np.zeros((6, 6), np.uint8)
    mask[0, :2], mask[4:, 2:5] = 1, 1
    anchor = np.zeros_like(mask)
    anchor[0, 0] = 1
    assert keep_connected_to(mask, anchor).sum() == 2
    assert keep_largest(mask).sum() == 6
    assert keep_connected_to(np.zeros_like(mask), anchor).sum() == 0


def test_drawn_prior_is_a_distribution_with_the_head_above_and_clothes_below():
    portrait = draw_portrait()
    prior = drawn_prior(portrait.points[:, :2].astype(np.float64), (SIDE, SIDE))
    np.testing.assert_allclose(prior.sum(0), 1.0, atol=1e-5)
    head, clothes = prior[:3].sum(0), prior[4]
    assert head[40, SIDE // 2] > 0.9
    assert clothes[-5, 20] > 0.5


def test_matte_is_sharper_than_the_network():
    portrait = draw_portrait()
    coarse = FakeNetwork()(portrait.image)
    matte = refine_matte(portrait.image, portrait.image, coarse)
    truth = portrait.labels > 0
    assert overlap(coarse > 0.5, truth) < 0.95
    assert overlap(matte > 0.5, truth) > 0.985


def builtin(read_frame: Callable[[int], np.ndarray], landmarks: Landmarks) -> BuiltinSegmenter:
    return BuiltinSegmenter(read_frame, landmarks.points, landmarks.valid, landmarks.typical)


def test_a_frame_without_a_face_has_no_head_and_teaches_nothing(fake_network: None):
    """The head is not put between the places where it was before and after, and the colours of a
    picture of something else do not count for hair and clothes."""
    clip = drawn_clip(16)
    room = np.full((SIDE, SIDE, 3), BACKGROUND_RGB, np.uint8)
    red = np.full((SIDE, SIDE, 3), (230, 20, 20), np.uint8)

    def read_frame(frame: int) -> np.ndarray:
        return room if frame == 6 else red if frame > 12 else clip[frame].image

    landmarks = seen(16, range(6, 7))
    landmarks.valid[13:] = False
    segmenter = builtin(read_frame, landmarks)
    assert (segmenter.label(6) == 0).all()
    alone = builtin(lambda frame: clip[frame].image, landmarks)
    for learned, expected in zip(vars(segmenter.model).values(), vars(alone.model).values()):
        np.testing.assert_array_equal(learned, expected)
    assert overlap(segmenter.label(5) == 3, clip[5].labels == 3) > 0.95


def test_labels_of_a_drawn_portrait(fake_network: None):
    clip = drawn_clip(12)
    segmenter = builtin(lambda frame: clip[frame].image, seen(12))
    for frame in (0, 5, 11):
        found, truth = segmenter.label(frame), clip[frame].labels
        scores = [overlap(found == label, truth == label) for label in range(4)]
        assert min(scores) > 0.9, scores
        assert scores[3] > 0.97, scores


def test_labels_do_not_depend_on_the_order(fake_network: None):
    clip = drawn_clip(6)
    forward, backward = (builtin(lambda f: clip[f].image, seen(6)) for _ in range(2))
    first = [forward.label(frame) for frame in range(6)]
    second = [backward.label(frame) for frame in reversed(range(6))][::-1]
    assert all((a == b).all() for a, b in zip(first, second))


def test_frames_that_are_not_square_or_small(fake_network: None):
    portrait = draw_portrait()
    tall = portrait.image[:, 28:-28]
    landmarks = seen(3)
    landmarks.points[:] = portrait.points - np.float32([28, 0, 0])
    segmenter = builtin(lambda _: tall, landmarks)
    found = segmenter.label(1)
    assert found.shape == (256, 200)
    assert overlap(found == 3, portrait.labels[:, 28:-28] == 3) > 0.95


def test_selfie_network_runs():
    network = SelfieNetwork()
    mask = network(draw_portrait().image)
    network.close()
    assert mask.shape == (256, 256)
    assert 0.0 <= mask.min() and mask.max() <= 1.0


def test_labels_survive_the_disk(tmp_path: Path):
    labels = draw_portrait().labels
    write_labels(tmp_path / "0.png", labels)
    assert (read_labels(tmp_path / "0.png") == labels).all()
    stored = cv2.imread(str(tmp_path / "0.png"), cv2.IMREAD_UNCHANGED)
    # Blue, green, red: the order in which other projects read these files.
    assert set(map(tuple, stored.reshape(-1, 3).tolist())) == {
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (255, 255, 255),
    }


def test_colors_of_other_projects():
    colors = np.uint8([[(0, 0, 255), (0, 0, 0), (100, 100, 100), (255, 255, 255)]])
    assert colors_to_labels(colors).tolist() == [[3, 3, 3, 0]]
    labels = np.uint8([[0, 1, 2, 3]])
    assert (colors_to_labels(labels_to_colors(labels)) == labels).all()


def tiny_network(local_only: bool) -> torch.nn.Module:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    names = ["background", "skin", "hair", "neck", "cloth"]
    config = SegformerConfig(
        num_encoder_blocks=1,
        depths=[1],
        sr_ratios=[8],
        hidden_sizes=[8],
        patch_sizes=[7],
        strides=[4],
        num_attention_heads=[1],
        mlp_ratios=[1],
        decoder_hidden_size=8,
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    torch.manual_seed(0)
    return SegformerForSemanticSegmentation(config)


def test_parsing_network_labels_frames(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(segformer, "load_network", tiny_network)
    portrait = draw_portrait()
    segmenter = make_segmenter("parsing", lambda _: portrait.image, seen(1))
    assert segmenter.name == "parsing"
    labels = segmenter.label(0)
    segmenter.close()
    assert labels.shape == (SIDE, SIDE)
    assert labels.max() <= 3


def test_parsing_classes():
    names = {0: "background", 1: "skin", 2: "cloth", 3: "neck", 4: "hat"}
    assert segformer.label_table(names).tolist() == [0, 3, 1, 2, 3]


def test_parsing_without_weights(monkeypatch: pytest.MonkeyPatch):
    def missing(local_only: bool) -> None:
        raise OSError("We couldn't connect")

    monkeypatch.setattr(segformer, "load_network", missing)
    portrait = draw_portrait()
    with pytest.raises(FileNotFoundError, match="--segmenter builtin"):
        make_segmenter("parsing", lambda _: portrait.image, seen(1))


def test_auto_takes_the_built_in_segmenter_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch, fake_network: None
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    portrait = draw_portrait()
    segmenter = make_segmenter("auto", lambda _: portrait.image, seen(1))
    assert segmenter.name == "builtin"


def test_image_that_cannot_be_written(tmp_path: Path):
    with pytest.raises(OSError, match="could not be written"):
        segment.write_labels(tmp_path / "missing" / "0.png", np.zeros((4, 4), np.uint8))
