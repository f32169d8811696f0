"""The command `gaussiantalker process`, from the command line to a data set that loads."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import cv2
import numpy as np
import pytest
import torch
from astronaut_video import pair, swaying
from rich.progress import Progress
from small_videos import steady, write_video

from gaussiantalker_ns.audio.encoders.whisper import WhisperEncoder
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.dataparsers.talking_head import TalkingHeadDataParserConfig
from gaussiantalker_ns.files import ProgressFile, sha256_of
from gaussiantalker_ns.folder_lock import InUseError, OwnerLock
from gaussiantalker_ns.preprocess import audio_features
from gaussiantalker_ns.preprocess import steps as steps_module
from gaussiantalker_ns.preprocess.report.summary import offset_text, summary_table
from gaussiantalker_ns.preprocess.step_runner import WORK_FOLDER, read_talker, write_talker
from gaussiantalker_ns.scripts import process

NUM_FRAMES = 80
SIDE = 128


def config(tmp_path: Path, **changes: object) -> process.Config:
    values = {
        "video": tmp_path / "me.mkv",
        "output_dir": tmp_path / "data",
        "size": SIDE,
        "crop": "none",
        "audio_encoder": ("whisper",),
        "num_workers": 2,
    }
    return process.Config(**{**values, **changes})  # type: ignore[arg-type]


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_step_names_agree():
    assert get_args(process.StepName) == get_args(steps_module.StepName)
    assert tuple(process.STEP_TITLES) == get_args(process.StepName)


def test_steps_come_in_order():
    steps = steps_module.DatasetSteps(steps_module.ProcessSettings(video=None), process.StepDisplay)
    names = [step.name for step in steps.steps()]
    assert tuple(names) == get_args(steps_module.StepName)
    for index, step in enumerate(steps.steps()):
        assert set(step.requires) <= set(names[:index])


def test_offset_in_words():
    assert offset_text(80.4) == "80 ms earlier"
    assert offset_text(-30.0) == "30 ms later"
    assert offset_text(0.2) == "not at all"


def test_no_video_given(tmp_path: Path):
    with pytest.raises(ValueError, match="--video is missing"):
        process.run(config(tmp_path, video=None))


def test_no_such_video(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="No video at"):
        process.run(config(tmp_path))


def consent_of(settings: steps_module.ProcessSettings, recorded: dict[str, object]) -> str | None:
    """The statement that the step of the data set files would record."""
    steps = steps_module.DatasetSteps(settings, process.StepDisplay, recorded).steps()
    return next(step for step in steps if step.name == "dataset").settings["consent"]


def test_consent_stays_with_the_video_it_was_given_for(tmp_path: Path):
    video, other = tmp_path / "me.mkv", tmp_path / "you.mkv"
    video.write_bytes(b"me")
    other.write_bytes(b"you")
    recorded = {
        "source": {"name": "me.mkv", "sha256": sha256_of(video)},
        "consent": {"statement": "recorded by myself"},
    }
    settings = steps_module.ProcessSettings
    for path in (video, None):
        assert consent_of(settings(path), recorded) == "recorded by myself"
        assert consent_of(settings(path, consent="mine"), recorded) == "mine"
        assert consent_of(settings(path, consent=""), recorded) is None
        assert consent_of(settings(path), {**recorded, "consent": None}) is None
    assert consent_of(settings(other), recorded) is None
    assert consent_of(settings(video), {}) is None


def test_frames_of_another_video_end_the_consent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Also if the command is killed behind the first step and given again."""
    dataset, output = DatasetLayout(tmp_path), DatasetLayout(tmp_path / "work")
    output.root.mkdir()
    output.audio.touch()
    (tmp_path / "you.mkv").write_bytes(b"you")
    before = {"schema": 1, "source": {"sha256": "0"}, "consent": {"statement": "recorded by me"}}
    write_talker(dataset, before)
    source = {"sha256": sha256_of(tmp_path / "you.mkv")}
    info = SimpleNamespace(num_frames=1, size=8, to_dict=lambda: source)
    monkeypatch.setattr(steps_module, "extract", lambda *_: info)
    settings = steps_module.ProcessSettings(tmp_path / "you.mkv")
    steps = steps_module.DatasetSteps(settings, silent, before)
    after = {**before, **steps.video(dataset, output)}
    assert after["consent"] is None and consent_of(settings, after) is None


