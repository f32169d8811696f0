"""The studio's page in a real browser: a fake camera, a reload, a killed server.

`scripts/dev/studio_check.py` walks the same way with the real commands, which takes minutes.
"""

import json
import sys
import time
from pathlib import Path

import cv2
import pytest
import studio_commands
import studio_server

from gaussiantalker_ns.assets import asset_path
from gaussiantalker_ns.scripts.dev import studio_check
from gaussiantalker_ns.scripts.dev.studio_check import (
    Server,
    Walk,
    browser_page,
    free_port,
    write_fake_devices,
)
from gaussiantalker_ns.video.reader import ConstantFpsReader

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PATIENCE_MS = 300_000  # Machines of continuous integration may be busy.
ROOT = Path(__file__).parents[1]


class FakedWalk(Walk):
    """The walk, which holds the stand-ins while something happens in the middle of their work."""

    control: Path

    def shoot(self, name):
        if name in ("4-recorded", "7-report"):
            (self.control / "hold").touch()
        if name in ("6-killed-server", "9-stopped"):
            (self.control / "hold").unlink()


@pytest.fixture(scope="module")
def devices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("camera")
    return write_fake_devices(folder, asset_path("sample/presenter.mp4"), 4.0)


def test_from_the_camera_to_a_video(tmp_path, devices, monkeypatch):
    monkeypatch.setattr(studio_check, "PLAYS", "document.querySelector('.spoken video').src")
    control = tmp_path / "control"
    control.mkdir()
    environment = {
        studio_commands.CONTROL: str(control),
        "FAKE_STUDIO_TALKER": str(asset_path("sample/presenter.talker")),
        "PYTHONPATH": str(ROOT),
    }
    library, port = tmp_path / "library", free_port()
    command = [sys.executable, studio_server.__file__, str(library), str(port)]
    server = Server(command, port, environment)
    server.start()
    try:
        with browser_page(devices) as page:
            page.set_default_timeout(PATIENCE_MS)
            walk = FakedWalk(page, server, 4.0, studio_server.TITLE)
            walk.control = control
            walk.go()
            assert page.get_by_role("heading", name="Studio").is_visible()
            assert page.locator("main b").count() == 0, "a name is text, never markup"
    finally:
        server.end()
    calls = [json.loads(line) for line in (control / "calls.jsonl").read_text().splitlines()]
    programs = [call[0] if call[0] == "ns-train" else call[1] for call in calls]
    assert programs == ["process", "ns-train", "ns-train", "pack", "drive"]
    (recording,) = (library / "studio" / "projects").glob("*/recording.webm")
    reader = ConstantFpsReader(recording)
    frames = [frame.to_ndarray(format="rgb24") for _, frame in reader.frames()]
    assert len(frames) > 25 and frames[-1].std() > 20
    assert cv2.absdiff(frames[5], frames[-1]).mean() > 0.05, "the camera moves"


def test_an_interrupted_recording_is_offered_again(tmp_path, devices):
    """The page is closed while it records; what had arrived is used."""
    control = tmp_path / "control"
    control.mkdir()
    environment = {studio_commands.CONTROL: str(control), "PYTHONPATH": str(ROOT)}
    library, port = tmp_path / "library", free_port()
    command = [sys.executable, studio_server.__file__, str(library), str(port)]
    server = Server(command, port, environment)
    server.start()
    try:
        with browser_page(devices) as page:
            page.set_default_timeout(PATIENCE_MS)
            page.goto(server.address)
            walk = Walk(page, server, 2.0, studio_server.TITLE, say=lambda what: None)
            walk.consent()
            walk.press("Turn on camera and microphone")
            walk.press("Start recording")
            page.get_by_text("MB are safe").wait_for()
            time.sleep(3)
            page.reload()
            page.get_by_text("A recording was interrupted").wait_for()
            walk.press("Use what is there")
            page.get_by_role("button", name="Start the training").wait_for()
    finally:
        server.end()
