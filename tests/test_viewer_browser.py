"""The audio timeline in a real browser: Chromium without a window, driven by playwright.

By default a tiny head is trained. With `GAUSSIANTALKER_VIEWER_RUN` naming a run's config.yml, that
head is shown instead, the rate of the pictures must be real-time enough, and with
`GAUSSIANTALKER_VIEWER_SCREENSHOT` the picture of the documentation is written.
"""

import base64
import json
import os
import shutil
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from synthetic_talker import write_wav
from viewer_runs import control_of, served, session_of, train_head

from gaussiantalker_ns.timebase import FPS
from gaussiantalker_ns.viewer import timeline_control
from gaussiantalker_ns.viewer.camera import CameraOffset

pytestmark = [pytest.mark.browser, pytest.mark.slow]

GIVEN_RUN = os.environ.get("GAUSSIANTALKER_VIEWER_RUN")
SCREENSHOT = os.environ.get("GAUSSIANTALKER_VIEWER_SCREENSHOT")
PATIENCE_MS = 60_000  # Machines of continuous integration may be busy.
MOST_FRAMES_APART = 2.0
LEAST_RATE = 12.0
HOSTILE_NAME = "<img src=x onerror=window.hacked=1>{window.hacked=2}`${window.hacked=3}`.wav"
# WebGL is emulated; everything else is put together by the processor, as on machines without a GPU.
FLAGS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-gpu-compositing",
    "--disable-gpu-rasterization",
]

# Copies the picture, as it is on the screen, and the position of the sound at every change.
WATCH = """() => {
  const screen = document.querySelector("#gaussiantalker-screen");
  const audio = document.querySelector("#gaussiantalker-audio");
  window.seen = [];
  new MutationObserver(() => {
    const heard = audio.currentTime;  // Reading the picture takes its time.
    if (window.seen.length < 60) window.seen.push([screen.toDataURL("image/png"), heard]);
  }).observe(screen, { attributes: true, attributeFilter: ["data-frame"] });
}"""


@pytest.fixture(scope="module")
def config_path(tmp_path_factory):
    return Path(GIVEN_RUN) if GIVEN_RUN else train_head(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def viewer(config_path, tmp_path_factory):
    with served(config_path, tmp_path_factory.mktemp("viewer")) as viewer:
        yield viewer


@pytest.fixture(scope="module")
def session(viewer):
    return session_of(viewer)


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=FLAGS, timeout=PATIENCE_MS
        )
        yield browser
        browser.close()


def is_visers_race(stack):
    """Whether viser's bundle was told twice to remove an element, by a race of Nerfstudio's tab."""
    places = [line for line in stack.splitlines() if line.strip().startswith("at ")]
    return "container_id" in stack and bool(places) and "/assets/index-" in places[0]


def test_one_race_of_viser_is_told_from_other_errors():
    message, place = (
        "TypeError: no 'container_id'",
        "    at removeGui (http://h/assets/index-B.js:1:2)",
    )
    assert is_visers_race(f"{message}\n{place}")
    assert not is_visers_race(f"TypeError: another one\n{place}")
    assert not is_visers_race(f"{message}\n    at picture (<anonymous>:12:3)\n{place}")
    assert not is_visers_race(message)


def visit(chromium, viewer):
    page = chromium.new_page(viewport={"width": 1100, "height": 760})
    page.set_default_timeout(PATIENCE_MS)
    errors = []
    page.on("pageerror", lambda error: is_visers_race(error.stack) or errors.append(error.stack))
    page.goto(f"http://127.0.0.1:{viewer.viser_server.get_port()}")
    page.wait_for_function("window.gaussianTalker?.state.track?.mouth.length > 0")
    page.wait_for_function("document.querySelector('#gaussiantalker-audio').readyState === 4")
    page.wait_for_function("document.querySelector('#gaussiantalker-plot')?.dataset.frame === '0'")
    return page, errors


@pytest.fixture(scope="module")
def visited(chromium, viewer):
    return visit(chromium, viewer)