@contextmanager
def silent(*_: object) -> Iterator[Callable[[int], None]]:
    """Show nothing."""
    yield lambda done: None


def test_features_of_an_earlier_run_go_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A data set may come from anywhere, so the paths in its `talker.json` are not believed."""
    dataset = DatasetLayout(tmp_path / "data")
    dataset.root.mkdir()
    outside = tmp_path / "outside.txt"
    for path in (outside, dataset.audio_features("whisper"), dataset.background):
        path.touch()
    entries = {
        "whisper": {"file": "bc.jpg"},
        "hubert": {"file": str(outside)},
        "../outside.txt": {"file": "../outside.txt"},
    }
    write_talker(dataset, {"schema": 1, "audio": entries})
    monkeypatch.setattr(steps_module.Landmarks, "load", lambda path: None)
    monkeypatch.setattr(steps_module, "prepare_audio", lambda *_: {"audio": {"wav2vec2": {}}})
    settings = steps_module.ProcessSettings(None, encoders=("wav2vec2",))
    steps_module.DatasetSteps(settings, silent).audio(dataset, dataset)
    assert outside.exists() and dataset.background.exists()
    assert not dataset.audio_features("whisper").exists()


def test_what_was_not_measured_is_said_so(processed_facts: dict[str, Any]):
    processed_facts["tracking"]["held_out_flow_px"] = None
    table = summary_table(processed_facts, 1.0)
    cells = dict(zip(*(map(str, column.cells) for column in table.columns), strict=True))
    assert cells["Held-out optical flow"] == "not measured"
    assert cells["Rigid reprojection"] == "0.50 px"


@pytest.fixture
def processed_facts() -> dict[str, Any]:
    """What `talker.json` says of a finished data set, as far as the summary shows it."""
    return {
        "num_frames": 50,
        "fps": 25,
        "size": [512, 512],
        "source": {"name": "me.mkv", "take": [0, 50]},
        "tracking": {"focal_px": 900.0, "rigid_reprojection_px": 0.5, "held_out_flow_px": 0.3},
        "invalid_frames": [],
        "segmenter": "builtin",
        "background": {"seen": 0.9},
        "av_offset_ms": 0.0,
        "audio": {"whisper": {}},
    }


@pytest.mark.parametrize("name", ["shoutcast", "mel"])
def test_unknown_encoder(tmp_path: Path, name: str):
    """Early versions had `mel`."""
    with pytest.raises(ValueError, match=f"--audio-encoder names {name}; expected .* whisper"):
        process.run(config(tmp_path, audio_encoder=(name,)))


def test_encoder_that_cannot_compute(tmp_path: Path):
    with pytest.raises(ValueError, match="deepspeech"):
        process.run(config(tmp_path, audio_encoder=("deepspeech",)))


def test_folder_of_another_program(tmp_path: Path):
    (tmp_path / "me.mkv").write_bytes(b"video")
    DatasetLayout(tmp_path / "data").frames_dir.mkdir(parents=True)
    with pytest.raises(ValueError, match="did not make it"):
        process.run(config(tmp_path))


def test_folder_of_another_video(tmp_path: Path):
    (tmp_path / "me.mkv").write_bytes(b"video")
    dataset = DatasetLayout(tmp_path / "data")
    dataset.root.mkdir()
    write_talker(dataset, {"schema": 1, "source": {"name": "you.mp4", "sha256": "0"}})
    with pytest.raises(ValueError, match=r"another video, you\.mp4.*--overwrite"):
        process.run(config(tmp_path))


def test_output_is_a_file(tmp_path: Path):
    (tmp_path / "me.mkv").write_bytes(b"video")
    (tmp_path / "data").write_text("")
    with pytest.raises(ValueError, match="is a file; expected a folder"):
        process.run(config(tmp_path))


def test_step_alone_without_a_data_set(tmp_path: Path):
    with pytest.raises(ValueError, match="--only audio needs the finished step"):
        process.run(config(tmp_path, video=None, only="audio"))


def test_a_bad_video(tmp_path: Path):
    (tmp_path / "me.mkv").write_bytes(b"no video at all")
    with pytest.raises(ValueError, match="cannot be read as a video.*copy or export it again"):
        process.run(config(tmp_path))


def test_a_folder_in_use_is_left_alone(tmp_path: Path):
    (tmp_path / "me.mkv").write_bytes(b"video")
    settings = config(tmp_path)
    with OwnerLock.of_folder(settings.output_dir):
        with pytest.raises(InUseError, match="is in use by"):
            process.run(settings)
        assert len(list(settings.output_dir.iterdir())) == 1
    assert not settings.output_dir.exists()


@pytest.fixture(scope="module")
def processed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of a swaying portrait."""
    folder = tmp_path_factory.mktemp("processed")
    write_video(folder / "me.mkv", steady(NUM_FRAMES), swaying)
    settings = config(folder, consent="recorded by myself", write_composites=True)
    assert process.run(settings) == 0
    return folder


