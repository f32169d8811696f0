"""Ready features: read and checked for a run, driven, and made for another tool's data set."""

import shutil
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from synthetic_talker import write_synthetic_talker, write_wav
from talker_runs import run, small_config

from gaussiantalker_ns.inference.drive_job import DriveJob
from gaussiantalker_ns.inference.ready_features import (
    check_length,
    part_of_features,
    read_ready_features,
)
from gaussiantalker_ns.inference.talker import Talker
from gaussiantalker_ns.scripts import drive, process

BANK = SimpleNamespace(audio_encoder="deepspeech", audio=torch.zeros(10, 16, 29))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5, 16, 44), r"shape \[5, 16, 44\]; expected \[frames, 16, 29\].*'deepspeech'"),
        ((5, 464), r"shape \[5, 464\].*expected \[frames, window, features\]"),
        ((0, 16, 29), r"shape \[0, 16, 29\]"),
    ],
)
def test_features_of_another_shape(tmp_path, shape, message):
    np.save(tmp_path / "speech.npy", np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match=message):
        read_ready_features(tmp_path / "speech.npy", BANK)


def test_features_that_are_no_numbers(tmp_path):
    path = tmp_path / "speech.npy"
    np.save(path, np.full((5, 16, 29), np.nan))
    with pytest.raises(ValueError, match="NaN or infinite"):
        read_ready_features(path, BANK)
    np.save(path, np.full((5, 16, 29), "a"))
    with pytest.raises(ValueError, match="expected an array of numbers"):
        read_ready_features(path, BANK)


def test_features_of_other_sound(tmp_path):
    write_wav(tmp_path / "speech.wav", np.zeros(16_000))
    check_length(tmp_path / "speech.npy", 26, tmp_path / "speech.wav")
    with pytest.raises(ValueError, match="holds 30 windows, but .*speech.wav lasts 25 frames"):
        check_length(tmp_path / "speech.npy", 30, tmp_path / "speech.wav")


def test_part_of_the_features(tmp_path):
    """0.2 to 0.6 s are the rows 5 to 14."""
    rows = np.arange(25, dtype=np.float32)[:, None, None]
    assert part_of_features(tmp_path, rows, 0.2, 0.6)[:, 0, 0].tolist() == list(range(5, 15))
    with pytest.raises(ValueError, match=r"lasts 1\.00 s"):
        part_of_features(tmp_path, rows, 3.0, None)


def test_one_file_of_features_for_each_of_audio(tmp_path):
    config = drive.Config(output=tmp_path, audio=(tmp_path / "a.wav", tmp_path / "b.wav"))
    assert config.features_of_audio() == [None, None]
    config.features = (tmp_path / "a.npy",)
    with pytest.raises(ValueError, match="names 1 files for 2"):
        config.features_of_audio()


def test_features_for_a_data_set_of_another_tool(tmp_path):
    root = write_synthetic_talker(tmp_path, num_frames=22, layout="legacy")
    before = {path.name: path.stat().st_mtime_ns for path in root.iterdir() if path.is_file()}
    config = process.Config(root, only="audio", audio_encoder=("whisper",))
    assert process.run(config) == 0
    assert np.load(root / "aud_whisper.npy").shape == (22, 2, 384)
    after = {path.name: path.stat().st_mtime_ns for path in root.iterdir() if path.is_file()}
    assert after.pop("aud_whisper.npy") and after == before
    config.av_offset = 40.0
    with pytest.raises(ValueError, match="--av-offset"):
        process.run(config)
    config.av_offset = None
    write_wav(root / "aud.wav", np.zeros(160_000))
    with pytest.raises(ValueError, match=r"lasts 10\.00 s, but 22 frames"):
        process.run(config)
    (root / "aud.wav").unlink()
    with pytest.raises(FileNotFoundError, match="Put it there"):
        process.run(config)
    config.only = "layers"
    with pytest.raises(ValueError, match="did not make it"):
        process.run(config)


@pytest.mark.slow
def test_a_run_on_deepspeech_is_told_and_driven_by_features(tmp_path, capsys):
    data = write_synthetic_talker(tmp_path / "data", num_frames=33, layout="legacy")
    config = small_config(data, tmp_path / "outputs", canonical_steps=2, num_steps=4)
    config.pipeline.model.silence_prob = 0.08
    run(config)
    told = " ".join(capsys.readouterr().out.split())
    assert "the run can only be driven by such files" in told and "--only audio" in told
    assert "--audio speech.npy` uses it" in told
    # Better features have come since; the run keeps those of its training.
    np.save(data / "aud_whisper.npy", np.zeros((33, 2, 384), np.float32))
    talker = Talker.load(tmp_path / "outputs")
    assert talker.checkpoint.model.bank.audio_encoder == "deepspeech"
    features = shutil.copyfile(data / "aud_ds.npy", tmp_path / "speech.npy")
    with pytest.raises(ValueError, match="drive --audio speech.npy"):
        list(talker.render(np.zeros(16_000, np.float32)))
    DriveJob(features, tmp_path / "silent.mp4").run(talker)
    DriveJob(data / "aud.wav", tmp_path / "heard.mp4", features=features).run(talker)
    for name, has_sound in (("silent.mp4", False), ("heard.mp4", True)):
        with av.open(str(tmp_path / name)) as container:
            assert bool(container.streams.audio) == has_sound
            assert sum(1 for _ in container.decode(video=0)) == 33