@pytest.fixture
def page(visited, session):
    page, errors = visited
    errors.clear()
    session.choose("Training track")
    session.pause()
    session.set_loop(False)
    session.seek(0)
    session.viewer.control_panel._output_render.value = "rgb"
    page.wait_for_function(
        "!gaussianTalker.state.playing && gaussianTalker.state.frame === 0"
        " && document.querySelector('#gaussiantalker-audio').readyState === 4"
    )
    yield page
    assert errors == []


def press(page, name):
    page.get_by_role("button", name=name, exact=True).click()


def state(page):
    return page.evaluate(
        """() => {
          const audio = document.querySelector("#gaussiantalker-audio");
          const { log, counts, state } = gaussianTalker;
          return { seconds: audio.currentTime, paused: audio.paused, muted: audio.muted,
            duration: audio.duration, log, counts, playing: state.playing, track: state.track,
            playhead: Number(document.querySelector("#gaussiantalker-plot").dataset.frame) };
        }"""
    )


def offline_frames(session):
    """All frames of the soundtrack as `ns-render` and `drive` render them: no browser involved."""
    default_camera = CameraOffset(torch.eye(4), session.default_camera.fov)
    return np.stack(
        [session.picture(default_camera, i) for i in range(session.timeline.num_frames)]
    )


def nearest(frames, picture):
    """The offline frame that looks most like a picture of the page."""
    size = frames.shape[1]
    small = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)
    return int(((frames.astype(np.float32) - small) ** 2).mean(axis=(1, 2, 3)).argmin())


def decoded(data_url):
    data = np.frombuffer(base64.b64decode(data_url.split(",", 1)[1]), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


def scene_picture(page):
    """The square in the middle of viser's scene, where a picture that stays is shown."""
    scene = page.evaluate(
        """() => [...document.querySelectorAll("canvas")].find((c) => c.dataset.engine)
            .toDataURL("image/png")"""
    )
    picture = decoded(scene)
    height, width = picture.shape[:2]
    left = (width - height) // 2
    return picture[:, left : left + height]


def wait_until(condition, what):
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.5)


def test_play_moves_playhead_pictures_and_sound_together(page, session):
    frames = offline_frames(session)
    page.evaluate(WATCH)
    session.set_loop(True)
    press(page, "Play")
    page.wait_for_function("gaussianTalker.state.playing")
    page.wait_for_function("gaussianTalker.log.length > 20")
    seen = page.evaluate("window.seen")
    kept = state(page)
    session.set_loop(False)
    press(page, "Pause")
    page.wait_for_function("!gaussianTalker.state.playing")

    assert not kept["paused"] and not kept["muted"], "a click on Play is enough to hear sound"
    assert kept["playhead"] > 0 and kept["seconds"] > 0
    assert state(page)["paused"]
    shown = [nearest(frames, decoded(data)) for data, _ in seen]
    assert len(set(shown)) > 5, "the pictures change"
    length = len(frames)
    apart = [
        (seconds * FPS - frame + length / 2) % length - length / 2
        for frame, (_, seconds) in zip(shown, seen)
    ]
    print(f"sound minus picture, in frames: {min(apart):.2f} to {max(apart):.2f}")
    # Neighbouring frames can look alike, so pixels tell the frame within one.
    assert max(map(abs, apart)) <= MOST_FRAMES_APART + 1
    said = [entry["seconds"] * FPS - entry["frame"] for entry in kept["log"]]
    said = [(value + length / 2) % length - length / 2 for value in said]
    assert max(map(abs, said)) <= MOST_FRAMES_APART


def most_distinct(frames, half):
    """The frame of a half of the clip that differs most from both its neighbours."""
    steps = ((np.diff(frames.astype(np.float32), axis=0)) ** 2).mean(axis=(1, 2, 3))
    distinct = np.minimum(steps[:-1], steps[1:])
    middle = len(distinct) // 2
    part = distinct[:middle] if half == 0 else distinct[middle:]
    return 1 + half * middle + int(part.argmax())


