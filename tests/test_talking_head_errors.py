"""Bad data sets: one error says what was found, where, what was expected and what to do."""

import json
import re
import shutil

import cv2
import numpy as np
import pytest
import torch
from synthetic_talker import write_synthetic_talker

from gaussiantalker_ns.dataparsers.talking_head import TalkingHeadDataParserConfig

NUM_FRAMES = 24
HUGE = 10**310  # Larger than every float.


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    return {name: write_synthetic_talker(folder / name, layout=name) for name in ("ours", "legacy")}


@pytest.fixture
def ours(originals, tmp_path):
    return shutil.copytree(originals["ours"], tmp_path / "ours")


@pytest.fixture
def legacy(originals, tmp_path):
    return shutil.copytree(originals["legacy"], tmp_path / "legacy")


def parse(root, split="train", **options):
    config = TalkingHeadDataParserConfig(data=root, num_points=100, **options)
    return config.setup().get_dataparser_outputs(split)


def assert_refused(root, *words, kind=ValueError, **options):
    """The message must hold all words, in this order."""
    with pytest.raises(kind, match="(?s)" + ".*".join(re.escape(word) for word in words)):
        parse(root, **options)


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_missing_data_set(tmp_path):
    assert_refused(tmp_path / "nowhere", "nowhere is no folder", "--data", kind=FileNotFoundError)


@pytest.mark.parametrize("split", ["train", "val"])
def test_missing_transforms(ours, split):
    (ours / f"transforms_{split}.json").unlink()
    assert_refused(
        ours, f"transforms_{split}.json does not exist", "--only dataset", kind=FileNotFoundError
    )


def test_damaged_transforms(ours):
    path = ours / "transforms_train.json"
    path.write_text(path.read_text()[:100])
    assert_refused(ours, "transforms_train.json is not JSON", "expected a complete file")


def test_no_frames(ours):
    edit_json(ours / "transforms_val.json", lambda content: content.update(frames=[]))
    assert_refused(ours, "transforms_val.json lists no frames", "long enough")


def test_frame_in_both_splits(ours):
    edit_json(ours / "transforms_val.json", lambda content: content["frames"][0].update(img_id=3))
    assert_refused(ours, "lists frame 3 more than once", "expected every frame once")


def test_frame_id_that_is_no_number(ours):
    edit_json(ours / "transforms_val.json", lambda content: content["frames"][0].update(img_id="3"))
    assert_refused(ours, "the frame id '3'", "expected whole numbers")


@pytest.mark.parametrize("value", [-1, True, 10**12])
def test_frame_id_out_of_range(ours, value):
    """The largest one would ask for a table of terabytes."""
    edit_json(
        ours / "transforms_val.json", lambda content: content["frames"][0].update(img_id=value)
    )
    assert_refused(ours, f"the frame id {value}", "expected whole numbers from 0 to 899999")


@pytest.mark.parametrize("frames", [{"0": {}}, "abc", 3])
def test_frames_that_are_no_list(ours, frames):
    edit_json(ours / "transforms_val.json", lambda content: content.update(frames=frames))
    assert_refused(ours, "transforms_val.json lists no frames", "expected a list")


@pytest.mark.parametrize(("frame", "kind"), [(None, "NoneType"), ("1", "str"), ([1], "list")])
def test_frame_that_is_no_object(ours, frame, kind):
    edit_json(ours / "transforms_val.json", lambda content: content["frames"].insert(2, frame))
    assert_refused(ours, f"a {kind} at place 2 of 'frames'", "expected an object")


@pytest.mark.parametrize("count", [None, "abc", 24.0, -1, 10**11])
def test_number_of_frames_that_is_none(ours, count):
    edit_json(ours / "talker.json", lambda content: content.update(num_frames=count))
    assert_refused(ours, f"talker.json has {count!r} under 'num_frames'", "from 0 to 900000")


@pytest.mark.parametrize(
    ("frames", "wrong"), [([3, -1], -1), (["a"], "a"), ([None], None), (None, None), (5, 5)]
)
def test_invalid_frames_that_are_none(ours, frames, wrong):
    """-1 would mark the last frame."""
    edit_json(ours / "talker.json", lambda content: content.update(invalid_frames=frames))
    assert_refused(ours, f"talker.json has {wrong!r} under 'invalid_frames'", "expected a list")


