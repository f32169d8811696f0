"""Exported pages in Chromium: opened from the disk, spoken to, and given what cannot be read."""

import base64
import functools
import http.server
import shutil
import threading
import time
import wave
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from web_talkers import decibels, description, speech_like, write_talker

from gaussiantalker_ns.inference.talker import Talker
from gaussiantalker_ns.inference.talker_file.reader import read_talker
from gaussiantalker_ns.web.export import ExportOptions, export

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PATIENCE_S = 120
SAMPLES = speech_like(16_000)

ARGUMENTS = [
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader", "--autoplay-policy=no-user-gesture-required",
]  # fmt: skip

PICTURES = """async ([sound, count]) => {
  const bytes = Uint8Array.from(atob(sound), c => c.charCodeAt(0));
  const t = await talker;
  t.tick = () => {};
  await t.calls.ask("speak", { samples: new Float32Array(bytes.buffer) });
  while (t.ready < count) await new Promise(done => setTimeout(done, 20));
  const found = [];
  for (let index = 0; index < count; index++) {
    const { data } = await t.picture({ index, place: index });
    found.push(btoa(String.fromCharCode(...data)));
  }
  return found;
}"""


@pytest.fixture(scope="module")
def talker(tmp_path_factory) -> Path:
    """A tiny talker whose owner writes markup."""
    folder = tmp_path_factory.mktemp("talker")
    said = description(consent={"statement": "<img src=x onerror=alert(1)> yes"})
    return write_talker(folder / "tiny.talker", said)


@pytest.fixture(scope="module")
def page_file(talker, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "tiny.html"
    sound = path.with_suffix(".wav")
    sound.write_bytes(wav(SAMPLES))
    export(talker, path, ExportOptions(precision="float32", audio=sound))
    return path


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=ARGUMENTS
        )
        yield browser
        browser.close()


class Opened:
    """A page that has got ready, with what it asked for and complained about."""

    def __init__(self, browser, address: str) -> None:
        self.page = browser.new_page()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)
        self.wait("document.getElementById('stage').dataset.ready === 'true'")

    def wait(self, condition: str) -> None:
        """Wait without a string that is evaluated in the page, which its policy forbids."""
        end = time.monotonic() + PATIENCE_S
        while not self.page.evaluate(condition):
            assert time.monotonic() < end, (condition, self.page.inner_text("#status"))
            time.sleep(0.1)

    def give(self, data: str) -> str:
        """Speak a Blob of the page, and return what it says then."""
        return self.page.evaluate(
            f"async () => {{ try {{ await (await talker).speak({data}); return 'spoken'; }}"
            " catch (error) { return error.message; } }"
        )


def wav(samples: np.ndarray) -> bytes:
    """Samples at 16 kHz as a file of 16 bits."""
    buffer = BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


@pytest.fixture
def opened(chromium, page_file):
    found = Opened(chromium, page_file.as_uri() + "?renderer=wasm")
    yield found
    found.page.close()


@pytest.mark.parametrize("renderer", ["wasm", "webgl2"])
def test_frames_are_those_of_python(chromium, page_file, talker, renderer):
    found = Opened(chromium, f"{page_file.as_uri()}?renderer={renderer}")
    sound = base64.b64encode(SAMPLES.tobytes()).decode()
    texts = found.page.evaluate(PICTURES, [sound, 6])
    pictures = np.stack(
        [np.frombuffer(base64.b64decode(t), np.uint8).reshape(32, 32, 4)[..., :3] for t in texts]
    )
    wanted = np.stack(
        [frame for frame, _ in zip(Talker(read_talker(talker)).render(SAMPLES), texts)]
    )
    # The label of synthetic pictures lies over the lowest rows.
    worst = min(decibels(a[:18], b[:18]) for a, b in zip(pictures, wanted))
    assert worst > 45
    assert decibels(pictures[:, 20:], wanted[:, 20:]) < 30
    found.page.close()


def test_a_page_asks_for_nothing_and_tells_its_origin(opened, page_file):
    kept = [url for url in opened.requests if not url.startswith(("blob:", "data:"))]
    assert kept == [page_file.as_uri() + "?renderer=wasm"]
    table = opened.page.evaluate("document.getElementById('about').textContent")
    # What an owner writes is text.
    assert "<img src=x onerror=alert(1)> yes" in table and "0" * 64 in table
    licences = opened.page.evaluate("document.getElementById('licences').textContent")
    assert "OpenAI" in licences and "Apache License" in licences
    assert opened.errors == []


def test_the_button_speaks_and_ends(opened):
    opened.page.click("#play")
    opened.wait("document.getElementById('stage').dataset.state === 'speaking'")
    opened.wait("document.getElementById('stage').dataset.state === 'idle'")
    assert opened.page.inner_text("#status") == "Ready."
    assert opened.errors == []


def test_speech_is_shown_in_step(opened):
    # On a busy machine the head falls behind for some time before it shows a frame.
    sound = base64.b64encode(wav(np.tile(SAMPLES, 5))).decode()
    told = opened.page.evaluate(
        "async text => (await talker).speak("
        "Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer)",
        sound,
    )
    assert told["frames"] == 125 and 0 < told["shown"] <= 125


def test_sounds_that_cannot_be_read(opened):
    assert "cannot be read as sound" in opened.give("new Blob(['RIFF and nothing'])")
    assert "cannot be read as sound" in opened.give("new Blob([])")
    header = wav(np.zeros(2, np.float32))[:44]
    two_hours = 2 * 3600 * 8000
    head = bytearray(header)
    head[4:8], head[40:44] = (n.to_bytes(4, "little") for n in (two_hours + 36, two_hours))
    head[24:28], head[28:32] = (8000).to_bytes(4, "little"), (8000).to_bytes(4, "little")
    head[32:34], head[34:36] = (1).to_bytes(2, "little"), (8).to_bytes(2, "little")
    blob = f"new Blob([new Uint8Array({list(head)}), new Uint8Array({two_hours})])"
    assert "120 minutes long" in opened.give(blob)
    # It goes on after all that.
    assert opened.give(f"new Blob([new Uint8Array({list(wav(SAMPLES[:4000]))})])") == "spoken"


def test_a_refused_microphone_is_told(opened):
    opened.page.click("#microphone")
    opened.wait("document.getElementById('status').classList.contains('error')")
    assert "microphone" in opened.page.inner_text("#status").lower()
    assert opened.page.evaluate("talker.then(t => t.state)") == "idle"


def test_a_folder_is_a_module_for_other_pages(chromium, talker, tmp_path):
    export(talker, tmp_path / "site", ExportOptions(format="folder"))
    (tmp_path / "site" / "own.html").write_text(
        '<canvas id="c"></canvas><figure id="stage"></figure><p id="status"></p>'
        '<script type="module">import { load } from "./talker.mjs";'
        'window.talker = load("talker.gtweb"); const t = await window.talker;'
        "window.told = await t.attach(document.getElementById('c'), { size: 64 });"
        "t.pose({ yaw: 3 }); document.getElementById('stage').dataset.ready = 'true';</script>"
    )
    handler = functools.partial(QuietHandler, directory=str(tmp_path / "site"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        own = Opened(chromium, f"{address}/own.html")
        assert own.page.evaluate("told.size") == 64 and own.errors == []
        own.page.close()
        example = Opened(chromium, f"{address}/index.html?renderer=wasm")
        assert example.errors == []
        example.page.close()
    finally:
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""
