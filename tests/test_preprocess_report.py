"""Figures of a recording, the advice drawn from them, and the page that shows both."""

import json
from html.parser import HTMLParser
from typing import Any

import cv2
import numpy as np
import pytest

from gaussiantalker_ns.preprocess.report.clip_quality import (
    AudioLevels,
    FaceLooks,
    edge_width,
    measure_audio,
)
from gaussiantalker_ns.preprocess.report.page import Figures, page, quality_rows
from gaussiantalker_ns.preprocess.report.warnings import Finding, find_warnings, list_spans


def good_talker() -> dict[str, Any]:
    return {
        "schema": 1,
        "fps": 25,
        "num_frames": 3000,
        "size": [512, 512],
        "source": {
            "name": "me.mp4",
            "take": [0, 2999],
            "crop": [10, 20, 700],
            "source_size": [1280, 720],
            "source_fps": 30.0,
            "notices": [],
        },
        "tracking": {
            "face_side_px": 260.0,
            "yaw_range_deg": 15.0,
            "pitch_range_deg": 9.0,
            "roll_range_deg": 5.0,
            "largest_turn_deg": 20.0,
            "rigid_reprojection_px": 0.6,
            "reprojection_px": 0.3,
            "held_out_flow_px": 0.28,
            "rotation_jitter_deg": 0.3,
            "focal_px": 1000.0,
        },
        "background": {"seen": 0.6, "motion": 1.0, "plates": 1},
        "segmenter": "builtin",
        "audio": {"whisper": {"file": "aud_whisper.npy", "shape": [3000, 2, 384]}},
        "av_offset_ms": 10.0,
        "av_offset": {
            "estimate_ms": 10.0,
            "confidence": 0.9,
            "known": True,
            "foreign": False,
            "chance": 1e-9,
            "lip_opening_range": 0.1,
            "lags_ms": [-20, 0, 20],
            "correlations": [0.4, 0.6, 0.5],
        },
        "invalid_frames": [],
        "consent": None,
    }


def good_looks() -> FaceLooks:
    frames = np.arange(0, 3000, 10)
    ones = np.ones(len(frames))
    return FaceLooks(frames, 3.0 * ones, 120.0 * ones, 0.95 * ones)


def good_sound() -> AudioLevels:
    return AudioLevels(np.linspace(-60.0, -15.0, 3000), 0.0)


def topics(talker: dict[str, Any], looks: FaceLooks, sound: AudioLevels) -> list[str]:
    return [warning.topic for warning in find_warnings(talker, looks, sound)]


def test_good_recording_has_no_warnings():
    assert topics(good_talker(), good_looks(), good_sound()) == []