@pytest.mark.parametrize("half", [0, 1])
def test_scrubbing_shows_the_frame_of_that_time(page, session, half):
    frames = offline_frames(session)
    frame = most_distinct(frames, half)  # Others look like their neighbours at the page's size.
    box = page.locator("#gaussiantalker-plot").bounding_box()
    x = box["x"] + (frame + 0.5) / len(frames) * box["width"]
    page.mouse.click(x, box["y"] + 20)
    page.wait_for_function(f"gaussianTalker.state.frame === {frame}")
    assert session.timeline.frame == frame
    found = []

    def shows_it():
        found.append(nearest(frames, scene_picture(page)))
        return found[-1] == frame

    wait_until(shows_it, found)
    assert state(page)["seconds"] == pytest.approx(frame / FPS, abs=0.01)
    shown = "[...document.querySelectorAll('input')].map((input) => input.value)"
    assert str(frame) in page.evaluate(shown), "the slider Frame follows"


def test_a_recording_with_a_hostile_name_becomes_the_soundtrack(page, session, tmp_path):
    write_wav(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(24_000))
    content = (tmp_path / "a.wav").read_bytes()
    upload = page.locator("input[type=file]").first
    upload.set_input_files({"name": HOSTILE_NAME, "mimeType": "audio/wav", "buffer": content})
    page.wait_for_function("gaussianTalker.state.track.label.includes('hacked')")
    page.wait_for_function("document.querySelector('#gaussiantalker-audio').duration === 1.52")
    assert session.track.rows is not None and session.timeline.num_frames == 38
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src=x]").count() == 0
    press(page, "Play")
    page.wait_for_function("gaussianTalker.log.length > 0 && gaussianTalker.state.playing")
    page.wait_for_function("document.querySelector('#gaussiantalker-audio').currentTime > 0.2")
    page.wait_for_function("!gaussianTalker.state.playing")  # It ends by itself.
    assert session.timeline.frame == 37
    assert page.evaluate("window.hacked") is None


def test_files_that_cannot_be_used_get_a_message(page, session, monkeypatch):
    before = session.track
    upload = page.locator("input[type=file]").first
    rubbish = {"name": "notes.txt", "mimeType": "audio/wav", "buffer": b"no sound"}
    upload.set_input_files(rubbish)
    page.get_by_text("notes.txt cannot be read as audio").wait_for()
    page.evaluate("gaussianTalker.state.maxBytes = 5")
    upload.set_input_files(rubbish)
    page.get_by_text("The file has 0 MiB; expected at most 64 MiB").wait_for()
    page.evaluate("gaussianTalker.state.maxBytes = Infinity")
    monkeypatch.setattr(timeline_control, "MAX_UPLOAD_BYTES", 5)
    upload.set_input_files({**rubbish, "name": "liar.wav"})
    page.get_by_text("liar.wav has 0 MiB; expected at most").wait_for()
    assert session.track is before
    press(page, "Play")
    page.wait_for_function("document.querySelector('#gaussiantalker-audio').currentTime > 0.1")


def test_dragging_turns_the_head_while_it_talks(page, session):
    frames = offline_frames(session)
    session.set_loop(True)
    press(page, "Play")
    page.wait_for_function("gaussianTalker.state.playing")
    page.mouse.move(300, 650)  # Below the notices of other tests.
    page.mouse.down()
    page.mouse.move(420, 650, steps=6)
    page.mouse.up()
    client = next(iter(session.viewer.viser_server.get_clients().values()))

    def camera_offset():
        camera = session.viewer.get_camera_state(client)
        return session.default_camera.camera_offset(camera.c2w, camera.fov)

    wait_until(lambda: not camera_offset().is_default, "the camera has moved")
    page.evaluate(WATCH)
    page.wait_for_function("window.seen.length > 3")
    turned = decoded(page.evaluate("window.seen.at(-1)")[0]).astype(np.float32)
    differences = np.abs(frames.astype(np.float32) - turned).mean(axis=(1, 2, 3))
    assert differences.min() > 1.0, "no frame of the track looks like this"
    session.set_loop(False)
    session.default_camera.place(client)
    wait_until(lambda: camera_offset().is_default, "the camera is back")


