"""Runs as talker files: the same frames, without data set or Nerfstudio, whole or not at all."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from nerfstudio.engine.callbacks import TrainingCallbackLocation
from synthetic_talker import write_synthetic_talker, write_wav
from talker_runs import run, small_config

from gaussiantalker_ns.engine.runtime import use_threads
from gaussiantalker_ns.inference.checkpoint import load_checkpoint
from gaussiantalker_ns.inference.motion import MotionConfig, frames_in_motion
from gaussiantalker_ns.inference.scene import Scene
from gaussiantalker_ns.inference.talker import Talker
from gaussiantalker_ns.inference.talker_file import webp
from gaussiantalker_ns.inference.talker_file.after_training import pack_trained
from gaussiantalker_ns.inference.talker_file.pack import (
    TORSO_GOAL,
    TORSO_QUALITIES,
    PackOptions,
    check_packable,
    decibels_kept,
    pack,
    sufficient_quality,
    without_empty_rows,
)
from gaussiantalker_ns.inference.talker_file.reader import read_talker
from gaussiantalker_ns.inference.trained_talker import chosen_talker, load_trained
from gaussiantalker_ns.scripts import cli
from gaussiantalker_ns.timebase import SAMPLE_RATE_HZ

CONSENT = {"statement": "I agree to be animated."}
FRAME_PSNR, HALF_PSNR = 45.0, 50.0
"""Decibels of whole frames of a file, and of the head of a float16 file."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("pack")
    data = write_synthetic_talker(root / "data", num_frames=66, size=64)
    description = json.loads((data / "talker.json").read_text())
    (data / "talker.json").write_text(json.dumps({**description, "consent": CONSENT}))
    trainer = run(small_config(data, root / "outputs", canonical_steps=10, num_steps=20))
    return trainer


@pytest.fixture(scope="module")
def run_talker(trained):
    return Talker.load(trained.base_dir)


@pytest.fixture(scope="module")
def packed(trained):
    return trained.base_dir / "synthetic.talker"


@pytest.fixture(scope="module")
def speech():
    samples = 0.1 * np.random.default_rng(0).standard_normal(SAMPLE_RATE_HZ)
    return samples.astype(np.float32)


def frames_and_heads(talker, speech, monkeypatch, **options):
    """Finished frames, and what the rasterizer made of the head."""
    # A run asks for its own number of threads, a file for all; products round differently for them.
    use_threads("cpu", 1)
    model, heads = talker.checkpoint.model, []
    splat = model.splat

    def record(*arguments, **named):
        heads.append(splat(*arguments, **named))
        return heads[-1]

    with monkeypatch.context() as patch:
        patch.setattr(model, "splat", record)
        frames = [frame.copy() for frame in talker.render(speech, gain=1.0, **options)]
    return frames, heads


def decibels(a, b):
    error = float(np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2))
    peak = 255.0 if np.asarray(a).dtype == np.uint8 else 1.0
    return 10 * np.log10(peak**2 / max(error, 1e-12))


def test_a_training_leaves_a_talker(trained, packed):
    file = read_talker(packed)
    said = file.description
    assert (said.method, said.step, said.size) == ("gaussiantalker-cpu", 19, 64)
    assert said.consent == CONSENT and said.num_gaussians == 400
    assert said.source.checkpoint == "step-000000019.ckpt"
    origin = load_checkpoint(trained.base_dir).origin()
    assert (origin.checkpoint_sha256, origin.dataset_sha256) == (
        file.origin().checkpoint_sha256,
        file.origin().dataset_sha256,
    )
    assert said.num_frames == len(frames_in_motion(np.arange(60)))


def test_a_switch_leaves_it_out(trained):
    from nerfstudio.engine.callbacks import TrainingCallbackAttributes

    pipeline = trained.pipeline
    attributes = TrainingCallbackAttributes(trained.optimizers, None, pipeline, trained)

    def at_end():
        callbacks = pipeline.get_training_callbacks(attributes)
        return [c for c in callbacks if TrainingCallbackLocation.AFTER_TRAIN in c.where_to_run]

    assert len(at_end()) == 1
    pipeline.config.write_talker = False
    assert at_end() == []
    pipeline.config.write_talker = True