def change(talker: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    *parents, last = path.split(".")
    place = talker
    for key in parents:
        place = place[key]
    place[last] = value
    return talker


@pytest.mark.parametrize(
    ("path", "value", "topic"),
    [
        ("num_frames", 400, "length"),
        ("source.notices", ["Shot cuts before frames 176."], "video"),
        ("source.crop", [0, 0, 200], "resolution"),
        ("invalid_frames", [3, 4, 5, 90], "no-face"),
        ("tracking.face_side_px", 100.0, "small-face"),
        ("tracking.largest_turn_deg", 60.0, "turned"),
        ("tracking.rigid_reprojection_px", 4.0, "tracking"),
        ("tracking.held_out_flow_px", 1.5, "tracking"),
        ("background.motion", 9.0, "background"),
        ("av_offset_ms", -75.0, "offset"),
        ("av_offset.correlations", [0.05, 0.1, 0.02], "lip-sync"),
        ("av_offset.foreign", True, "lip-sync"),
        ("av_offset.lip_opening_range", 0.01, "still-lips"),
    ],
)
def test_each_fault_is_named(path: str, value: Any, topic: str):
    assert topics(change(good_talker(), path, value), good_looks(), good_sound()) == [topic]


def test_an_offset_that_is_not_known_is_said_where_nothing_was_moved():
    talker = change(good_talker(), "av_offset.known", False)
    assert topics(talker, good_looks(), good_sound()) == []
    assert dict(quality_rows(talker))["Sound later than lips by"] == "not known"
    change(talker, "av_offset_ms", 0.0)
    assert topics(talker, good_looks(), good_sound()) == ["offset-unknown"]


def test_still_lips_are_named_once():
    talker = change(good_talker(), "av_offset.lip_opening_range", 0.01)
    change(talker, "av_offset.foreign", True)
    assert topics(talker, good_looks(), good_sound()) == ["still-lips"]


def test_a_data_set_of_the_first_version_can_be_reported():
    talker = good_talker()
    for key in ("known", "foreign", "chance", "lip_opening_range"):
        del talker["av_offset"][key]
    assert topics(talker, good_looks(), good_sound()) == []
    assert dict(quality_rows(talker))["Sound later than lips by"] == "10 ms"


def test_still_head():
    talker = change(good_talker(), "tracking.yaw_range_deg", 1.0)
    talker = change(talker, "tracking.pitch_range_deg", 2.0)
    assert topics(talker, good_looks(), good_sound()) == ["still"]


def test_flow_that_could_not_be_measured():
    talker = change(good_talker(), "tracking.held_out_flow_px", None)
    assert topics(talker, good_looks(), good_sound()) == []


def test_faults_of_the_picture():
    blurred, flicker, covered = good_looks(), good_looks(), good_looks()
    blurred.edge_width[: len(blurred.frames) // 2] = 12.0
    flicker.brightness[::2] = 70.0
    covered.likeness[4:7] = 0.2
    assert topics(good_talker(), blurred, good_sound()) == ["blur"]
    assert topics(good_talker(), flicker, good_sound()) == ["light"]
    warnings = find_warnings(good_talker(), covered, good_sound())
    assert [warning.topic for warning in warnings] == ["covered"]
    assert "frames 40 to 60." in warnings[0].title


def test_faults_of_the_sound():
    talker, looks = good_talker(), good_looks()
    assert topics(talker, looks, AudioLevels(np.full(3000, -90.0), 0.0)) == ["silent"]
    assert topics(talker, looks, AudioLevels(np.linspace(-25, -18, 3000), 0.0)) == ["noise"]
    assert topics(talker, looks, AudioLevels(good_sound().level_db, 0.01)) == ["clipping"]


def test_sound_is_measured_by_frames():
    samples = np.zeros(1280, np.float32)
    samples[640:] = 0.1
    samples[:2] = 1.0
    sound = measure_audio(samples)
    assert sound.level_db[1] == pytest.approx(-20.0, abs=0.01)
    assert sound.clipped == pytest.approx(2 / 1280)


def test_edge_width_follows_blur():
    step = np.zeros((64, 64), np.uint8)
    step[:, 32:] = 200
    sharp = edge_width(step)
    soft = edge_width(cv2.GaussianBlur(step, (0, 0), 4.0))
    assert sharp < 4
    assert 8 < soft < 14


def test_spans():
    assert list_spans([3, 4, 5, 20], 1) == "3 to 5, 20"
    assert list_spans(list(range(0, 100, 10)), 1).endswith("and 2 more")


class Checker(HTMLParser):
    """Collects what a browser would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in {"src", "href"}]


def test_page_is_self_contained_and_escapes_what_users_wrote():
    evil = "<script>alert('x')</script><img src=http://evil>.mp4"
    talker = change(good_talker(), "source.name", evil)
    talker = change(talker, "consent", {"statement": evil})
    uri = "data:image/png;base64,AAAA"
    text = page(talker, [Finding("a", evil, evil)], Figures(uri, uri, uri, uri))
    checker = Checker()
    checker.feed(text)
    assert set(checker.sources) == {uri}
    assert checker.tags.count("script") == 1
    assert "alert('x')</script>" not in text
    embedded = text.split('id="talker">')[1].split("</script>")[0]
    assert json.loads(embedded)["source"]["name"] == evil


def test_page_of_a_good_recording_says_so():
    text = page(good_talker(), [], Figures("", "", "", ""))
    assert "this is a good recording" in text
