"""The live server measured from a browser: rate, microphone to picture, sound against picture.

`python -m gaussiantalker_ns.scripts.dev.live_benchmark --sessions 1` starts a server whose pictures
carry their number and whether their sound is loud, opens the page in Chromium without a window,
with a fake microphone that speaks in bursts, and reads the pictures as they are shown.
"""

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import tyro

BURST_S, PAUSE_S = 0.8, 1.6
"""A burst of speech and the silence after it."""

NUM_BITS, CELL = 16, 8
"""Frame numbers in the pictures: bits as cells of so many pixels."""

LOUD_RMS = 300.0
"""Level of 16-bit samples at which a frame is loud."""

WARM_UP_S = 4.0

BROWSER_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
)

WATCH = """
() => {
  const log = (window.measured = { microphone: [], sound: [], shown: [], apart: [] });
  const { connection, microphone } = window.gaussiantalker.session();
  const context = new AudioContext();
  const meter = (stream, out) => {
    const analyser = context.createAnalyser();
    analyser.fftSize = 256;
    context.createMediaStreamSource(stream).connect(analyser);
    const block = new Float32Array(256);
    setInterval(() => {
      analyser.getFloatTimeDomainData(block);
      out.push([performance.now(), Math.sqrt(block.reduce((sum, x) => sum + x * x, 0) / 256)]);
    }, 5);
  };
  meter(microphone, log.microphone);
  const video = document.getElementById("head");
  meter(video.srcObject, log.sound);
  const cell = 8, bits = 17;
  const canvas = new OffscreenCanvas(256, 16).getContext("2d", { willReadFrequently: true });
  const see = (now, data) => {
    canvas.drawImage(video, 0, 0, 256, 16, 0, 0, 256, 16);
    const pixels = canvas.getImageData(0, 0, 256, 8).data;
    const bit = (index) => pixels[(4 * 256 + cell * index + 4) * 4] > 128;
    let number = 0;
    for (let index = 0; index < bits - 1; index++) if (bit(index)) number |= 1 << index;
    log.shown.push([data.expectedDisplayTime, number, bit(bits - 1) ? 1 : 0]);
    video.requestVideoFrameCallback(see);
  };
  video.requestVideoFrameCallback(see);
  setInterval(async () => {
    const playout = {};
    (await connection.getStats()).forEach((report) => {
      if (report.type === "inbound-rtp") playout[report.kind] = report.estimatedPlayoutTimestamp;
    });
    if (playout.audio && playout.video) log.apart.push(playout.audio - playout.video);
  }, 1000);
}
"""

STATISTICS = """
async () => {
  const found = {};
  (await window.gaussiantalker.session().connection.getStats()).forEach((report) => {
    if (report.type === "inbound-rtp") {
      found[report.kind] = {
        at: performance.now(), decoded: report.framesDecoded, lost: report.packetsLost,
        playout: report.estimatedPlayoutTimestamp, codec: report.decoderImplementation,
        buffer_ms: (1000 * report.jitterBufferDelay) / report.jitterBufferEmittedCount,
      };
    }
  });
  return found;
}
"""


@dataclass
class Config:
    """Measure a live server with a browser on this machine."""

    sessions: int = 1
    """Browsers that use the server at the same time."""
    seconds: float = 50.0
    """How long is measured."""
    talker: Path | None = None
    """Who talks; None takes the presenter."""
    margin_ms: float = 80.0
    """Time for computing that the server leaves."""
    disturb_s: float = 0.0
    """Two programs that take a core each run for so long in the middle."""
    codec: str = "vp8"
    """Video codec."""
    chromium: Path = Path("/usr/bin/chromium")
    """The browser."""


def write_bursts(path: Path) -> None:
    """A recording of bursts of speech between silences, which a fake microphone repeats."""
    from gaussiantalker_ns.assets import asset_path
    from gaussiantalker_ns.audio.read import read_audio, write_wav

    speech = read_audio(asset_path("sample/speech.wav"), 48_000)
    loud = np.convolve(np.abs(speech), np.ones(2400) / 2400, "same")
    start = int(np.argmax(loud > 0.3 * loud.max()))
    burst = speech[start : start + int(BURST_S * 48_000)]
    write_wav(path, np.concatenate([burst, np.zeros(int(PAUSE_S * 48_000), np.float32)]), 48_000)


