"""The studio from recording to video, by a browser alone: fake camera, reload, killed server.

    python scripts/dev/studio_check.py --training quick --screenshots shots

starts `gaussiantalker serve`, records the sample presenter from a fake camera in Chromium, and lets
the real commands make a data set, a talker and a video; needs playwright and a `chromium`. The test
of the browser walks the same way with stand-ins for the commands.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import cv2
import tyro

from gaussiantalker_ns.assets import asset_path
from gaussiantalker_ns.audio.read import read_audio, write_wav

DESKTOP: Any = {"width": 1280, "height": 900}
TELEPHONE: Any = {"width": 390, "height": 844}

CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)

FAKE_RATE_HZ = 48_000

PLAYS = "document.querySelector('.spoken video')?.duration > 0.5"
"""What is true in the page once it has a video with some length."""


@dataclass
class Config:
    """Walk through the studio in a browser without a window."""

    training: str = "quick"
    """Which quality to train."""
    seconds: float = 40.0
    """How long to record."""
    screenshots: Path | None = None
    """Folder for pictures of every step, at the sizes of a desktop and of a telephone."""
    library: Path | None = None
    """Folder of the talkers; by default one that is removed at the end."""


def write_fake_devices(folder: Path, video: Path, seconds: float) -> list[str]:
    """Write a video as Chromium's fake camera and microphone read it; return the options."""
    camera, microphone = folder / "camera.mjpeg", folder / "microphone.wav"
    # Motion JPEG is one picture after the other.
    with av.open(str(video)) as source, camera.open("wb") as output:
        for frame in source.decode(video=0):
            if frame.time is not None and frame.time > seconds:
                break
            done, encoded = cv2.imencode(".jpg", frame.to_ndarray(format="bgr24"))
            assert done, "OpenCV encodes JPEG"
            output.write(encoded.tobytes())
    samples = read_audio(video, FAKE_RATE_HZ)
    write_wav(microphone, samples[: round(seconds * FAKE_RATE_HZ)], FAKE_RATE_HZ)
    return [
        f"--use-file-for-fake-video-capture={camera}",
        f"--use-file-for-fake-audio-capture={microphone}",
    ]


