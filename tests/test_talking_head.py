"""The data parser on good data sets: our own layout and the legacy one."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from synthetic_talker import FOCAL_PER_SIZE, write_synthetic_talker

from gaussiantalker_ns.dataparsers.background_layers import BackgroundLayers
from gaussiantalker_ns.dataparsers.cameras import head_pose_from_camera_to_worlds, project_points
from gaussiantalker_ns.dataparsers.signals import boxes_from_points68
from gaussiantalker_ns.dataparsers.talking_head import TalkingHeadDataParserConfig
from gaussiantalker_ns.files import read_rgb

SIZE, NUM_FRAMES, NUM_TRAIN, NUM_POINTS = 64, 24, 21, 200
FORBIDDEN_IN_ENTRY_MODULE = (
    "nerfstudio.engine.trainer",
    "nerfstudio.pipelines",
    "nerfstudio.data.datamanagers",
    "nerfstudio.models",
    "nerfstudio.plugins.types",
    "gsplat",
)


@pytest.fixture(scope="module", params=["ours", "legacy"])
def data(request, tmp_path_factory):
    return write_synthetic_talker(tmp_path_factory.mktemp(request.param), layout=request.param)


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return write_synthetic_talker(tmp_path_factory.mktemp("ours"))


def parse(root, split="train", **options):
    options = {"num_points": NUM_POINTS, **options}
    return TalkingHeadDataParserConfig(data=root, **options).setup().get_dataparser_outputs(split)


def test_splits_are_those_of_the_files(data):
    parser = TalkingHeadDataParserConfig(data=data, num_points=NUM_POINTS).setup()
    frames = {
        split: parser.get_dataparser_outputs(split).cameras.metadata["frame"]
        for split in ("train", "val", "test", "all")
    }
    assert frames["train"].tolist() == [[i] for i in range(NUM_TRAIN)]
    assert frames["val"].tolist() == [[i] for i in range(NUM_TRAIN, NUM_FRAMES)]
    assert torch.equal(frames["val"], frames["test"])
    assert len(frames["all"]) == NUM_FRAMES
    assert frames["train"].dtype == torch.int64


def test_cameras_have_frame_numbers_times_and_intrinsics(data):
    outputs = parse(data, "val")
    cameras = outputs.cameras
    assert [path.name for path in outputs.image_filenames] == ["21.jpg", "22.jpg", "23.jpg"]
    assert cameras.times.flatten().tolist() == pytest.approx([21 / 23, 22 / 23, 1.0])
    assert cameras[0:1].metadata["frame"].shape == (1, 1)
    assert float(cameras.fx[0]) == pytest.approx(FOCAL_PER_SIZE * SIZE)
    assert (float(cameras.cx[0]), int(cameras.width[0])) == (SIZE / 2, SIZE)
    assert TalkingHeadDataParserConfig(data=data).setup().includes_time


def test_poses_agree_between_cameras_track_and_pictures(data):
    outputs = parse(data, "all")
    track = outputs.metadata["track"]
    poses = head_pose_from_camera_to_worlds(outputs.cameras.camera_to_worlds)
    torch.testing.assert_close(poses, track.T_camera_head, atol=1e-5, rtol=0)
    origin = torch.zeros(1, 3)
    center = project_points(origin, poses, FOCAL_PER_SIZE * SIZE, SIZE / 2, SIZE / 2)[:, 0]
    face = outputs.metadata["boxes"]["face"]
    assert ((center > face[:, :2]) & (center < face[:, 2:])).all()
    assert 7 < float(poses[:, 2, 3].mean()) < 9  # Decimetres.


def test_track_holds_the_whole_clip(data):
    track = parse(data).metadata["track"]
    expected = {"whisper": (2, 384), "deepspeech": (16, 29)}[track.audio_encoder]
    assert track.audio.shape == (NUM_FRAMES, *expected)
    assert track.audio.dtype == torch.float32
    assert track.fps == 25.0
    assert track.train_frames.tolist() == list(range(NUM_TRAIN))
    assert track.valid.all()
    assert float(track.blink.min()) == 0.0
    assert 0.5 < float(track.blink.max()) <= 1.0
    has_blendshapes = (data / "blendshapes.npy").exists()
    assert (track.blendshapes is not None) == has_blendshapes


@pytest.mark.parametrize("name", ["ours", "legacy"])
def test_one_scale_of_blinks_for_every_table(tmp_path, name):
    """The public code's: an intensity of 2 is a closed eye, and so is any above."""
    root = write_synthetic_talker(tmp_path, layout=name)
    values = np.linspace(0, 5, NUM_FRAMES)
    rows = [" frame, AU45_r", *(f"{i + 1}, {value:.3f}" for i, value in enumerate(values))]
    (root / "au.csv").write_text("\n".join(rows) + "\n")
    blink = parse(root).metadata["track"].blink.numpy()
    np.testing.assert_allclose(blink, np.clip(values, 0, 2) / 2, atol=1e-3)