def test_missing_focal_length(ours):
    edit_json(ours / "transforms_train.json", lambda content: content.pop("focal_len"))
    assert_refused(ours, "None under 'focal_len'", "expected a positive, finite number")


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 0, -5.0, True, "9", HUGE])
def test_focal_length_that_is_none(ours, value):
    edit_json(ours / "transforms_train.json", lambda content: content.update(focal_len=value))
    assert_refused(ours, f"{value!r} under 'focal_len'", "expected a positive, finite number")


def test_nan_pose(legacy):
    def spoil(content):
        content["frames"][5]["transform_matrix"][0][3] = float("nan")

    edit_json(legacy / "transforms_train.json", spoil)
    assert_refused(legacy, "a pose with NaN", "1 frames, the first is 5", "Track the head again")


def test_pose_that_is_not_rigid(legacy):
    def spoil(content):
        content["frames"][7]["transform_matrix"][0][0] *= 2

    edit_json(legacy / "transforms_train.json", spoil)
    assert_refused(legacy, "no rotation and translation", "the first is 7")


def test_pose_that_mirrors_the_head(legacy):
    """Its rotation is orthogonal, but it turns left into right."""

    def spoil(content):
        for row in content["frames"][7]["transform_matrix"]:
            row[0] *= -1

    edit_json(legacy / "transforms_train.json", spoil)
    assert_refused(legacy, "a pose that mirrors the head in 1 frames", "the first is 7", "rigid")


@pytest.mark.parametrize("matrix", [None, "abc", [["a"] * 4] * 4, [[1], [1, 2]], [[HUGE] * 4]])
def test_pose_that_is_no_matrix(legacy, matrix):
    edit_json(
        legacy / "transforms_train.json",
        lambda content: content["frames"][2].update(transform_matrix=matrix),
    )
    assert_refused(legacy, "no matrix of numbers for frame 2", "4 rows of 4")


def test_pose_of_wrong_shape(legacy):
    edit_json(
        legacy / "transforms_train.json",
        lambda content: content["frames"][2]["transform_matrix"].pop(),
    )
    assert_refused(legacy, "shape [3, 4] for frame 2", "expected 4x4")


def test_nan_pose_of_a_frame_without_a_face_does_no_harm(ours):
    def spoil(content):
        content["frames"][5]["transform_matrix"][0][3] = float("nan")

    edit_json(ours / "transforms_train.json", spoil)
    edit_json(ours / "talker.json", lambda content: content.update(invalid_frames=[5]))
    assert torch.isfinite(parse(ours).metadata["track"].T_camera_head).all()


def test_no_frame_with_a_face(ours):
    edit_json(
        ours / "talker.json", lambda content: content.update(invalid_frames=list(range(NUM_FRAMES)))
    )
    assert_refused(ours, "no frame with a face", "expected a talking portrait")


def test_no_held_out_frame_with_a_face(ours):
    edit_json(ours / "talker.json", lambda content: content.update(invalid_frames=[21, 22, 23]))
    assert_refused(ours, "in the split 'val'", "longer video", split="val")


@pytest.mark.parametrize("fps", [24, 29.97, 30, None])
def test_other_frame_rate(ours, fps):
    edit_json(ours / "talker.json", lambda content: content.update(fps=fps))
    assert_refused(ours, f"says {fps} frames per second", "expected 25", "re-samples")


def test_newer_schema(ours):
    edit_json(ours / "talker.json", lambda content: content.update(schema=99))
    assert_refused(ours, "schema 99", "expected at most 1", "Update gaussiantalker-ns")


def test_missing_audio_features(ours):
    """Early versions had the encoder `mel`."""
    (ours / "aud_whisper.npy").rename(ours / "aud_mel.npy")
    assert_refused(
        ours,
        "no audio features that can be used (only aud_mel.npy, whose encoder is not known here)",
        "aud_whisper.npy",
        "process --only audio",
        kind=FileNotFoundError,
    )


def test_encoder_that_the_data_set_lacks(ours):
    assert_refused(
        ours,
        "no features of the audio encoder 'hubert', only of: whisper",
        "aud_hu.npy",
        kind=FileNotFoundError,
        audio_encoder="hubert",
    )


def test_unknown_encoder(ours):
    assert_refused(ours, "'whisperx' is not an audio encoder", audio_encoder="whisperx")


@pytest.mark.parametrize("count", [NUM_FRAMES - 3, NUM_FRAMES + 3, 0])
def test_audio_of_another_length(ours, count):
    features = np.load(ours / "aud_whisper.npy")
    np.save(ours / "aud_whisper.npy", np.resize(features, (count, *features.shape[1:])))
    assert_refused(
        ours, f"holds {count} audio windows for 24 frames", "expected one per frame", "--only audio"
    )


