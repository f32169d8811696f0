"""Full frames of a split."""

from copy import deepcopy

import pytest
import torch
from nerfstudio.data.utils.dataloaders import FixedIndicesEvalDataloader
from synthetic_talker import write_synthetic_talker

from gaussiantalker_ns.data.dataset import TalkingHeadDataset
from gaussiantalker_ns.dataparsers.talking_head import TalkingHeadDataParserConfig

SIZE = 64


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    root = write_synthetic_talker(tmp_path_factory.mktemp("data"))
    return TalkingHeadDataParserConfig(data=root, num_points=100).setup().get_dataparser_outputs()


@pytest.fixture(scope="module")
def dataset(outputs):
    return TalkingHeadDataset(outputs)


def test_full_frames_have_the_keys_of_a_batch(dataset):
    data = dataset.get_data(3, "uint8")
    assert data["image"].shape == data["background"].shape == (SIZE, SIZE, 3)
    assert data["image"].dtype == data["background"].dtype == torch.uint8
    assert data["head_mask"].shape == (SIZE, SIZE)
    assert int(data["frame"]) == 3
    for name in ("face", "lips", "eyes"):
        assert torch.equal(data[f"{name}_box"], dataset.metadata["boxes"][name][3])


def test_outside_the_head_the_frame_is_its_background(dataset):
    data = dataset.get_data(0, "uint8")
    outside = data["head_mask"] == 0
    difference = (data["image"].float() - data["background"].float()).abs().mean(dim=-1)
    assert difference[outside].mean() < 8 < difference[~outside].mean()


def test_items_are_float_pictures_for_the_viewer(dataset):
    item = dataset[2]
    assert item["image"].dtype == torch.float32
    assert 0 <= item["image"].min() and item["image"].max() <= 1
    assert torch.equal((item["image"] * 255).round().byte(), dataset.get_data(2, "uint8")["image"])


def test_clip_data_is_shared_and_not_copied(outputs, dataset):
    assert dataset.metadata["track"] is outputs.metadata["track"]
    assert deepcopy(outputs.metadata)["layers"] is outputs.metadata["layers"]


def test_nerfstudio_renders_datasets_through_its_loader(dataset):
    frames = [
        (int(camera.metadata["frame"]), batch["image"].shape)
        for camera, batch in FixedIndicesEvalDataloader(dataset, num_workers=4)
    ]
    assert frames == [(i, (SIZE, SIZE, 3)) for i in range(21)]


def test_resolution_is_the_parsers_business(outputs):
    with pytest.raises(ValueError, match="camera_res_scale_factor is 0.5.*image_size"):
        TalkingHeadDataset(outputs, scale_factor=0.5)