def test_blink_comes_from_blendshapes_without_a_table(tmp_path):
    root = write_synthetic_talker(tmp_path)
    from_table = parse(root).metadata["track"].blink
    (root / "au.csv").unlink()
    from_blendshapes = parse(root).metadata["track"].blink
    assert np.corrcoef(from_table, from_blendshapes)[0, 1] > 0.99


def test_image_size_scales_intrinsics_boxes_and_layers(ours):
    full, half = parse(ours), parse(ours, image_size=32)
    assert float(half.cameras.fx[0]) == pytest.approx(float(full.cameras.fx[0]) / 2)
    assert (int(half.cameras.width[0]), float(half.cameras.cy[0])) == (32, 16.0)
    assert half.metadata["layers"].background_behind(0).shape == (32, 32, 3)
    difference = half.metadata["boxes"]["face"] * 2 - full.metadata["boxes"]["face"]
    assert difference.abs().max() <= 2
    quarter = parse(ours, image_size=64, downscale_factor=4.0)
    assert int(quarter.cameras.width[0]) == 16


def test_boxes_are_nested_and_inside_the_image(data):
    boxes = parse(data).metadata["boxes"]
    assert set(boxes) == {"face", "lips", "eyes"}
    for box in boxes.values():
        assert box.shape == (NUM_FRAMES, 4) and box.dtype == torch.int64
        assert (box[:, :2] >= 0).all() and (box[:, 2:] <= SIZE).all()
        assert (box[:, 2:] > box[:, :2]).all()
    lips, eyes = boxes["lips"], boxes["eyes"]
    assert (lips[:, 1] > eyes[:, 3]).all()  # The mouth is below the eyes.


def test_the_lips_box_is_the_public_codes_square():
    """Rows 40.5 to 50.1 and columns 10.2 to 31.9: middle (20, 45), half size (31 - 10) // 2 = 10.

    The second frame's mouth touches the lower edge of the image, which cuts its square.
    """
    points = np.random.default_rng(0).uniform((10.2, 40.5), (31.9, 50.1), (2, 68, 2))
    points[:, 48], points[:, 59] = (10.2, 40.5), (31.9, 50.1)
    points[1, :, 1] += 41
    lips = boxes_from_points68(points, size=96)["lips"]
    assert lips.tolist() == [[10, 35, 30, 55], [10, 76, 30, 96]]
    anywhere = points[:1] + np.random.default_rng(1).uniform(0, 30, (500, 1, 2))
    sides = boxes_from_points68(anywhere, size=512)["lips"]
    sides = sides[:, 2:] - sides[:, :2]
    assert (sides[:, 0] == sides[:, 1]).all()


def test_boxes_without_landmarks_come_from_the_mesh(tmp_path):
    root = write_synthetic_talker(tmp_path)
    with_landmarks = parse(root).metadata["boxes"]
    for path in (root / "ori_imgs").glob("*.lms"):
        path.unlink()
    projected = parse(root).metadata["boxes"]
    for name, box in with_landmarks.items():
        assert (box - projected[name]).abs().max() <= 1, name


def test_closed_lip_frames_are_training_frames_with_a_closed_jaw(ours):
    metadata = parse(ours).metadata
    jaw = metadata["track"].blendshapes[:, 25]
    closed = metadata["closed_lip_frames"]
    assert 0 < len(closed) < NUM_TRAIN / 2 and closed.max() < NUM_TRAIN
    assert jaw[closed].max() <= jaw[:NUM_TRAIN].quantile(0.2)