@contextmanager
def browser_page(devices: list[str]) -> Iterator[Any]:
    """A page of Chromium that may use the fake camera; errors in it end the walk."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=[*CHROMIUM_OPTIONS, *devices]
        )
        context = browser.new_context(viewport=DESKTOP)
        context.grant_permissions(["camera", "microphone"])
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        try:
            yield page
        except Exception:
            print(page.locator("body").inner_text())
            raise
        finally:
            browser.close()
    if errors:
        raise RuntimeError(f"The page raised {errors}; expected no error.")


@dataclass
class Server:
    """A studio's server in a process of its own, which can be killed and started again."""

    command: list[str]
    """Starts it at `port`."""
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """The page."""
        return f"http://127.0.0.1:{self.port}/studio/"

    def start(self, patience_s: float = 240.0) -> None:
        """Start it and wait until it listens."""
        self.process = subprocess.Popen(self.command, env={**os.environ, **self.environment})
        deadline = time.monotonic() + patience_s
        while True:
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.command} does not listen at port {self.port}.")
            time.sleep(0.2)

    def end(self, how: int = signal.SIGTERM) -> None:
        """End it; with SIGKILL it has no time for anything."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait()


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@dataclass
class Walk:
    """The way of a user through the pages."""

    page: Any
    server: Server
    seconds: float
    """How long to record."""
    title: str
    """Title of the quality to train."""
    screenshots: Path | None = None
    say: Callable[[str], None] = print

    def press(self, name: str) -> None:
        """Press a button."""
        self.page.get_by_role("button", name=name, exact=True).click()

    def shoot(self, name: str) -> None:
        """Keep pictures of the page in both sizes."""
        self.say(name)
        if self.screenshots is None:
            return
        self.screenshots.mkdir(parents=True, exist_ok=True)
        for kind, size in (("telephone", TELEPHONE), ("desktop", DESKTOP)):
            self.page.set_viewport_size(size)
            self.page.wait_for_timeout(400)
            path = self.screenshots / f"{name}-{kind}.png"
            self.page.screenshot(path=path, full_page=True)

    def go(self) -> None:
        """From consent to a video."""
        self.page.goto(self.server.address)
        self.consent()
        self.record()
        self.process()
        self.train()
        self.speak()

    def consent(self) -> None:
        """Step 1, by the keyboard alone."""
        page = self.page
        page.get_by_role("link", name="Make a talker").focus()
        page.keyboard.press("Enter")
        page.get_by_label("Name of the person").fill("Mara <b>Vale</b>")
        self.shoot("1-consent")
        page.get_by_label("This statement is true.").focus()
        page.keyboard.press("Space")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")

    def record(self) -> None:
        """Step 2."""
        self.press("Turn on camera and microphone")
        self.page.get_by_role("button", name="Start recording").wait_for()
        self.page.wait_for_timeout(1500)
        self.shoot("2-camera")
        self.press("Start recording")
        self.page.get_by_text("Recording 0:0").first.wait_for()
        self.shoot("3-recording")
        self.page.wait_for_timeout(1000 * self.seconds)
        self.press("Stop recording")
        self.page.get_by_role("button", name="Use this recording").wait_for()
        self.shoot("4-recorded")
        self.press("Use this recording")

    def process(self) -> None:
        """Step 3, with a server that is killed in the middle."""
        self.page.get_by_role("button", name="Stop", exact=True).wait_for()
        self.page.wait_for_timeout(3000)
        self.shoot("5-data-set")
        self.server.end(signal.SIGKILL)
        self.page.get_by_text("Connection lost").wait_for()
        self.shoot("6-killed-server")
        self.server.start()
        self.page.get_by_text("Connection lost").wait_for(state="hidden")
        self.page.get_by_role("button", name="Start the training").wait_for()
        self.page.wait_for_timeout(1500)
        self.shoot("7-report")

    def train(self) -> None:
        """Step 4, with a reload in the middle, and stopped and resumed once."""
        page = self.page
        page.get_by_label(self.title).check()
        self.press("Start the training")
        page.get_by_text("Step ").wait_for()
        page.reload()
        page.get_by_role("img", name="A frame that the training").wait_for()
        self.shoot("8-training")
        self.press("Stop")
        page.get_by_text("The training was stopped").first.wait_for()
        self.shoot("9-stopped")
        self.press("Resume")
        page.get_by_role("link", name="Let it speak").wait_for()
        self.shoot("10-ready")

    def speak(self) -> None:
        """Step 5: a text, a recording, and the list."""
        page = self.page
        page.get_by_role("link", name="Let it speak").click()
        page.locator("input[type=file]").set_input_files(asset_path("sample/speech.wav"))
        self.press("Make a video of the recording")
        page.get_by_role("link", name="Download mp4").wait_for()
        page.wait_for_function(PLAYS)
        page.evaluate("document.querySelector('.spoken video').currentTime = 0.4")
        page.wait_for_timeout(800)
        self.shoot("11-video")
        page.get_by_role("link", name="All talkers").click()
        page.get_by_text("Mara <b>Vale</b>").first.wait_for()
        page.wait_for_timeout(800)
        self.shoot("12-talkers")


def main(config: Config) -> None:
    """Walk with the real commands."""
    from gaussiantalker_ns.live.studio.settings import GAUSSIANTALKER, StudioSettings

    begun = time.monotonic()
    title = StudioSettings().training(config.training).title
    with tempfile.TemporaryDirectory(prefix="gaussiantalker-studio-") as folder:
        library = config.library or Path(folder) / "library"
        port = free_port()
        command = [*GAUSSIANTALKER, "serve", f"--port={port}", f"--library={library}"]
        server = Server(command, port)
        devices = write_fake_devices(Path(folder), asset_path("sample/presenter.mp4"), 60.0)
        server.start()
        try:
            with browser_page(devices) as page:
                page.set_default_timeout(3_600_000)
                Walk(
                    page,
                    server,
                    config.seconds,
                    title,
                    config.screenshots,
                    lambda what: print(f"{time.monotonic() - begun:7.1f} s  {what}", flush=True),
                ).go()
        finally:
            server.end()


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config)))
