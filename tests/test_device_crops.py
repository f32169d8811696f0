"""Crops that are cut out on the device are those that are cut out in main memory."""

from types import SimpleNamespace

import pytest
import torch
from synthetic_talker import write_synthetic_talker

from gaussiantalker_ns.data import device_crops
from gaussiantalker_ns.data.crop_cache import WINDOW_MULTIPLE, HeadCrops
from gaussiantalker_ns.data.dataset import TalkingHeadDataset
from gaussiantalker_ns.data.device_crops import BYTES_PER_PIXEL, DeviceCrops, has_room
from gaussiantalker_ns.dataparsers.talking_head import TalkingHeadDataParserConfig

SIZE, MARGIN, BIG = 128, 4, 2**30


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    root = write_synthetic_talker(tmp_path_factory.mktemp("data"), num_frames=12, size=SIZE)
    config = TalkingHeadDataParserConfig(data=root, num_points=100)
    dataset = TalkingHeadDataset(config.setup().get_dataparser_outputs("train"))
    return HeadCrops(dataset, MARGIN, BIG, num_threads=1)


@pytest.mark.parametrize("smaller", [0, WINDOW_MULTIPLE])
def test_windows_of_any_size(crops, smaller, monkeypatch):
    monkeypatch.setattr(device_crops, "FRAMES_PER_COPY", 4)
    kept = DeviceCrops(crops, "cpu", num_threads=2)
    size = crops.largest[0] - smaller, crops.largest[1] - smaller
    items = [7, 0, 3, 7]
    corners = torch.tensor([crops.window_corner(item, size) for item in items])
    found = kept.cut(kept.places(items, corners), size)
    for place, item in enumerate(items):
        expected = crops.crop(item, size)
        for name, value in found.items():
            assert torch.equal(value[place], torch.from_numpy(getattr(expected, name).copy())), name


def test_nothing_is_kept_twice(crops):
    before = crops.used_bytes
    kept = DeviceCrops(crops, "cpu", num_threads=1)
    assert crops.used_bytes == before
    stored = kept.image.nbytes + kept.background.nbytes + kept.head_mask.nbytes
    assert kept.gigabytes == pytest.approx(stored / 2**30)


@pytest.mark.parametrize(("share", "expected"), [(1.01, True), (0.99, False)])
def test_room_is_a_share_of_what_is_free(crops, share, expected, monkeypatch):
    needed = len(crops.dataset) * crops.largest[0] * crops.largest[1] * BYTES_PER_PIXEL
    free = int(share * needed / device_crops.DEVICE_FRACTION)
    cuda = SimpleNamespace(mem_get_info=lambda device: (free, 10 * free))
    monkeypatch.setattr(torch, "cuda", cuda)
    assert has_room(crops, "cuda") is expected
