"""Backgrounds of periods: backgrounds that change during the take."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from drawn_portrait import SIDE, drawn_clip, seen
from nerfstudio.cameras.cameras import Cameras
from synthetic_talker import write_synthetic_talker
from talker_runs import small_config

from gaussiantalker_ns.dataparsers.background_layers import BackgroundLayers
from gaussiantalker_ns.dataparsers.cameras import opengl_from_head_pose
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.files import read_rgb
from gaussiantalker_ns.model import GaussianTalkerModel
from gaussiantalker_ns.preprocess.layers import moving_background as module
from gaussiantalker_ns.preprocess.layers.background import make_background
from gaussiantalker_ns.preprocess.layers.moving_background import (
    BackgroundView,
    starts_of_periods,
    time_varying_background,
    write_time_varying_background,
)
from gaussiantalker_ns.preprocess.segmentation.base import BACKGROUND, write_labels

CHANGE = 13
"""Frame with which a bar enters the background of the drawn clip: inside a window of four."""


def write_clip(root: Path, num_frames: int, bar: bool) -> DatasetLayout:
    """A swaying head; with `bar` a stripe stands in the background from frame `CHANGE` on."""
    dataset = DatasetLayout(root)
    dataset.frames_dir.mkdir(parents=True)
    dataset.parsing_dir.mkdir()
    for index, frame in enumerate(drawn_clip(num_frames)):
        image = frame.image.copy()
        if bar and index >= CHANGE:
            stripe = np.zeros((SIDE, SIDE), bool)
            stripe[:, 10:40] = True
            image[stripe & (frame.labels == BACKGROUND)] = (200, 200, 90)
        cv2.imwrite(str(dataset.frame(index)), image[..., ::-1])
        write_labels(dataset.parsing(index), frame.labels)
    return dataset


@pytest.fixture
def short_windows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "WINDOW_FRAMES", 4)
    monkeypatch.setattr(module, "FRAME_STEP", 1)


def test_a_static_background_stays_one(tmp_path: Path, short_windows: None):
    dataset = write_clip(tmp_path, 16, bar=False)
    whole = make_background(dataset, seen(16)).image
    periods = time_varying_background(dataset, seen(16), whole, 2)
    assert periods.of_frame.tolist() == [0] * 16
    assert len(periods.backgrounds) == 1 and periods.backgrounds[0] is whole


def test_a_background_that_changes_becomes_one_for_each_period(tmp_path: Path, short_windows: None):
    dataset = write_clip(tmp_path / "clip", 24, bar=True)
    whole = make_background(dataset, seen(24)).image
    periods = time_varying_background(dataset, seen(24), whole, 2)
    assert np.flatnonzero(np.diff(periods.of_frame)).tolist() == [CHANGE - 1]
    before, after = periods.backgrounds[0], periods.backgrounds[int(periods.of_frame[-1])]
    bar = slice(20, 60), slice(14, 36)
    assert np.abs(before[bar].astype(int) - (60, 120, 190)).mean() < 6
    assert np.abs(after[bar].astype(int) - (200, 200, 90)).mean() < 6

    output = DatasetLayout(tmp_path / "new")
    write_time_varying_background(output, periods)
    stored = cv2.imread(str(output.period_background(int(periods.of_frame[-1]))))[..., ::-1]
    assert np.abs(stored.astype(int) - after).mean() < 3
    assert np.load(output.plate_of_frame).tolist() == periods.of_frame.tolist()


def view(value: float, seen: bool = True) -> BackgroundView:
    return BackgroundView(np.full((4, 4, 3), value, np.float32), np.full((4, 4), seen))


def test_periods_begin_where_the_background_differs_from_their_first_window():
    assert starts_of_periods([view(0), view(1), view(9), view(9), view(0)]) == [0, 2, 4]
    # A window that shows no background is no reason for a new period.
    assert starts_of_periods([view(0), view(50, seen=False), view(0)]) == [0]


def test_a_background_that_never_rests_has_a_bounded_number_of_periods():
    starts = starts_of_periods([view(3.0 * index) for index in range(200)])
    assert 2 <= len(starts) <= module.MAX_PERIODS


def with_two_backgrounds(tmp_path: Path) -> DatasetLayout:
    """The synthetic talker with a red background behind its first frames and a green one behind."""
    dataset = DatasetLayout(write_synthetic_talker(tmp_path / "data"))
    size = cv2.imread(str(dataset.background)).shape[0]
    dataset.plates_dir.mkdir()
    for index, color in enumerate([(0, 0, 255), (0, 255, 0)]):
        picture = np.full((size, size, 3), color, np.uint8)
        cv2.imwrite(str(dataset.period_background(index)), picture)
    of_frame = np.zeros(24, np.int32)
    of_frame[10:] = 1
    np.save(dataset.plate_of_frame, of_frame)
    return dataset


def test_every_frame_is_laid_over_the_background_of_its_period(tmp_path: Path):
    dataset = with_two_backgrounds(tmp_path)
    layers = BackgroundLayers(dataset, 64)
    for frame, channel in ((9, 0), (10, 1)):
        background, composite = layers.background_behind(frame), layers.composite(frame)
        assert int(background[0, 0].argmax()) == channel
        clear = layers.torso(frame)[..., 3] == 0
        assert torch.equal(composite[clear], background[clear])
        assert np.array_equal(layers.composite_uncached(frame), composite.numpy())
    still = BackgroundLayers(dataset, 64, static_background=True)
    whole = torch.from_numpy(read_rgb(dataset.background, 64))
    assert torch.equal(still.background_behind(9), whole)
    assert torch.equal(still.composite(10)[0], whole[0])


def test_a_list_of_backgrounds_that_is_none_is_refused(tmp_path: Path):
    dataset = with_two_backgrounds(tmp_path)
    np.save(dataset.plate_of_frame, np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"frames.npy holds float64 of shape \(3, 2\); expected"):
        BackgroundLayers(dataset, 64)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as an array"),
        (b"\x93NUMPY\x01\x00half a header", "cannot be read as an array"),
        (np.array([0, None]), "cannot be read as an array"),
    ],
)
def test_a_list_of_backgrounds_that_cannot_be_read_is_named(tmp_path: Path, content, message):
    dataset = with_two_backgrounds(tmp_path)
    if isinstance(content, bytes):
        dataset.plate_of_frame.write_bytes(content)
    else:
        np.save(dataset.plate_of_frame, content, allow_pickle=True)
    with pytest.raises(
        ValueError, match=rf"frames\.npy {message}.*expected the index of a background"
    ):
        BackgroundLayers(dataset, 64)


def test_backgrounds_that_are_missing_and_rows_that_are_missing_are_named(tmp_path: Path):
    dataset = with_two_backgrounds(tmp_path)
    np.save(dataset.plate_of_frame, np.array([0, 0, 1], np.int32))
    layers = BackgroundLayers(dataset, 64)
    with pytest.raises(ValueError, match=r"frames\.npy holds 3 rows, none for frame 3; expected"):
        layers.background_behind(3)
    dataset.period_background(1).unlink()
    with pytest.raises(FileNotFoundError, match=r"no .*1\.jpg, which .* puts behind frame 2"):
        BackgroundLayers(dataset, 64)


def test_new_audio_stands_before_the_background_of_the_whole_clip(tmp_path: Path):
    """Played in ping-pong, the backgrounds of the periods would jump; the clip's own audio keeps
    them."""
    dataset = with_two_backgrounds(tmp_path)
    config = small_config(dataset.root, tmp_path, 0, 4)
    model = config.pipeline.setup(device="cpu", test_mode="test").eval().model
    layers = model.background.layers

    def corner(frame: int) -> torch.Tensor:
        camera = model_camera(model, frame)
        return model.get_outputs(camera)["background"][0, 0] * 255

    own = corner(12)
    assert torch.equal(own, layers.background_behind(12)[0, 0].float())
    model.bank.set_audio(model.bank.audio.flip(0), torch.arange(24))
    driven = corner(12)
    assert torch.equal(
        driven, layers.static.background_behind(12)[0, 0].float()
    ) and not torch.equal(driven, own)


def model_camera(model: GaussianTalkerModel, frame: int) -> Cameras:
    """The clip's camera at a frame, by its time alone."""
    focal, size = float(model.background.K[0, 0]), model.background.layers.size
    pose = opengl_from_head_pose(model.bank.poses[frame][None])[:, :3]
    times = torch.tensor([[frame / 23]])
    return Cameras(pose, focal, focal, size / 2, size / 2, size, size, times=times)
