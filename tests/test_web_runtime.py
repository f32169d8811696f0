"""The browser's run-time under node against Python: features, tokens, frames, motion, sound."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from web_talkers import (
    decibels,
    description,
    raw_rows,
    run_node,
    speech_like,
    with_window,
    write_talker,
)

from gaussiantalker_ns.audio.loudness import speech_gain
from gaussiantalker_ns.inference.frame_renderer import FrameRenderer
from gaussiantalker_ns.inference.motion import MotionConfig, generate_blinks
from gaussiantalker_ns.inference.scene import Scene
from gaussiantalker_ns.inference.talker import Talker
from gaussiantalker_ns.inference.talker_file.reader import read_talker
from gaussiantalker_ns.timebase import ping_pong
from gaussiantalker_ns.web.pack import pack_for_web

pytestmark = pytest.mark.node

SAMPLES = speech_like(16_000)
FEATURE_TOLERANCE = 1e-5
"""Relative error of features at full precision, root of the mean square: another order of sums."""

LEAST_DECIBELS = 50
"""Of a frame of 32 px: where random offsets move Gaussians out of Python's box, it cuts them."""


def variants() -> dict[str, object]:
    """Kinds of talkers that differ in how they are computed."""
    coded = description()
    head = coded.head
    deformation = dataclasses.replace(head.deformation, rotation=False, opacity=False)
    no_eye = dataclasses.replace(head.tokens, eye=False)
    plain = dataclasses.replace(head, deformation=deformation, tokens=no_eye, sh_degree=3)
    four = dataclasses.replace(head.attention, num_heads=4)
    return {
        "code": coded,
        "window of 8": with_window(8),
        "window of 5": with_window(5),
        "four heads, blink value": description(
            head=dataclasses.replace(head, attention=four), eye_form="au45"
        ),
        "degree 3, few offsets, no torso": description(
            head=plain, sh_degree=3, torso_mode="gaussians"
        ),
    }


class Driven:
    """What Python and the run-time make of one sound."""

    def __init__(self, folder: Path, said, precision: str = "float32", **job) -> None:
        path = write_talker(folder / "tiny.talker", said)
        self.talker = Talker(read_talker(path))
        self.pictures = self._render()
        (folder / "talker.gtweb").write_bytes(pack_for_web(path, precision, 10.0).data)
        SAMPLES.tofile(folder / "samples.f32")
        self._behind().tofile(folder / "behind.u8")
        frames = list(range(len(self.pictures)))
        values = {"frames": frames, "places": frames, "turn": None, "blink": True, **job}
        self.told = run_node(folder, task="drive", **values)
        size = self.pictures.shape[1]
        drawn = np.fromfile(folder / "pictures.u8", np.uint8).reshape(-1, size, size, 4)
        self.drawn = drawn[..., :3]
        self.rows = np.fromfile(folder / "rows.f32", np.float32)

    def _render(self) -> np.ndarray:
        return np.stack(list(self.talker.render(SAMPLES)))

    def _behind(self) -> np.ndarray:
        renderer = FrameRenderer(self.talker.checkpoint, Scene(), MotionConfig())
        behind = [renderer._read_behind(frame) for frame in range(len(self.pictures))]
        renderer.close()
        opaque = np.full((*self.pictures.shape[:3], 1), 255, np.uint8)
        return np.concatenate([np.stack(behind), opaque], axis=-1)


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    return Driven(tmp_path_factory.mktemp("coded"), description())


@pytest.mark.parametrize("kind", list(variants()))
def test_frames_are_those_of_python(kind, tmp_path):
    driven = Driven(tmp_path, variants()[kind])
    assert len(driven.drawn) == len(driven.pictures) == driven.told["numTokens"]
    # The head moves, and covers much of the picture: it is no background that is compared.
    assert min(decibels(a, b) for a, b in zip(driven.pictures, driven.pictures[1:])) < 45
    worst = min(decibels(a, b) for a, b in zip(driven.drawn, driven.pictures))
    assert worst > LEAST_DECIBELS


def test_features_are_those_of_python(coded):
    wanted = raw_rows(coded.talker, SAMPLES).ravel()
    error = np.linalg.norm(coded.rows[: len(wanted)] - wanted) / np.linalg.norm(wanted)
    assert error < FEATURE_TOLERANCE


def test_relaxed_instructions_give_the_same(tmp_path):
    driven = Driven(tmp_path, description(), relaxed=True)
    worst = min(decibels(a, b) for a, b in zip(driven.drawn, driven.pictures))
    assert worst > LEAST_DECIBELS


def test_eight_bits_are_enough(tmp_path):
    driven = Driven(tmp_path, description(), precision="int8")
    wanted = raw_rows(driven.talker, SAMPLES).ravel()
    error = np.linalg.norm(driven.rows[: len(wanted)] - wanted) / np.linalg.norm(wanted)
    assert 1e-4 < error < 0.05
    assert min(decibels(a, b) for a, b in zip(driven.drawn, driven.pictures)) > 40