def serve(port: int, config: Config, log: Path) -> None:
    """In a process of its own: a server whose pictures carry their numbers."""
    import sys

    import uvicorn

    from gaussiantalker_ns.live.app import bound_socket, make_app, server_config
    from gaussiantalker_ns.live.sessions import session as session_module
    from gaussiantalker_ns.live.sessions.intake import (
        RATE_HZ,
        SAMPLES_PER_PICTURE,
        Intake,
    )
    from gaussiantalker_ns.live.sessions.pictures import PictureBuffer
    from gaussiantalker_ns.live.settings import ServerSettings

    intakes: list[Intake] = []
    ready: list[tuple[float, float]] = []

    class ListedIntake(Intake):
        def __init__(self) -> None:
            super().__init__()
            intakes.append(self)

    class StampedPictures(PictureBuffer):
        def __init__(self) -> None:
            super().__init__()
            self._intake = intakes[-1]

        def put(self, number: int, picture: np.ndarray) -> None:
            late = self._intake.position - number * SAMPLES_PER_PICTURE
            ready.append((time.time(), 1000 * late / RATE_HZ))
            sound = self._intake.read(number * SAMPLES_PER_PICTURE, SAMPLES_PER_PICTURE)
            is_loud = np.sqrt(np.mean(sound.astype(np.float64) ** 2)) > LOUD_RMS
            for bit in range(NUM_BITS + 1):
                is_set = number >> bit & 1 if bit < NUM_BITS else is_loud
                picture[:CELL, CELL * bit : CELL * (bit + 1)] = 255 if is_set else 0
            super().put(number, picture)

    session_module.Intake = ListedIntake
    session_module.PictureBuffer = StampedPictures
    settings = ServerSettings(
        port=port,
        library=Path("/nonexistent"),
        talkers=() if config.talker is None else (config.talker,),
        margin_ms=config.margin_ms,
        codec=config.codec,  # pyright: ignore[reportArgumentType]
    )
    sys.setswitchinterval(0.001)
    # Uvicorn ends in good order at SIGTERM, then sends it once more.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with bound_socket(settings) as listener:
        uvicorn.Server(server_config(make_app(settings), settings)).run(sockets=[listener])
    log.write_text(json.dumps(ready))


def onsets(levels: list[list[float]], threshold: float, quiet_ms: float = 700) -> list[float]:
    """Times at which a level rises above a threshold after it was below for long."""
    found, quiet_since = [], None
    for moment, level in levels:
        if level < threshold:
            quiet_since = moment if quiet_since is None else quiet_since
        else:
            if quiet_since is not None and moment - quiet_since > quiet_ms:
                found.append(moment)
            quiet_since = None
    return found


def following(times: list[float], after: float, within_ms: float = 1500) -> float | None:
    """The first time after another one, if it is near enough."""
    return next((t for t in times if 0 <= t - after < within_ms), None)


def summary(name: str, values: list[float]) -> str:
    """Median and range of some values."""
    if not values:
        return f"{name}: none"
    ordered = sorted(values)
    return (
        f"{name}: median {statistics.median(ordered):.0f}, {ordered[0]:.0f} to {ordered[-1]:.0f} ms"
        f" ({len(ordered)} times)"
    )


def report(log: dict[str, Any], before: dict, after: dict, states: list[dict]) -> None:
    """Print what was measured of one browser."""
    video, audio = after["video"], after["audio"]
    seconds = (video["at"] - before["video"]["at"]) / 1000
    decoded = (video["decoded"] - before["video"]["decoded"]) / seconds
    first, last = states
    passed = {name: last[name] - first[name] for name in ("rendered", "repeated", "skipped")}
    print(
        f"decoded {decoded:.1f} pictures/s; new ones made {passed['rendered'] / seconds:.1f}/s,"
        f" repeated {passed['repeated']}, skipped {passed['skipped']};"
        f" lost packets {video['lost']} and {audio['lost']}; cost {last['cost_ms']} ms"
    )
    shown = [[moment, float(loud)] for moment, number, loud in log["shown"] if number]
    microphone, sound = onsets(log["microphone"], 0.01), onsets(log["sound"], 0.01)
    picture = onsets(shown, 0.5)
    to_picture, apart = [], []
    for moment in microphone:
        seen = following(picture, moment)
        heard = following(sound, moment)
        if seen is not None:
            to_picture.append(seen - moment)
        if seen is not None and heard is not None:
            apart.append(seen - heard)
    print(summary("microphone to picture", to_picture))
    print(summary("picture after sound, by onsets", apart))
    print(summary("sound's time stamp after picture's", log["apart"]))
    print(f"browser's buffers: {video['buffer_ms']:.0f} and {audio['buffer_ms']:.0f} ms")


