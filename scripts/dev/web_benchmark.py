"""Measure an exported page in Chromium: start, frames against Python, a spoken file, a microphone.

Run `python -m gaussiantalker_ns.scripts.dev.web_benchmark [--talker me.talker] [--precision int8]`
with nothing else running; it needs Playwright and a `chromium` on the PATH. Software stands for the
GPU (SwiftShader), so that times with `webgl2` say nothing about one.
"""

import base64
import json
import shutil
import sys
import tempfile
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import tyro

from gaussiantalker_ns.assets import asset_path
from gaussiantalker_ns.audio.read import read_audio
from gaussiantalker_ns.inference.frame_renderer import FrameRenderer
from gaussiantalker_ns.inference.motion import MotionConfig
from gaussiantalker_ns.inference.scene import Scene
from gaussiantalker_ns.inference.talker import Talker
from gaussiantalker_ns.web.export import ExportOptions, export

NUM_FRAMES, STEP = 20, 4
"""Frames that are compared, and how far they lie apart."""

MARK_PARTS = 0.1, 0.5
"""Part of height and width of the lower left corner in which the label may lie."""

ARGUMENTS = (
    "--no-sandbox --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --autoplay-policy=no-user-gesture-required"
    " --use-fake-ui-for-media-stream --use-fake-device-for-media-stream"
)