@pytest.mark.parametrize("motion", [MotionConfig(), MotionConfig(pose="still", blink="track")])
def test_a_file_gives_the_frames_of_its_run(run_talker, packed, speech, monkeypatch, motion):
    frames, heads = frames_and_heads(run_talker, speech, monkeypatch, motion=motion)
    own, own_heads = frames_and_heads(Talker.load(packed), speech, monkeypatch, motion=motion)
    assert len(frames) == len(own) == 25
    for head, own_head in zip(heads, own_heads, strict=True):
        assert torch.equal(head.rgb, own_head.rgb) and torch.equal(head.alpha, own_head.alpha)
    assert min(decibels(*pair) for pair in zip(frames, own, strict=True)) > FRAME_PSNR


def test_half_precision_is_not_seen(run_talker, packed, speech, monkeypatch, tmp_path):
    half = tmp_path / "half.talker"
    pack(run_talker.checkpoint, half, PackOptions(precision="float16", torso_quality=101))
    parts, own_parts = (read_talker(path).part_bytes for path in (packed, half))
    assert own_parts["tensors.safetensors"] < 0.65 * parts["tensors.safetensors"]
    _, heads = frames_and_heads(run_talker, speech, monkeypatch)
    frames, own_heads = frames_and_heads(Talker.load(half), speech, monkeypatch)
    for head, own_head in zip(heads, own_heads, strict=True):
        assert decibels(head.rgb.numpy(), own_head.rgb.numpy()) > HALF_PSNR
    assert len(frames) == 25


def test_scenes_of_a_file(packed, speech):
    talker = Talker.load(packed)

    def first(**options):
        return next(iter(talker.render(speech[:3200], scene=Scene(**options))))

    assert first(size=96).shape == (96, 96, 3)
    assert (first(background="#00ff00")[0, 0] == (0, 255, 0)).all()
    transparent = first(background="alpha")
    assert transparent.shape == (64, 64, 4) and transparent[0, 0, 3] == 0


def test_the_track_may_be_shorter_and_the_licence_is_the_owners(run_talker, tmp_path):
    short = tmp_path / "short.talker"
    pack(run_talker.checkpoint, short, PackOptions(track_seconds=0.4, licence="ask me"))
    said = read_talker(short).description
    assert (said.num_frames, said.licence) == (10, "ask me")
    for options, message in (
        ({"track_seconds": 0.0}, "expected a length of up to"),
        ({"track_seconds": 1e6}, "expected a length of up to"),
        ({"torso_quality": 0}, "expected 1 to 100"),
    ):
        with pytest.raises(ValueError, match=message):
            PackOptions(**options)


def test_torsos_are_kept_as_well_as_the_frame_needs():
    smooth = np.full((64, 64, 4), 255, np.uint8)
    smooth[..., :3] = np.linspace(0, 200, 64).astype(np.uint8)[:, None, None]
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 4), dtype=np.uint8)
    assert sufficient_quality([smooth]) == TORSO_QUALITIES[0]
    assert decibels_kept(smooth, TORSO_QUALITIES[0]) > TORSO_GOAL
    assert sufficient_quality([smooth, noise]) == webp.LOSSLESS
    assert decibels_kept(noise, webp.LOSSLESS) > 99
    assert len(without_empty_rows(np.zeros((8, 8, 4), np.uint8))) == 1


def test_a_head_that_does_not_speak_is_not_packed(trained, tmp_path):
    from gaussiantalker_ns.engine.optimizers import Stage

    checkpoint = load_checkpoint(trained.base_dir)
    checkpoint.model.stage = Stage.CANONICAL
    with pytest.raises(ValueError, match="canonical stage.*does not speak yet"):
        check_packable(checkpoint)
    model, step = checkpoint.model, trained.step
    sentence = pack_trained(model, trained, step, checkpoint.layout)
    assert sentence.startswith("No talker file was written") and "gaussiantalker pack" in sentence


BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("nerfstudio", "transformers", "gsplat", "mediapipe", "lpips"):
            raise ImportError(f"{name} is blocked", name=name)