@pytest.mark.slow
def test_every_file_is_as_other_projects_expect(processed: Path):
    dataset = DatasetLayout(processed / "data")
    talker = read_talker(dataset)
    assert talker["num_frames"] == NUM_FRAMES
    assert talker["consent"] == {"statement": "recorded by myself"}
    assert talker["segmenter"] in {"builtin", "parsing"}
    assert not (dataset.root / WORK_FOLDER).exists()
    for frame in (0, NUM_FRAMES - 1):
        for path in (dataset.frame(frame), dataset.composite(frame), dataset.parsing(frame)):
            image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert image.shape == (SIDE, SIDE, 3) and image.dtype == np.uint8
        torso = cv2.imread(str(dataset.torso(frame)), cv2.IMREAD_UNCHANGED)
        assert torso.shape == (SIDE, SIDE, 4)
        assert np.loadtxt(dataset.points68(frame)).shape == (68, 2)
    assert not dataset.frame(NUM_FRAMES).exists()
    assert cv2.imread(str(dataset.background)).shape == (SIDE, SIDE, 3)
    assert np.load(dataset.audio_features("whisper")).shape[0] == NUM_FRAMES
    assert np.load(dataset.blendshapes).shape == (NUM_FRAMES, 52)
    params = torch.load(dataset.track_params, weights_only=True)
    assert params["euler"].shape == params["trans"].shape == (NUM_FRAMES, 3)
    train, val = (json.loads(dataset.transforms(name).read_text()) for name in ("train", "val"))
    ids = [frame["img_id"] for frame in (*train["frames"], *val["frames"])]
    assert ids == list(range(NUM_FRAMES))


@pytest.mark.slow
def test_parser_reads_the_data_set(processed: Path):
    parser = TalkingHeadDataParserConfig(data=processed / "data").setup()
    outputs = parser.get_dataparser_outputs("train")
    assert len(outputs.image_filenames) == NUM_FRAMES * 10 // 11
    assert outputs.metadata["track"].audio_encoder == "whisper"


@pytest.mark.slow
def test_head_is_found_in_the_masks(processed: Path):
    dataset = DatasetLayout(processed / "data")
    labels = cv2.imread(str(dataset.parsing(40)))
    head = (labels == (255, 0, 0)).all(-1)
    assert 0.08 < head.mean() < 0.5
    points = np.loadtxt(dataset.points68(40)).astype(int)
    assert head[points[27:48, 1], points[27:48, 0]].mean() > 0.95


@pytest.mark.slow
def test_second_run_does_nothing(processed: Path, capsys: pytest.CaptureFixture[str]):
    before = contents(processed / "data")
    settings = config(processed, consent="recorded by myself", write_composites=True)
    begun = time.monotonic()
    assert process.run(settings) == 0
    assert time.monotonic() - begun < 10
    assert capsys.readouterr().out.count("skipped") == len(process.STEP_TITLES)
    assert contents(processed / "data") == before


