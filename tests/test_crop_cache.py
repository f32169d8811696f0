"""Crops of the training frames: exact pixels, windows, memory."""

import numpy as np
import pytest
from synthetic_talker import write_synthetic_talker

from gaussiantalker_ns.data.crop_cache import WINDOW_MULTIPLE, HeadCrops
from gaussiantalker_ns.data.dataset import TalkingHeadDataset
from gaussiantalker_ns.dataparsers.talking_head import TalkingHeadDataParserConfig

SIZE, MARGIN, BIG = 128, 4, 2**30


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = write_synthetic_talker(tmp_path_factory.mktemp("data"), num_frames=12, size=SIZE)
    config = TalkingHeadDataParserConfig(data=root, num_points=100)
    return TalkingHeadDataset(config.setup().get_dataparser_outputs("train"))


def assert_same_pixels(crops, index, size):
    x0, y0 = crops.window_corner(index, size)
    rows, columns = slice(y0, y0 + size[1]), slice(x0, x0 + size[0])
    full = crops.dataset.get_data(index, "uint8")
    crop = crops.crop(index, size)
    np.testing.assert_array_equal(crop.image, full["image"].numpy()[rows, columns])
    np.testing.assert_array_equal(crop.background, full["background"].numpy()[rows, columns])
    np.testing.assert_array_equal(crop.head_mask, full["head_mask"].numpy()[rows, columns])


@pytest.mark.parametrize("budget", [BIG, 60_000, 0])
def test_crops_are_windows_of_the_full_frame_whatever_is_kept(dataset, budget):
    crops = HeadCrops(dataset, MARGIN, budget, num_threads=2)
    size = crops.window_size(range(len(dataset)))
    for _ in range(2):  # The second time they come from memory, as far as the budget goes.
        for index in range(len(dataset)):
            assert_same_pixels(crops, index, size)


def test_windows_hold_head_and_margin(dataset):
    crops = HeadCrops(dataset, MARGIN, BIG, num_threads=1)
    for index in range(len(dataset)):
        size = crops.window_size([index])
        x0, y0 = crops.window_corner(index, size)
        rows, columns = np.nonzero(dataset.get_data(index)["head_mask"].numpy())
        assert x0 <= columns.min() - MARGIN and columns.max() + MARGIN < x0 + size[0]
        assert y0 <= rows.min() - MARGIN and rows.max() + MARGIN < y0 + size[1]
        assert size[0] % WINDOW_MULTIPLE == size[1] % WINDOW_MULTIPLE == 0
        assert size[0] < SIZE


def test_windows_of_all_sizes_come_from_what_is_kept(dataset, monkeypatch):
    """Frames are decoded once, whatever the sizes of the batches' windows are."""
    crops = HeadCrops(dataset, MARGIN, BIG, num_threads=1)
    width, height = crops.largest
    assert crops.window_size(range(len(dataset))) == crops.largest
    smaller = width - WINDOW_MULTIPLE, height - 2 * WINDOW_MULTIPLE
    for index in range(len(dataset)):
        crops.crop(index, crops.largest)
    full = [dataset.get_data(index, "uint8") for index in range(len(dataset))]
    decoded = []
    for name in ("get_numpy_image", "get_data"):
        monkeypatch.setattr(dataset, name, decoded.append)
    for index in range(len(dataset)):
        x0, y0 = crops.window_corner(index, smaller)
        crop = crops.crop(index, smaller)
        rows, columns = slice(y0, y0 + smaller[1]), slice(x0, x0 + smaller[0])
        for name in ("image", "background", "head_mask"):
            expected = full[index][name].numpy()[rows, columns]
            np.testing.assert_array_equal(getattr(crop, name), expected)
    assert not decoded


def test_a_margin_of_the_image_size_means_full_frames(dataset):
    crops = HeadCrops(dataset, SIZE, BIG, num_threads=1)
    assert crops.window_size([0]) == (SIZE, SIZE)
    assert crops.window_corner(0, (SIZE, SIZE)) == (0, 0)


def test_pictures_are_kept_only_within_the_budget(dataset):
    crops = HeadCrops(dataset, MARGIN, 60_000, num_threads=1)
    size = crops.window_size([0])
    for index in range(len(dataset)):
        crops.crop(index, size)
    kept = sum(stored.image is not None for stored in crops._stored.values())
    assert 0 < kept < len(dataset)
    pictures = sum(s.image.nbytes for s in crops._stored.values() if s.image is not None)
    assert pictures <= 60_000


def test_an_empty_mask_falls_back_to_the_face_box(dataset, monkeypatch):
    layers = dataset.layers
    original = type(layers).mask
    monkeypatch.setattr(
        type(layers),
        "mask",
        lambda self, frame: original(self, frame) * (frame != 3),
    )
    crops = HeadCrops(dataset, 0, BIG, num_threads=1)
    face = dataset.metadata["boxes"]["face"][3].numpy()
    np.testing.assert_array_equal(crops.box(3)[:2], face[:2])
    assert not crops.crop(3, crops.window_size([3])).head_mask.any()