def use_page(browser: Any, base: str) -> Any:
    """Open the page and let the microphone speak."""
    # A small window: software draws it, on the cores that the server needs.
    window = {"width": 400, "height": 400}
    page = browser.new_context(permissions=["microphone"], viewport=window).new_page()
    page.goto(base)
    page.wait_for_function("document.getElementById('talker').options.length > 0")
    page.click("#start")
    page.wait_for_selector("#microphone:enabled")
    page.click("#microphone")
    page.wait_for_selector("#microphone[aria-pressed=true]")
    return page


def measure(config: Config, base: str, wav: Path) -> tuple[float, float]:
    """Drive the browser and print the figures; return when other programs ran."""
    from playwright.sync_api import sync_playwright

    options = [*BROWSER_OPTIONS, f"--use-file-for-fake-audio-capture={wav}"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(config.chromium), args=options)
        pages = [use_page(browser, base) for _ in range(config.sessions)]
        time.sleep(WARM_UP_S)
        ids = [page.evaluate("() => window.gaussiantalker.session().id") for page in pages]
        first = [httpx.get(f"{base}/sessions/{one}").json() for one in ids]
        before = [page.evaluate(STATISTICS) for page in pages]
        for page in pages:
            page.evaluate(WATCH)
        spent = processor_times()
        disturbed = disturb(config)
        report_load(spent, processor_times(), config.seconds)
        after = [page.evaluate(STATISTICS) for page in pages]
        last = [httpx.get(f"{base}/sessions/{one}").json() for one in ids]
        for index, page in enumerate(pages):
            log = json.loads(page.evaluate("() => JSON.stringify(window.measured)"))
            report(log, before[index], after[index], [first[index], last[index]])
        browser.close()
    return disturbed


def processor_times() -> dict[str, float]:
    """Seconds that the server, and all processes of the browser, have taken."""
    found = {"server": 0.0, "browser": 0.0}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            name = "browser" if "chrom" in process.name() else "server"
            found[name] += times.user + times.system
    return found


def report_load(before: dict[str, float], after: dict[str, float], seconds: float) -> None:
    """Print how many cores each took."""
    cores = {name: (after[name] - before[name]) / seconds for name in after}
    print(", ".join(f"{name} {value:.2f} cores" for name, value in cores.items()))


def burn() -> None:
    """Take a core."""
    while True:
        sum(range(10_000))


def disturb(config: Config) -> tuple[float, float]:
    """Let the measured time pass, with other programs in the middle; return when they ran."""
    if config.disturb_s == 0:
        time.sleep(config.seconds)
        return 0.0, 0.0
    time.sleep(max(config.seconds - config.disturb_s, 0) / 2)
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=burn, daemon=True) for _ in range(2)]
    for other in others:
        other.start()
    began = time.time()
    time.sleep(config.disturb_s)
    for other in others:
        other.kill()
    ended = time.time()
    time.sleep(max(config.seconds - config.disturb_s, 0) / 2)
    return began, ended


def report_ready(ready: list[list[float]], began: float, ended: float) -> None:
    """Print how late pictures were ready: all, or before, while and after other programs ran."""
    spans = {"at all": (0.0, time.time())}
    if ended:
        spans = {
            "before": (began - 5, began),
            "meanwhile": (began, ended),
            "in the first second after": (ended, ended + 1),
            "then": (ended + 1, ended + 6),
        }
    for name, (start, end) in spans.items():
        late = sorted(delay for moment, delay in ready if start <= moment < end)
        if late:
            most = late[len(late) * 9 // 10]
            print(
                f"pictures ready {name}: median {statistics.median(late):.0f}, 9 of 10 within"
                f" {most:.0f}, all within {late[-1]:.0f} ms of the beginning of their sound"
            )


def wait_for(server: Any, port: int) -> None:
    """Return when a server answers."""
    while server.is_alive():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as line:
            line.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            if line.recv(100).startswith(b"HTTP/1.1 200"):
                return
        time.sleep(0.2)


def main(config: Config) -> None:
    """Serve, measure, end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    base = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        wav, ready = Path(folder) / "bursts.wav", Path(folder) / "ready.json"
        server = context.Process(target=serve, args=(port, config, ready), daemon=False)
        server.start()
        try:
            write_bursts(wav)
            wait_for(server, port)
            print(f"load average {os.getloadavg()[0]:.1f}, {config.sessions} session(s)")
            began, ended = measure(config, base, wav)
        finally:
            server.terminate()
            server.join()
        report_ready(json.loads(ready.read_text()), began, ended)


if __name__ == "__main__":
    main(tyro.cli(Config))