def test_audio_of_a_video_with_another_frame_rate_names_the_rate(legacy):
    features = np.load(legacy / "aud_ds.npy")
    np.save(legacy / "aud_ds.npy", features[:20])  # 24 frames at 30 fps are 20 at 25.
    assert_refused(legacy, "holds 20 audio windows", "look like 30 per second; expected 25")


def test_audio_of_wrong_shape(ours):
    np.save(ours / "aud_whisper.npy", np.zeros((NUM_FRAMES, 384), np.float32))
    assert_refused(ours, "has the shape [24, 384]", "expected [frames, window, features]")


def test_audio_with_nan(ours):
    features = np.load(ours / "aud_whisper.npy")
    features[8, 0, 0] = np.nan
    np.save(ours / "aud_whisper.npy", features)
    assert_refused(ours, "NaN or infinite numbers, first in row 8", "expected numbers")


def test_audio_file_that_is_no_array(ours):
    (ours / "aud_whisper.npy").write_text("not an array")
    assert_refused(ours, "aud_whisper.npy cannot be read", "expected a complete .npy")


def test_action_units_without_the_column(ours):
    (ours / "au.csv").write_text("frame, AU01_r\n1, 0.0\n")
    assert_refused(ours, "columns frame, AU01_r", "expected one named AU45_r")


def test_action_units_with_blanks_in_the_header(ours):
    lines = (ours / "au.csv").read_text().splitlines()
    assert " AU45_r" in lines[0].split(",")
    lines[0] = lines[0].replace(" ", "")
    without = parse(ours).metadata["track"].blink
    (ours / "au.csv").write_text("\n".join(lines))
    torch.testing.assert_close(parse(ours).metadata["track"].blink, without)


def test_action_units_that_are_no_numbers(ours):
    text = (ours / "au.csv").read_text().splitlines()
    text[3] = "3, 0, 0.08, 0.98, 1, n/a"
    (ours / "au.csv").write_text("\n".join(text))
    assert_refused(ours, "'n/a' for AU45_r in line 4, no number", "one value per frame")


def test_action_units_of_another_video(ours):
    text = (ours / "au.csv").read_text().splitlines()
    (ours / "au.csv").write_text("\n".join(text[:10]))
    assert_refused(ours, "holds 9 rows for 24 frames")


def test_blendshapes_of_wrong_shape(ours):
    np.save(ours / "blendshapes.npy", np.zeros((NUM_FRAMES, 51), np.float32))
    assert_refused(ours, "has the shape [24, 51]", "expected [frames, 52]")


def test_jpeg_that_is_cut_off(ours):
    path = ours / "ori_imgs" / "9.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    assert_refused(ours, "9.jpg holds a JPEG without its end", "expected a complete picture")


def test_file_that_is_no_jpeg(ours):
    (ours / "ori_imgs" / "9.jpg").write_bytes(b"nothing")
    assert_refused(ours, "9.jpg holds no picture")


@pytest.mark.parametrize("folder", ["ori_imgs", "parsing", "torso_imgs"])
def test_missing_pictures(ours, folder):
    for frame in (11, 12):
        next((ours / folder).glob(f"{frame}.[jp][pn]g")).unlink()
    assert_refused(
        ours, f"{folder} lacks 2 of 24 pictures, the first is 11", kind=FileNotFoundError
    )


def test_missing_folder_of_pictures(ours):
    shutil.rmtree(ours / "torso_imgs")
    assert_refused(ours, "torso_imgs lacks 24 of 24 pictures", kind=FileNotFoundError)


def test_missing_background(ours):
    (ours / "bc.jpg").unlink()
    assert_refused(ours, "bc.jpg does not exist", kind=FileNotFoundError)


def test_sizes_that_change(ours):
    cv2.imwrite(str(ours / "ori_imgs" / "13.jpg"), np.zeros((64, 48, 3), np.uint8))
    assert_refused(ours, "13.jpg has 48x64 pixels but", "0.jpg has 64x64", "one size for all")


def test_frames_that_are_not_square(ours):
    for frame in range(NUM_FRAMES):
        cv2.imwrite(str(ours / "ori_imgs" / f"{frame}.jpg"), np.zeros((48, 64, 3), np.uint8))
    assert_refused(ours, "0.jpg has 64x48 pixels", "expected a square", "Crop the video")


def test_frames_that_were_resized_after_tracking(ours):
    for path in (ours / "ori_imgs").glob("*.jpg"):
        cv2.imwrite(str(path), np.zeros((256, 256, 3), np.uint8))
    assert_refused(ours, "principal point at (32, 32)", "256x256", "resized")