sys.meta_path.insert(0, Blocked())
from gaussiantalker_ns.scripts import cli
cli.main(sys.argv[1:])
"""


def test_a_file_drives_without_nerfstudio_or_its_data_set(packed, speech, tmp_path):
    write_wav(tmp_path / "speech.wav", speech)
    (tmp_path / "other.talker").write_bytes(packed.read_bytes())
    command = ["drive", "--talker", "other.talker", "--audio", "speech.wav"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *command, "--output", "talk.mp4"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with av.open(str(tmp_path / "talk.mp4")) as video:
        assert len(list(video.decode(video=0))) == 25 and video.streams.audio
    record = json.loads((tmp_path / "talk.mp4.provenance.json").read_text())
    assert record["consent"] == json.dumps(CONSENT)
    assert record["checkpoint"] == "step-000000019.ckpt"
    assert record["settings"]["talker_sha256"] == read_talker(packed).sha256


KILLED = """
import sys, time
from pathlib import Path
from gaussiantalker_ns.inference.talker_file.archive import write_archive
def members():
    yield "talker.json", b"{}"
    yield "background.webp", bytes(10**6)
    print("half", flush=True)
    time.sleep(600)
write_archive(Path(sys.argv[1]), members(), overwrite=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("existing", [False, True])
def test_killed_while_packing_leaves_what_was_there(run_talker, packed, tmp_path, existing):
    path = tmp_path / "me.talker"
    if existing:
        path.write_bytes(packed.read_bytes())
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None and process.stdout.readline() == b"half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert path.exists() == existing
    if existing:
        assert path.read_bytes() == packed.read_bytes()
    time.sleep(0.05)
    pack(run_talker.checkpoint, path, overwrite=True)
    assert read_talker(path).step == 19
    assert [entry.name for entry in tmp_path.iterdir()] == ["me.talker"]


def test_commands(trained, packed, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        status = cli.run_command(arguments[0], list(arguments[1:]))
        printed = capsys.readouterr()
        return status, " ".join((printed.out + printed.err).split())

    run_folder = str(trained.base_dir)
    packing = ("pack", "--load-config", run_folder, "--output", "me.talker")
    assert command(*packing, "--precision", "float16")[0] == 0
    status, said = command(*packing)
    assert status == 1 and "me.talker exists already" in said and "--overwrite" in said
    assert command(*packing, "--overwrite", "--licence", "CC0 [bold]")[0] == 0
    status, said = command("info", "me.talker", "--picture", "me.png")
    assert status == 0 and CONSENT["statement"] in said and "CC0 [bold]" in said
    assert "tensors.safetensors" in said and "torso" in said
    assert cv2.imread("me.png").shape == (64, 64, 3)
    assert "--overwrite" in command("info", "me.talker", "--picture", "me.png")[1]
    assert ".png, .jpg or .webp" in command("info", "me.talker", "--picture", "me.gif")[1]
    Path("no.talker").write_text("a text")
    status, said = command("info", "no.talker")
    assert status == 1 and "no.talker is no zip archive" in said
    write_wav(Path("speech.wav"), np.zeros(3200))
    path_command = ("camera-path", "--audio", "speech.wav", "--talker", "me.talker")
    assert command(*path_command)[0] == 0
    assert len(json.loads(Path("camera_path.json").read_text())["camera_path"]) == 5
    with pytest.raises(SystemExit):
        cli.run_command("evaluate", ["--talker", "me.talker"])
    assert "holds no frames to compare with" in " ".join(capsys.readouterr().err.split())


def test_a_file_is_evaluated_with_other_audio(packed, speech, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_wav(tmp_path / "speech.wav", speech)
    path = tmp_path / "me.talker"
    path.write_bytes(packed.read_bytes())
    options = ["--talker", "me.talker", "--audio", "speech.wav", "--no-images", "--no-speed"]
    assert cli.run_command("evaluate", options) == 0
    results = json.loads((tmp_path / "me" / "evaluation-speech" / "evaluation.json").read_text())
    assert results["checkpoint"] == "me.talker" and "training_minutes" in results["not_measured"]


def test_the_talker_is_named_once(tmp_path):
    path = tmp_path / "me.talker"
    assert chosen_talker(None, None) is None
    with pytest.raises(ValueError, match="expected one of them, as both name the talker"):
        chosen_talker(path, path)
    with pytest.raises(FileNotFoundError, match="There is no talker at"):
        chosen_talker(path, None)
    path.touch()
    assert chosen_talker(path, None) == chosen_talker(None, path) == path
    with pytest.raises(ValueError, match="needs no data set"):
        load_trained(path, tmp_path)
