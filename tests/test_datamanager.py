"""Batches for training and frames for evaluation."""

import numpy as np
import pytest
import torch
from nerfstudio.data.datamanagers.full_images_datamanager import (
    FullImageDatamanager,
    FullImageDatamanagerConfig,
)
from synthetic_talker import write_synthetic_talker

from gaussiantalker_ns.data.datamanager import (
    EpochOrder,
    GaussianTalkerDataManagerConfig,
    shift_boxes,
)
from gaussiantalker_ns.dataparsers.talking_head import TalkingHeadDataParserConfig

SIZE, NUM_TRAIN, NUM_VAL = 64, 21, 3
BATCH_KEYS = {"image", "background", "head_mask", "frame", "face_box", "lips_box", "eyes_box"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_synthetic_talker(tmp_path_factory.mktemp("data"))


def make(root, world_size=1, local_rank=0, test_mode="val", **options):
    parser = TalkingHeadDataParserConfig(data=root, num_points=100)
    config = GaussianTalkerDataManagerConfig(dataparser=parser, **options)
    return config.setup(
        device="cpu", test_mode=test_mode, world_size=world_size, local_rank=local_rank
    )


def assert_same(first, second):
    (cameras, batch), (other_cameras, other) = first, second
    torch.testing.assert_close(cameras.camera_to_worlds, other_cameras.camera_to_worlds)
    assert torch.equal(cameras.cx, other_cameras.cx) and torch.equal(cameras.cy, other_cameras.cy)
    assert batch.keys() == other.keys()
    for key, value in batch.items():
        assert torch.equal(value, other[key]), key


def test_nerfstudio_takes_it_for_a_full_image_data_manager(root):
    manager = make(root)
    assert isinstance(manager, FullImageDatamanager)
    assert isinstance(manager.config, FullImageDatamanagerConfig)
    assert manager.includes_time
    assert manager.get_datapath() == root


@pytest.mark.parametrize("batch_size", [1, 4])
def test_shapes_of_a_training_batch(root, batch_size):
    cameras, batch = make(root, batch_size=batch_size).next_train(0)
    assert cameras.shape == (batch_size,)
    width, height = int(cameras.width[0]), int(cameras.height[0])
    assert set(batch) == BATCH_KEYS
    assert batch["image"].shape == batch["background"].shape == (batch_size, height, width, 3)
    assert batch["head_mask"].shape == (batch_size, height, width)
    assert batch["frame"].dtype == batch["lips_box"].dtype == torch.int64
    assert batch["image"].dtype == torch.uint8
    assert torch.equal(cameras.metadata["frame"][:, 0], batch["frame"])
    assert cameras.times.shape == (batch_size, 1)


def test_crop_cameras_see_the_pixels_of_the_crop(root):
    """A window with its corner at x, y moves the principal point by as much."""
    manager = make(root, batch_size=3)
    cameras, batch = manager.next_train(0)
    for place, frame in enumerate(batch["frame"].tolist()):
        full = manager.train_dataset.get_data(frame, "uint8")
        x0 = SIZE // 2 - int(cameras.cx[place])
        y0 = SIZE // 2 - int(cameras.cy[place])
        height, width = batch["head_mask"].shape[1:]
        window = (slice(y0, y0 + height), slice(x0, x0 + width))
        assert torch.equal(batch["image"][place], full["image"][window])
        assert torch.equal(batch["background"][place], full["background"][window])
        assert torch.equal(batch["head_mask"][place], full["head_mask"][window])
        corner = torch.tensor([x0, y0, x0, y0])
        assert torch.equal(batch["lips_box"][place], full["lips_box"] - corner)
    assert width < SIZE


def test_full_frames_for_training_on_request(root):
    cameras, batch = make(root, crop_to_head=False).next_train(0)
    assert batch["image"].shape == (1, SIZE, SIZE, 3)
    assert float(cameras.cx[0]) == SIZE / 2


def test_a_seed_and_a_step_make_a_batch_whatever_came_before(root):
    first, second = make(root, batch_size=2), make(root, batch_size=2, prefetch_batches=0)
    for step in range(5):
        first.next_train(step)
    assert_same(first.next_train(17), second.next_train(17))
    other_seed = make(root, batch_size=2, train_cameras_sampling_seed=1)
    frames = [other_seed.next_train(step)[1]["frame"] for step in range(4)]
    assert not torch.equal(
        torch.cat(frames), torch.cat([first.next_train(step)[1]["frame"] for step in range(4)])
    )


def test_every_frame_comes_once_an_epoch(root):
    manager = make(root, batch_size=3)
    for epoch in range(2):
        steps = range(epoch * 7, epoch * 7 + 7)
        frames = torch.cat([manager.next_train(step)[1]["frame"] for step in steps])
        assert sorted(frames.tolist()) == list(range(NUM_TRAIN))


def test_batch_size_changes_between_steps(root):
    manager = make(root)
    assert len(manager.next_train(0)[1]["frame"]) == 1
    manager.set_batch_size(4)
    assert len(manager.next_train(1)[1]["frame"]) == 4
    assert_same(manager.next_train(9), make(root, batch_size=4).next_train(9))


def test_two_processes_share_the_joint_batch_of_one(root):
    single = make(root, batch_size=4)
    ranks = [make(root, world_size=2, local_rank=rank, batch_size=2) for rank in (0, 1)]
    for step in (0, 6):
        _, joint = single.next_train(step)
        parts = [manager.next_train(step)[1] for manager in ranks]
        for key, value in joint.items():
            assert torch.equal(torch.cat([part[key] for part in parts]), value), key


def test_evaluation_gives_full_frames_one_at_a_time(root):
    manager = make(root)
    loader = manager.fixed_indices_eval_dataloader
    assert len(loader) == NUM_VAL
    frames = []
    for camera, batch in loader:
        assert camera.shape == (1,)
        assert BATCH_KEYS <= set(batch)
        assert batch["image"].shape == (SIZE, SIZE, 3) and batch["image"].dtype == torch.uint8
        assert batch["head_mask"].shape == (SIZE, SIZE) and batch["lips_box"].shape == (4,)
        frames.append(int(batch["frame"]))
    assert frames == [21, 22, 23]
    seen = {int(manager.next_eval_image(step)[1]["frame"]) for step in range(NUM_VAL)}
    assert seen == {21, 22, 23}
    camera, batch = manager.next_eval(5)
    assert int(camera.metadata["frame"]) == int(batch["frame"])


@pytest.mark.parametrize("test_mode", ["test", "val", "inference"])
def test_modes_of_the_nerfstudio_commands(root, test_mode):
    manager = make(root, test_mode=test_mode)
    assert len(manager.eval_dataset) == NUM_VAL
    assert len(manager.train_dataset) == NUM_TRAIN


def test_rays_per_batch_are_the_pixels_of_the_batch(root):
    manager = make(root, batch_size=2)
    assert manager.get_train_rays_per_batch() == 2 * SIZE * SIZE
    _, batch = manager.next_train(0)
    assert manager.get_train_rays_per_batch() == batch["head_mask"].numel()


def test_a_fault_in_a_frame_reaches_the_training_loop(tmp_path):
    manager = make(write_synthetic_talker(tmp_path), batch_size=21)
    (tmp_path / "torso_imgs" / "5.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"5\.png is missing or no RGBA picture"):
        manager.next_train(0)


@pytest.mark.parametrize(("option", "value"), [("batch_size", 0), ("num_workers", 0)])
def test_options_out_of_range(option, value):
    with pytest.raises(ValueError, match=f"{option} is {value}; expected at least 1"):
        GaussianTalkerDataManagerConfig(**{option: value})


def test_epoch_order_against_a_reference_loop():
    order = EpochOrder(num_items=5, seed=3)
    endless = [
        int(item) for epoch in range(4) for item in np.random.default_rng([3, epoch]).permutation(5)
    ]
    for start in range(12):
        assert order.take(start, 7) == endless[start : start + 7]


def test_boxes_in_windows():
    """The box 10..20 in a window of 8 x 8 at (12, 4) keeps x 0..8, y 6..8; far ones keep 1 px."""
    boxes = torch.tensor([[10, 10, 20, 20], [50, 50, 60, 60]])
    corners = torch.tensor([[12, 4], [0, 0]])
    assert shift_boxes(boxes, corners, (8, 8)).tolist() == [[0, 6, 8, 8], [7, 7, 8, 8]]
