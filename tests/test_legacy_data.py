"""Data sets of AD-NeRF, ER-NeRF and GaussianTalker load unchanged."""

import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from legacy_folder import LEGACY_DATA_VARIABLE, real_legacy_files, write_legacy_folder
from synthetic_talker import write_synthetic_talker

from gaussiantalker_ns.data.datamanager import GaussianTalkerDataManagerConfig
from gaussiantalker_ns.dataparsers import average_face
from gaussiantalker_ns.dataparsers.background_layers import BackgroundLayers
from gaussiantalker_ns.dataparsers.cameras import head_pose_from_camera_to_worlds
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.dataparsers.talking_head import TalkingHeadDataParserConfig
from gaussiantalker_ns.files import read_rgb


def check_parses_and_gives_batches(root, num_frames, num_train):
    parser = TalkingHeadDataParserConfig(data=root, image_size=128, num_points=500)
    outputs = parser.setup().get_dataparser_outputs("train")
    track = outputs.metadata["track"]
    assert len(outputs.cameras) == num_train
    assert track.audio_encoder == "deepspeech"
    assert track.audio.shape == (num_frames, 16, 29)
    assert track.blendshapes is None and len(outputs.metadata["closed_lip_frames"]) == 0
    assert 0 <= track.blink.min() and track.blink.max() <= 1
    poses = head_pose_from_camera_to_worlds(outputs.cameras.camera_to_worlds)
    assert ((poses[:, 2, 3] > 4) & (poses[:, 2, 3] < 15)).all()  # Decimetres.
    assert torch.isfinite(outputs.metadata["points"]).all()
    manager = GaussianTalkerDataManagerConfig(dataparser=parser, batch_size=2).setup()
    cameras, batch = manager.next_train(0)
    assert batch["image"].shape[0] == cameras.shape[0] == 2
    assert (batch["lips_box"][:, 2:] > batch["lips_box"][:, :2]).all()
    return track


@pytest.mark.slow
def test_real_poses_and_action_units(tmp_path):
    source = real_legacy_files()
    if source is None:
        pytest.skip(f"{LEGACY_DATA_VARIABLE} names no folder with legacy files")
    root = write_legacy_folder(source, tmp_path / "legacy")
    table = np.genfromtxt(source / "au.csv", delimiter=",", names=True)
    track = check_parses_and_gives_batches(root, len(table), 4086)
    np.testing.assert_allclose(track.blink, np.clip(table["AU45_r"], 0, 2) / 2, atol=1e-6)


def test_poses_and_action_units_alone_are_enough(tmp_path, monkeypatch):
    """Without landmarks and tracker result an average face stands in, where the masks end."""
    monkeypatch.setattr(average_face, "NUM_SEARCHED_FRAMES", 3)
    source = write_synthetic_talker(tmp_path / "source", num_frames=22, layout="legacy")
    root = write_legacy_folder(source, tmp_path / "legacy")
    assert not list(root.glob("ori_imgs/*.lms")) and not (root / "track_params.pt").exists()
    check_parses_and_gives_batches(root, 22, 20)


def test_keys_of_older_tools_do_no_harm(tmp_path):
    """AD-NeRF's own files carry `face_rect` for every frame."""
    root = write_synthetic_talker(tmp_path, num_frames=22, layout="legacy")
    path = root / "transforms_train.json"
    content = json.loads(path.read_text())
    for frame in content["frames"]:
        frame["face_rect"] = [10, 10, 30, 30]
    path.write_text(json.dumps(content))
    check_parses_and_gives_batches(root, 22, 20)


def test_folder_of_ad_nerf_itself(tmp_path):
    """No torso layers, no blinks, other people's pictures, one feature row less, Windows' JSON."""
    root = write_synthetic_talker(tmp_path, num_frames=22, layout="legacy")
    shutil.copytree(root / "ori_imgs", root / "com_imgs")
    (root / "torso_imgs").rename(root / "head_imgs")
    (root / "au.csv").unlink()
    np.save(root / "aud.npy", np.load(root / "aud_ds.npy")[:-1])
    (root / "aud_ds.npy").unlink()
    for split in ("train", "val"):
        path = root / f"transforms_{split}.json"
        content = json.loads(path.read_text())
        focal = content.pop("focal_len")
        path.write_text(json.dumps({**content, "fl_x": focal, "fl_y": focal}), "utf-8-sig")
    for path in [*root.glob("ori_imgs/*.jpg"), root / "bc.jpg"]:
        path.rename(path.with_suffix(".JPG"))
    track = check_parses_and_gives_batches(root, 22, 20)
    assert torch.equal(track.audio[-1], track.audio[-2])
    assert not (root / "torso_imgs").exists()


def test_missing_torso_layers_are_made_as_process_would(tmp_path):
    """Neck and clothes of the frame, continued under the head, and nothing else."""
    root = write_synthetic_talker(tmp_path, num_frames=4, layout="legacy")
    shutil.rmtree(root / "torso_imgs")
    layout = DatasetLayout(root)
    layer = BackgroundLayers(layout, 64).torso(2).numpy()
    image, labels = read_rgb(layout.frame(2)), read_rgb(layout.parsing(2))
    body = (labels[..., 2] < 128) & (labels.min(axis=2) < 128)
    np.testing.assert_array_equal(layer[body, :3], image[body])
    assert (layer[body, 3] == 255).all()
    added = (layer[..., 3] > 0) & ~body
    assert added.any() and (labels[added] == (0, 0, 255)).all()


def test_a_smaller_label_image_serves_as_well(tmp_path):
    root = write_synthetic_talker(tmp_path, num_frames=4, layout="legacy")
    shutil.rmtree(root / "torso_imgs")
    path = root / "parsing" / "1.png"
    small = cv2.resize(cv2.imread(str(path)), (32, 32), interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(path), small)
    assert BackgroundLayers(DatasetLayout(root), 64).torso(1)[..., 3].any()


def test_focal_lengths_that_differ(tmp_path):
    root = write_synthetic_talker(tmp_path, num_frames=22, layout="legacy")
    path = root / "transforms_train.json"
    content = json.loads(path.read_text())
    focal = content["focal_len"]
    path.write_text(json.dumps({**content, "fl_x": 1.0, "fl_y": 2.0}))
    assert TalkingHeadDataParserConfig(data=root).setup().poses.focal == focal
    content.pop("focal_len")
    path.write_text(json.dumps({**content, "fl_x": 150.0, "fl_y": 160.0}))
    with pytest.raises(ValueError, match="150 in x and 160 in y; expected square pixels"):
        TalkingHeadDataParserConfig(data=root).setup().poses  # noqa: B018