def test_other_outputs_play_through_nerfstudios_own_rendering(page, session):
    panel = session.viewer.control_panel
    panel._output_render.value = "accumulation"
    press(page, "Play")
    page.wait_for_function("document.querySelector('#gaussiantalker-audio').currentTime > 0.3")
    wait_until(lambda: not session.timeline.playing, "the track ends")
    renderer = page.locator("#gaussiantalker-screen")
    wait_until(lambda: not renderer.is_visible(), "the picture of the playback is gone")
    panel._output_render.value = "rgb"


def test_two_browsers_share_the_timeline(page, session, chromium, viewer):
    other, errors = visit(chromium, viewer)
    session.set_loop(True)
    press(page, "Play")
    other.wait_for_function("gaussianTalker.log.length > 3")
    assert state(other)["playing"] and not state(other)["paused"]
    leader = session.timeline.leader
    press(other, "Pause")
    page.wait_for_function("!gaussianTalker.state.playing")
    press(other, "Play")
    page.wait_for_function("gaussianTalker.state.playing")
    assert session.timeline.leader not in (None, leader)
    other.close()
    wait_until(lambda: session.timeline.leader == leader, "who is left becomes the clock")
    assert session.timeline.playing and errors == []
    session.set_loop(False)


def test_camera_paths_take_the_timelines_time(page, session, viewer):
    session.seek(20)
    page.get_by_role("tab", name="Render").click()
    for _ in range(2):
        press(page, "Add Keyframe")
    press(page, "Generate Command")
    inputs = viewer.viser_server.gui._gui_input_handle_from_id.values()
    (name,) = [one.value for one in inputs if one._impl.label == "Render name"]
    path = Path(viewer.datapath) / "camera_paths" / f"{name}.json"
    wait_until(path.exists, "the camera path is written")
    cameras = json.loads(path.read_text())["camera_path"]
    expected = 20 / (session.model.bank.num_frames - 1)
    assert [camera["render_time"] for camera in cameras] == pytest.approx([expected] * len(cameras))
    path.unlink()
    press(page, "Close")


def test_the_screen_while_it_plays(page, session, tmp_path):
    """At 256 px and on two cores, pictures come often enough to be seen as motion."""
    page.get_by_role("tab", name="Control").click()
    page.evaluate("gaussianTalker.log.length = 0")
    press(page, "Play")
    page.wait_for_function("gaussianTalker.counts.shown > 20")
    time.sleep(10 if GIVEN_RUN else 0)
    found = state(page)
    apart = [entry["seconds"] * FPS - entry["frame"] for entry in found["log"]]
    recent = [entry["at"] for entry in found["log"] if entry["at"] > found["log"][-1]["at"] - 5000]
    rate = (len(recent) - 1) / max((recent[-1] - recent[0]) / 1000, 1e-6)
    arrived = found["counts"]["arrived"] / found["seconds"]
    print(f"{rate:.1f} pictures/s shown, {arrived:.1f} arrived, {found['counts']}")
    print(f"{min(apart):.2f} to {max(apart):.2f} frames between sound and picture")
    target = Path(SCREENSHOT) if SCREENSHOT else tmp_path / "viewer.png"
    page.screenshot(path=target)
    assert cv2.imread(str(target)).std() > 10
    if GIVEN_RUN:
        assert rate >= LEAST_RATE
        assert max(map(abs, apart)) <= MOST_FRAMES_APART


def test_no_thread_renders_after_the_end(chromium, config_path, tmp_path):
    """Python aborts when it ends while a thread is inside torch."""
    before = set(threading.enumerate())
    with served(config_path, tmp_path) as other:
        page, _ = visit(chromium, other)
        session_of(other).set_loop(True)
        press(page, "Play")
        page.wait_for_function("gaussianTalker.log.length > 3")
        control_of(other).close()
        started = [thread for thread in threading.enumerate() if thread not in before]
        names = [getattr(thread, "_target", None) or type(thread) for thread in started]
        assert not {"ClientRenderer", "_play", "_attend"} & {name.__name__ for name in names}
        assert session_of(other).timeline.playing, "nothing else has stopped them"