def test_torso_layer_without_alpha(ours):
    cv2.imwrite(str(ours / "torso_imgs" / "2.png"), np.zeros((64, 64, 3), np.uint8))
    layers = parse(ours).metadata["layers"]
    with pytest.raises(ValueError, match=r"2\.png is missing or no RGBA picture.*frame 2"):
        layers.composite(2)


def test_damaged_landmarks(ours):
    (ours / "ori_imgs" / "3.lms").write_text("1 2\n3 4\n")
    assert_refused(ours, "3.lms does not hold 68 rows", "expected iBUG landmarks")


@pytest.mark.parametrize(
    ("points", "valid"),
    [((24, 68, 3), (24,)), ((24, 478), (24,)), ((24, 478, 1), (24,)), ((24, 478, 3), (20,))],
)
def test_landmarks_of_wrong_shape(ours, points, valid):
    np.savez(ours / "landmarks.npz", points=np.zeros(points), valid=np.ones(valid, bool))
    found = f"landmarks.npz holds points of shape {list(points)}, valid of shape {list(valid)}"
    assert_refused(ours, found, "expected [frames, 468 or more, 3]", "--only landmarks")


@pytest.mark.parametrize("name", ["landmarks.npz", "face_mesh.npz"])
def test_empty_archive(ours, name):
    (ours / name).write_bytes(b"")
    assert_refused(ours, f"{name} cannot be read", "Re-run")


def test_damaged_face_mesh(ours):
    np.savez(ours / "face_mesh.npz", vertices=np.zeros((468, 2)))
    assert_refused(ours, "face_mesh.npz holds vertices of shape [468, 2]", "--only dataset")


def test_face_mesh_that_is_cut_off(ours):
    path = ours / "face_mesh.npz"
    path.write_bytes(path.read_bytes()[:-100])
    assert_refused(ours, "face_mesh.npz cannot be read as a mesh", "--only dataset")


def test_damaged_track_params(legacy):
    (legacy / "track_params.pt").write_bytes(b"not a torch file")
    assert_refused(legacy, "track_params.pt cannot be read", "head tracker", "delete it")


def test_track_params_of_wrong_shape(legacy):
    torch.save({"vertices": torch.zeros(24, 7)}, legacy / "track_params.pt")
    assert_refused(legacy, "vertices of shape [24, 7]", "expected [frames, count, 3]")


def test_track_params_are_never_unpickled(legacy):
    torch.save({"vertices": np.zeros((2, 3, 3))}, legacy / "track_params.pt")
    assert_refused(legacy, "track_params.pt cannot be read")


@pytest.mark.parametrize("name", ["transforms_val.json", "ori_imgs", "parsing"])
def test_advice_about_another_tool_s_data_set_does_not_name_a_command_that_refuses_it(legacy, name):
    path = legacy / name
    shutil.rmtree(path) if path.is_dir() else path.write_text("{")
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        parse(legacy)
    message = str(caught.value)
    assert "--only" not in message and "e-run" not in message
    assert re.search("Copy the (file|data set) again", message)


def test_advice_about_features_of_another_tool_s_data_set(legacy):
    (legacy / "aud_ds.npy").rename(legacy / "aud_ave.npy")
    command = f"Run `gaussiantalker process --only audio --output-dir {legacy}`"
    assert_refused(legacy, "only aud_ave.npy, whose encoder", command, kind=FileNotFoundError)
    (legacy / "aud.wav").unlink()
    assert_refused(legacy, "Put the clip's sound there as aud.wav", kind=FileNotFoundError)


def test_flat_hubert_features_come_with_the_line_that_makes_windows_of_them(legacy):
    """Some tools keep two tokens per frame one after the other."""
    tokens = np.arange(2 * NUM_FRAMES, dtype=np.float32)[:, None].repeat(1024, axis=1)
    np.save(legacy / "aud_hu.npy", tokens)
    assert_refused(legacy, "two HuBERT tokens per frame", "expected [frames, 2, 1024]", "python -c")
    with pytest.raises(ValueError) as caught:
        parse(legacy)
    command = str(caught.value).split("python -c ")[1].strip('"')
    exec(command)  # What the user is told to run.
    track = parse(legacy).metadata["track"]
    assert track.audio_encoder == "hubert" and track.audio.shape == (NUM_FRAMES, 2, 1024)
    assert track.audio[3, :, 0].tolist() == [6, 7]
