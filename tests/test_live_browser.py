"""The page with the head in a real browser: Chromium without a window, driven by playwright.

With `GAUSSIANTALKER_LIVE_SCREENSHOTS` naming a folder, pictures of the page are written there.
"""

import os
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from live_servers import serving
from playwright.sync_api import expect, sync_playwright

from gaussiantalker_ns.audio.read import write_wav
from gaussiantalker_ns.live.settings import ServerSettings
from gaussiantalker_ns.scripts.dev.live_benchmark import BROWSER_OPTIONS

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SIZES = {"desktop": (1280, 800), "telephone": (390, 844)}

DECODED = """
async () => {
  let decoded = 0;
  (await window.gaussiantalker.session().connection.getStats()).forEach((report) => {
    if (report.type === "inbound-rtp" && report.kind === "video") decoded = report.framesDecoded;
  });
  return decoded;
}
"""

PLAY = """
async (address) => {
  const video = document.createElement("video");
  video.muted = true;
  const source = new MediaSource();
  video.src = URL.createObjectURL(source);
  document.body.append(video);
  await new Promise((resolve) => source.addEventListener("sourceopen", resolve, { once: true }));
  const socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  let buffer = null;
  const waiting = [];
  const feed = () => {
    if (buffer && !buffer.updating && waiting.length) buffer.appendBuffer(waiting.shift());
  };
  socket.onmessage = ({ data }) => {
    if (typeof data === "string") {
      buffer = source.addSourceBuffer(JSON.parse(data).mime);
      buffer.addEventListener("updateend", feed);
    } else waiting.push(data);
    feed();
  };
  await video.play();
  await new Promise((resolve) => {
    const timer = setInterval(() => {
      if (video.currentTime > 1 || video.error) resolve(clearInterval(timer));
    }, 50);
    setTimeout(resolve, 20000);
  });
  socket.close();
  const error = video.error && video.error.message;
  return { time: video.currentTime, width: video.videoWidth, error };
}
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    settings = ServerSettings(library=tmp_path_factory.mktemp("library"), max_sessions=3)
    with serving(settings) as (address, _):
        yield address


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=list(BROWSER_OPTIONS)
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser, base):
    context = browser.new_context(permissions=["microphone"])
    page = context.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: said.type == "error" and errors.append(said.text))
    page.goto(base)
    page.wait_for_function("document.getElementById('talker').options.length > 0")
    yield page
    context.close()
    assert errors == []


def test_the_head_is_seen_and_hears(page, base, tmp_path):
    """Over WebRTC: pictures come, the microphone is heard, a file is spoken, the session ends."""
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("button", name="Microphone")).to_be_enabled(timeout=30_000)
    page.wait_for_function(f"async () => await ({DECODED})() > 20", timeout=30_000)
    # Decoded pictures wait for their sound before they are shown.
    page.wait_for_function(
        "() => document.getElementById('head').videoWidth === 256", timeout=30_000
    )
    page.get_by_role("button", name="Microphone").click()
    expect(page.locator("#microphone[aria-pressed=true]")).to_be_visible(timeout=15_000)
    session = page.evaluate("() => window.gaussiantalker.session().id")
    state = f"fetch('/sessions/{session}').then((answer) => answer.json())"
    page.wait_for_function(f"async () => (await {state}).microphone", timeout=15_000)
    write_wav(tmp_path / "speech.wav", np.zeros(16_000 * 3, np.float32))
    page.get_by_label("Recording to speak").set_input_files(tmp_path / "speech.wav")
    expect(page.get_by_role("status")).to_have_text("Speaking speech.wav.", timeout=15_000)
    page.get_by_role("button", name="Stop speaking").click()
    expect(page.get_by_role("status")).to_have_text("It stopped speaking.")
    page.get_by_role("button", name="End session").click()
    expect(page.get_by_role("button", name="Start")).to_be_visible()
    # The page does not wait for the server's answer.
    ends = time.monotonic() + 10
    while httpx.get(f"{base}/sessions/{session}").status_code != 404 and time.monotonic() < ends:
        page.wait_for_timeout(50)
    assert httpx.get(f"{base}/sessions/{session}").status_code == 404


def test_the_media_socket_plays_in_a_media_source(page, base):
    session = page.evaluate("async () => (await fetch('/sessions', {method: 'POST'})).json()")["id"]
    address = f"ws{base.removeprefix('http')}/sessions/{session}/media"
    played = page.evaluate(PLAY, address)
    assert played["error"] is None and played["time"] > 1 and played["width"] == 256
    page.evaluate(f"() => fetch('/sessions/{session}', {{method: 'DELETE'}})")


def test_everything_has_a_name_and_is_reached_by_keys(page):
    names = page.evaluate(
        """() => [...document.querySelectorAll('button, select, textarea, input, video')].map(
          (node) => node.getAttribute('aria-label') || node.labels?.[0]?.textContent
            || node.textContent)"""
    )
    assert len(names) >= 9 and all(name.strip() for name in names)
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("() => document.activeElement.id"))
    assert "start" in reached and "talker" in reached
    page.get_by_role("button", name="Start").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Microphone")).to_be_focused(timeout=30_000)
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.locator("#mute[aria-pressed=true]")).to_be_visible()
    page.get_by_role("button", name="End session").press("Enter")
    expect(page.get_by_role("button", name="Start")).to_be_visible()


@pytest.mark.parametrize("name", SIZES)
def test_the_page_fits_the_screen(page, name):
    width, height = SIZES[name]
    page.set_viewport_size({"width": width, "height": height})
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("button", name="Microphone")).to_be_enabled(timeout=30_000)
    page.wait_for_function(f"async () => await ({DECODED})() > 20", timeout=30_000)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    small = page.evaluate(
        """() => [...document.querySelectorAll('button, select, textarea')].filter((node) =>
          !node.hidden && node.getBoundingClientRect().height < 40).map((node) => node.id)"""
    )
    assert small == []
    folder = os.environ.get("GAUSSIANTALKER_LIVE_SCREENSHOTS")
    if folder:
        page.wait_for_timeout(500)
        page.screenshot(path=str(Path(folder) / f"live-{name}.png"))
    page.get_by_role("button", name="End session").click()
    expect(page.get_by_role("button", name="Start")).to_be_visible()