GPU_ARGUMENTS = {
    "wasm": ("--disable-gpu",),
    "webgl2": ("--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
}

COMPARE = """async ([sound, count, step]) => {
  const bytes = Uint8Array.from(atob(sound), c => c.charCodeAt(0));
  const t = await talker;
  t.tick = () => {};
  await t.calls.ask("speak", { samples: new Float32Array(bytes.buffer) });
  while (t.ready < count * step) await new Promise(done => setTimeout(done, 20));
  const found = [];
  for (let k = 0; k < count; k++) {
    const { data } = await t.picture({ index: k * step, place: k * step });
    let text = "";
    for (let at = 0; at < data.length; at += 8192) {
      text += String.fromCharCode(...data.subarray(at, at + 8192));
    }
    found.push(btoa(text));
  }
  return found;
}"""

SPEAK = """async (sound) => {
  const t = await talker;
  return t.speak(Uint8Array.from(atob(sound), c => c.charCodeAt(0)).buffer);
}"""

LISTEN = """async (seconds) => {
  const t = await talker;
  const delays = [];
  t.addEventListener("drawn", ({ detail }) => {
    if (detail.delay !== undefined) delays.push(detail.delay);
  });
  await t.listen();
  await new Promise(done => setTimeout(done, 1000 * seconds));
  t.stop();
  return delays;
}"""


@dataclass
class Config:
    """Measure an exported page in Chromium."""

    talker: Path | None = None
    """The talker file; the sample by default."""
    precision: Literal["int8", "float16", "float32"] = "int8"
    """How exactly numbers are kept."""
    renderer: Literal["wasm", "webgl2"] = "wasm"
    """What paints."""
    seconds: float = 8.0
    """How long the microphone is listened to; 0 leaves it out, and the spoken file with it."""
    screenshot: Path | None = None
    """Where a picture of the page goes."""


def rendered(talker: Talker, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Python's frames, and where the head covers more than half of a pixel."""
    covered: list[np.ndarray] = []
    compose = FrameRenderer._compose

    def watched(self: Any, head: Any, box: Any, frames: Any) -> Any:
        x0, y0, x1, y1 = box
        for alpha in head.alpha:
            whole = np.zeros((self.size, self.size), np.float32)
            whole[y0:y1, x0:x1] = alpha[..., 0].numpy()
            covered.append(whole > 0.5)
        return compose(self, head, box, frames)

    FrameRenderer._compose = watched
    try:
        wanted = range(NUM_FRAMES * STEP)
        frames = [f for f, _ in zip(talker.render(samples, MotionConfig(), Scene()), wanted)]
    finally:
        FrameRenderer._compose = compose
    return np.stack(frames[::STEP]), np.stack(covered[: len(frames)][::STEP])


def decibels(error: np.ndarray) -> float:
    """PSNR of errors of bytes."""
    return 10 * float(np.log10(255**2 / max(float(np.mean(error**2)), 1e-9)))


def compare(drawn: np.ndarray, wanted: np.ndarray, covered: np.ndarray) -> dict[str, list[float]]:
    """Worst and mean PSNR of whole frames and heads, the label left out."""
    size = drawn.shape[1]
    seen = np.ones((size, size), bool)
    seen[round(size * (1 - MARK_PARTS[0])) :, : round(size * MARK_PARTS[1])] = False
    errors = drawn.astype(np.float64) - wanted
    whole = [decibels(error[seen]) for error in errors]
    heads = [decibels(error[seen & head]) for error, head in zip(errors, covered)]
    parts = (("whole frame", whole), ("head", heads))
    return {name: [round(min(v), 2), round(float(np.mean(v)), 2)] for name, v in parts}


@contextmanager
def opened(page_file: Path, config: Config, microphone: Path) -> Iterator[tuple[Any, list[str]]]:
    """A page that is being loaded, and the addresses that it asks for."""
    from playwright.sync_api import sync_playwright

    arguments = [*ARGUMENTS.split(), *GPU_ARGUMENTS[config.renderer]]
    arguments.append(f"--use-file-for-fake-audio-capture={microphone}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=arguments
        )
        page, requests = browser.new_page(), []
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: print("error:", error, file=sys.stderr))
        page.goto(f"{page_file.as_uri()}?renderer={config.renderer}")
        yield page, requests
        browser.close()


def wait_until_ready(page: Any) -> float:
    """Milliseconds from the beginning of the navigation until the page can be used."""
    while not page.evaluate("document.getElementById('stage').dataset.ready ?? ''"):
        time.sleep(0.02)
    return float(page.evaluate("performance.now()"))


def browser_seconds() -> float:
    """Seconds of CPU that the browser has taken, with its windows and its painting."""
    children = psutil.Process().children(recursive=True)
    return sum(sum(c.cpu_times()[:2]) for c in children if "chrom" in c.name())


def slow_copy(samples: np.ndarray, path: Path) -> Path:
    """The sound as a microphone of 48 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 48_000, 0, "NONE", ""))
        file.writeframes((np.repeat(samples, 3) * 32767).astype("<i2").tobytes())
    return path


def measure(config: Config, folder: Path) -> dict[str, Any]:
    """Export the page and use it."""
    sound = asset_path("sample/speech.wav")
    samples = read_audio(sound)
    options = ExportOptions(precision=config.precision)
    written = export(config.talker, folder / "talker.html", options)
    wanted, covered = rendered(Talker.load(config.talker), samples)
    size = wanted.shape[1]
    found: dict[str, Any] = {"MB": round(written.num_bytes / 1e6, 2)}
    microphone = slow_copy(samples, folder / "microphone.wav")
    with opened(written.path, config, microphone) as (page, requests):
        found["ready, ms"] = round(wait_until_ready(page))
        if config.seconds:
            before = browser_seconds()
            spoken = page.evaluate(SPEAK, base64.b64encode(sound.read_bytes()).decode())
            taken = 1000 * (browser_seconds() - before) / spoken["frames"]
            found["spoken"] = spoken
            found["CPU of all processes of the browser, ms a frame"] = round(taken, 1)
            delays = page.evaluate(LISTEN, config.seconds)
            found["microphone frames"] = len(delays)
            found["frame heard to drawn, ms"] = [
                round(float(np.percentile(delays, part))) for part in (50, 95)
            ]
        if config.screenshot is not None:
            page.screenshot(path=str(config.screenshot))
        text = base64.b64encode(samples.astype("<f4").tobytes()).decode()
        pictures = page.evaluate(COMPARE, [text, NUM_FRAMES, STEP])
        drawn = [np.frombuffer(base64.b64decode(p), np.uint8) for p in pictures]
        shape = (NUM_FRAMES, size, size, 4)
        found.update(compare(np.stack(drawn).reshape(shape)[..., :3], wanted, covered))
        kept = [url for url in requests if not url.startswith(("blob:", "data:"))]
        found["requests beside the page"] = len(kept) - 1
    return found


def main(config: Config) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(config, Path(folder)), indent=1))


if __name__ == "__main__":
    main(tyro.cli(Config))
