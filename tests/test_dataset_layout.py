"""File names of a data set."""

import os
from pathlib import Path

import pytest

from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout


def test_names_are_those_of_the_public_layout():
    paths = DatasetLayout(Path("data/me"))
    names = {
        "ori_imgs/7.jpg": paths.frame(7),
        "ori_imgs/7.lms": paths.points68(7),
        "parsing/7.png": paths.parsing(7),
        "torso_imgs/7.png": paths.torso(7),
        "gt_imgs/7.jpg": paths.composite(7),
        "bc.jpg": paths.background,
        "transforms_train.json": paths.transforms("train"),
        "transforms_val.json": paths.transforms("val"),
        "aud.wav": paths.audio,
        "aud_train.wav": paths.audio_train,
        "aud_novel.wav": paths.audio_val,
        "aud_ds.npy": paths.audio_features("deepspeech"),
        "aud_hu.npy": paths.audio_features("hubert"),
        "au.csv": paths.action_units,
        "track_params.pt": paths.track_params,
    }
    assert {name: path.relative_to("data/me").as_posix() for name, path in names.items()} == {
        name: name for name in names
    }


def test_existing_features_win_over_the_name_that_would_be_written(tmp_path):
    (tmp_path / "aud.npy").touch()
    paths = DatasetLayout(tmp_path)
    assert paths.audio_features("deepspeech").name == "aud.npy"
    assert paths.available_encoders() == ["deepspeech"]
    (tmp_path / "aud_whisper.npy").touch()
    assert paths.available_encoders()[0] == "whisper"


def test_unknown_encoder_names_the_known_ones():
    with pytest.raises(ValueError, match="'whisperx' is not an audio encoder.*whisper, hubert"):
        DatasetLayout(Path("x")).audio_features("whisperx")


def test_derived_files_go_to_the_user_cache_when_the_data_set_is_read_only(tmp_path, monkeypatch):
    paths = DatasetLayout(tmp_path)
    assert paths.cache("face_mesh.npz") == tmp_path / "face_mesh.npz"
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert paths.cache("face_mesh.npz").is_relative_to("/elsewhere/gaussiantalker-ns")