def test_layers_put_the_torso_over_the_background(data):
    layers = parse(data).metadata["layers"]
    assert isinstance(layers, BackgroundLayers)
    torso, composite, background = layers.torso(3), layers.composite(3), layers.background_behind(3)
    assert torso.shape == (SIZE, SIZE, 4)
    opaque = torso[..., 3] == 255
    assert opaque.any() and (~opaque).any()
    assert torch.equal(composite[opaque], torso[opaque][:, :3])
    assert torch.equal(composite[~opaque], background[~opaque])
    assert torch.equal(layers.composite(3), composite)  # The second one comes from the cache.
    frame, mask = torch.from_numpy(read_rgb(layers.layout.frame(3), SIZE)), layers.mask(3)
    visible = mask == 0
    assert (frame[visible].int() - composite[visible].int()).abs().float().mean() < 8


def test_layer_cache_stays_within_its_budget(ours):
    layers = parse(ours).metadata["layers"]
    small = BackgroundLayers(layers.layout, SIZE, cache_bytes=3 * layers.composite(0).numel())
    for frame in range(NUM_FRAMES):
        assert torch.equal(small.composite(frame), layers.composite(frame))
    assert small._cached_bytes <= small.cache_bytes


def test_person_as_foreground_needs_no_torso_layer(ours):
    layers = parse(ours, foreground="person").metadata["layers"]
    assert torch.equal(layers.composite(5), layers.background_behind(5))
    head = parse(ours).metadata["layers"].mask(5)
    assert (layers.mask(5) >= head).all()
    assert (layers.mask(5) > 0).sum() > 1.2 * (head > 0).sum()


def test_frames_without_a_face_keep_their_number(tmp_path):
    root = write_synthetic_talker(tmp_path)
    talker = json.loads((root / "talker.json").read_text())
    talker["invalid_frames"] = [4]
    (root / "talker.json").write_text(json.dumps(talker))
    outputs = parse(root)
    frames = outputs.cameras.metadata["frame"].flatten().tolist()
    assert frames == [i for i in range(NUM_TRAIN) if i != 4]
    track = outputs.metadata["track"]
    assert track.valid.tolist() == [i != 4 for i in range(NUM_FRAMES)]
    assert 4 not in track.train_frames
    torch.testing.assert_close(track.T_camera_head[4], track.T_camera_head[3])


@pytest.mark.parametrize("missing", [1, 2, -1, -2])
def test_one_or_two_rows_too_few_or_too_many_are_clamped_with_a_notice(tmp_path, missing, capsys):
    root = write_synthetic_talker(tmp_path)
    features = np.load(root / "aud_whisper.npy")
    longer = np.concatenate([features, features[-2:]])
    np.save(root / "aud_whisper.npy", longer[: NUM_FRAMES - missing])
    audio = parse(root).metadata["track"].audio
    assert len(audio) == NUM_FRAMES
    assert torch.equal(audio[-1], torch.from_numpy(longer[: NUM_FRAMES - missing][:NUM_FRAMES][-1]))
    assert "holds" in capsys.readouterr().out


def test_entry_module_imports_nothing_that_imports_it_back():
    code = (
        "import sys, gaussiantalker_ns.dataparsers.talking_head\n"
        f"bad = [m for m in sys.modules if m.startswith({FORBIDDEN_IN_ENTRY_MODULE!r})]\n"
        "print(bad); sys.exit(bool(bad))"
    )
    _run(code)


def test_nerfstudio_finds_the_parser_from_inside_its_data_managers():
    code = (
        "import nerfstudio.data.datamanagers.base_datamanager\n"
        "from nerfstudio.configs.dataparser_configs import all_dataparsers\n"
        "assert 'talking-head' in all_dataparsers, list(all_dataparsers)"
    )
    spec = "talking-head=gaussiantalker_ns.dataparsers.talking_head:talking_head_spec"
    _run(code, NERFSTUDIO_DATAPARSER_CONFIGS=spec)


def _run(code, **environment):
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("option", "value"), [("image_size", 8), ("num_points", 10), ("downscale_factor", 0.5)]
)
def test_options_out_of_range(option, value):
    with pytest.raises(ValueError, match=f"{option} is {value}; expected at least"):
        TalkingHeadDataParserConfig(**{option: value})