@pytest.mark.slow
def test_one_step_alone_replaces_the_features(processed: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(audio_features, "get_encoder", lambda _: WhisperEncoder())
    settings = config(processed, video=None, only="audio", audio_encoder=("hubert",))
    assert process.run(settings) == 0
    dataset = DatasetLayout(processed / "data")
    assert dataset.available_encoders() == ["hubert"]
    assert list(read_talker(dataset)["audio"]) == ["hubert"]
    assert process.run(config(processed, video=None, only="dataset")) == 0
    assert read_talker(dataset)["consent"] == {"statement": "recorded by myself"}
    process.run(config(processed, consent="recorded by myself", write_composites=True))
    assert dataset.available_encoders() == ["whisper"]


def test_other_programs_are_told_the_step_and_how_far_it_is(tmp_path: Path):
    path = tmp_path / "progress.json"
    display = process.StepDisplay(Progress(), ProgressFile(path))
    with display.step("landmarks", 8) as count:
        assert json.loads(path.read_text()) == {"step": "landmarks", "done": 0, "total": 8}
        count(3)
    with display.step("audio", None):
        assert json.loads(path.read_text()) == {"step": "audio", "done": 0, "total": None}


KILLED = """
import os, signal
from contextlib import contextmanager
from gaussiantalker_ns.scripts import cli, process

show = process.StepDisplay.step

@contextmanager
def killing(display, name, total):
    with show(display, name, total) as count:
        def count_or_kill(done):
            if name == {step!r} and done >= total // 2:
                os.kill(os.getpid(), signal.SIGKILL)
            count(done)
        yield count_or_kill

process.StepDisplay.step = killing
cli.main()
"""


@pytest.mark.slow
def test_killed_at_three_steps_the_result_is_the_same(tmp_path: Path):
    """The process kills itself when half of a step's frames (its one encoder) are done."""
    write_video(tmp_path / "me.mkv", steady(NUM_FRAMES), swaying)
    assert process.run(config(tmp_path, output_dir=tmp_path / "whole")) == 0
    target = tmp_path / "killed"
    arguments = [
        "process",
        *("--video", str(tmp_path / "me.mkv"), "--output-dir", str(target)),
        *("--size", str(SIDE), "--crop", "none", "--num-workers", "2"),
    ]
    for step in ("landmarks", "segmentation", "audio", "none"):
        command = [sys.executable, "-c", KILLED.format(step=step), *arguments]
        finished = subprocess.run(command, check=False, capture_output=True)
        if step == "none":
            assert finished.returncode == 0, finished.stderr.decode()
        else:
            assert finished.returncode == -signal.SIGKILL, finished.stderr.decode()
            assert (target / WORK_FOLDER / step).exists()
            assert step not in read_talker(DatasetLayout(target))["steps"]
    whole, killed = contents(tmp_path / "whole"), contents(target)
    assert list(whole) == list(killed)
    different = [name for name in whole if whole[name] != killed[name]]
    assert different == []


@pytest.mark.slow
def test_grey_and_odd_sized_silent_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_video(tmp_path / "me.mkv", steady(NUM_FRAMES), lambda i: swaying(i, 161), pix_fmt="gray")
    assert process.run(config(tmp_path)) == 0
    topics = [
        warning["topic"] for warning in read_talker(DatasetLayout(tmp_path / "data"))["warnings"]
    ]
    assert {"silent", "length"} <= set(topics)
    assert "nearly silent" in re.sub(r"\s+", " ", capsys.readouterr().out)


@pytest.mark.slow
def test_ten_bit_variable_rate_two_faces_seen_half_of_the_time(tmp_path: Path):
    times = [0.04 * index + (0.013 if index % 3 else 0.0) for index in range(100)]
    write_video(tmp_path / "me.mkv", times, pair, codec="ffv1", pix_fmt="yuv420p10le")
    assert process.run(config(tmp_path, take="all", crop="0,0,160")) == 0
    dataset = DatasetLayout(tmp_path / "data")
    talker = read_talker(dataset)
    assert 40 <= len(talker["invalid_frames"]) <= 60
    assert min(talker["invalid_frames"]) >= 45
    assert "no-face" in [warning["topic"] for warning in talker["warnings"]]
    assert os.path.exists(dataset.frame(talker["num_frames"] - 1))