def test_motion_is_that_of_python(coded):
    places = np.arange(len(coded.pictures))
    first, last = 0, 2
    assert coded.told["frames"] == (first + ping_pong(places, last - first + 1)).tolist()
    blinks = generate_blinks(len(places))
    np.testing.assert_allclose(coded.told["closures"], blinks, atol=1e-3)


def test_generated_blinks_agree_over_minutes(tmp_path):
    places = list(range(0, 5000, 3))
    write_talker(tmp_path / "tiny.talker", description())
    (tmp_path / "talker.gtweb").write_bytes(
        pack_for_web(tmp_path / "tiny.talker", "int8", 10.0).data
    )
    SAMPLES[:640].tofile(tmp_path / "samples.f32")
    np.zeros(0, np.uint8).tofile(tmp_path / "behind.u8")
    told = run_node(tmp_path, task="drive", frames=[], places=places, turn=None, blink=True)
    np.testing.assert_allclose(told["closures"], generate_blinks(5000)[::3], atol=2e-3)


def test_a_turn_stays_within_the_track(coded, tmp_path):
    """Frames 0 to 2 look -0.1, 0 and 0.1 radians to the side, so 90 degrees become 0.1 radians."""
    driven = Driven(tmp_path, description(), turn={"yaw": 90})
    low, high = driven.told["range"]["yaw"]
    assert high == pytest.approx(np.degrees(0.1), abs=0.01)
    assert low == pytest.approx(-np.degrees(0.1), abs=0.01)
    # What looks to that side already stays; the others turn.
    seen = [decibels(a, b) for a, b in zip(driven.drawn, coded.drawn)]
    frames = np.array(coded.told["frames"])
    yaws = frames if high_is_last(coded) else 2 - frames
    assert all(value > 60 for value, yaw in zip(seen, yaws) if yaw == 2)
    assert all(value < 50 for value, yaw in zip(seen, yaws) if yaw == 0)


def high_is_last(driven: Driven) -> bool:
    """Whether the last frame of the track looks to the right of the picture."""
    pose = driven.talker.checkpoint.model.bank.poses[2]
    return bool(pose[0, 2] > 0)


def test_a_microphone_waits_for_less(tmp_path):
    driven = Driven(tmp_path, description(), live=True)
    assert driven.told["numTokens"] == len(driven.pictures)


@pytest.mark.parametrize("rate", [48_000, 44_100, 22_050, 8_000])
def test_streams_are_resampled_without_gaps(rate, tmp_path):
    times = np.arange(rate) / rate
    tone = np.sin(2 * np.pi * 440 * times) + 0.3 * np.sin(2 * np.pi * 3000 * times)
    tone.astype(np.float32).tofile(tmp_path / "samples.f32")
    run_node(tmp_path, task="resample", rate=rate)
    found = np.fromfile(tmp_path / "resampled.f32", np.float32)
    at = np.arange(len(found)) / 16_000
    wanted = np.sin(2 * np.pi * 440 * at) + 0.3 * np.sin(2 * np.pi * 3000 * at)
    assert abs(len(found) - 16_000) < 64
    np.testing.assert_allclose(found[100:-100], wanted[100:-100], atol=0.01)


def test_rates_above_half_are_cut_off(tmp_path):
    times = np.arange(48_000) / 48_000
    np.sin(2 * np.pi * 12_000 * times).astype(np.float32).tofile(tmp_path / "samples.f32")
    run_node(tmp_path, task="resample", rate=48_000)
    found = np.fromfile(tmp_path / "resampled.f32", np.float32)
    assert np.abs(found[100:-100]).max() < 0.01


def test_sounds_are_levelled_and_mixed_as_in_python(tmp_path):
    quiet = (0.05 * SAMPLES).astype(np.float32)
    quiet.tofile(tmp_path / "samples.f32")
    wave = np.sin(np.arange(64)).tolist()
    told = run_node(tmp_path, task="levels", channels=[wave, [-value for value in wave]])
    assert told["gain"] == pytest.approx(speech_gain(quiet), rel=1e-5)
    # Channels of opposite phase: one of them.
    np.testing.assert_allclose(told["mixed"], wave, atol=1e-6)
    told = run_node(tmp_path, task="levels", channels=[wave, wave, [0.0] * 64])
    np.testing.assert_allclose(told["mixed"], np.array(wave) * 2 / 3, atol=1e-6)


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"PK\x03\x04 a talker file", "no packed talker"), (b"", "no packed talker")],
)
def test_other_files_are_refused(data, said, tmp_path):
    (tmp_path / "talker.gtweb").write_bytes(data)
    assert said in run_node(tmp_path, task="refuse")["message"]


def test_a_cut_file_is_refused(tmp_path):
    path = write_talker(tmp_path / "tiny.talker", description())
    data = pack_for_web(path, "int8", 10.0).data
    (tmp_path / "talker.gtweb").write_bytes(data[: len(data) - 1200])
    assert "was cut" in run_node(tmp_path, task="refuse")["message"]
