"""The studio's interface: consent, uploads, jobs that outlive the server, talkers and their videos.

The commands are stand-ins (`studio_commands.py`); the processes, files and states are real.
"""

import asyncio
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import studio_commands
from small_videos import write_video
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount
from starlette.testclient import TestClient
from synthetic_talker import write_wav

from gaussiantalker_ns.assets import asset_path
from gaussiantalker_ns.inference.trained_talker import SAMPLE
from gaussiantalker_ns.live.library import TalkerLibrary
from gaussiantalker_ns.live.studio import jobs, talker_routes
from gaussiantalker_ns.live.studio.app import studio_app
from gaussiantalker_ns.live.studio.jobs import Job, Step
from gaussiantalker_ns.live.studio.run_job import last_words
from gaussiantalker_ns.live.studio.settings import StudioSettings, Training
from gaussiantalker_ns.live.worker import WorkerProcesses

MOST_LOOKS = 2400
CONSENT = "I am Mara, and I agree."
FAKE = (sys.executable, str(Path(studio_commands.__file__)))
MIB = 2**20
TRAININGS = (
    Training("short", "Short", "", "gaussiantalker-cpu", 30, 10),
    Training("long", "Long", "", "gaussiantalker-cpu", 50, 10),
)


def noise_picture(index: int) -> np.ndarray:
    """A picture that does not compress, so that a video has some size."""
    return np.random.default_rng(index).integers(0, 256, (144, 160, 3), np.uint8)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A video of nine seconds with sound, a picture a second."""
    path = tmp_path_factory.mktemp("video") / "video.mkv"
    return write_video(path, range(10), noise_picture).read_bytes()


@pytest.fixture
def control(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "control"
    folder.mkdir()
    monkeypatch.setenv(studio_commands.CONTROL, str(folder))
    monkeypatch.setenv("FAKE_STUDIO_TALKER", str(asset_path(SAMPLE)))
    return folder


@pytest.fixture
def settings() -> StudioSettings:
    return StudioSettings(
        trainings=TRAININGS,
        gaussiantalker=(*FAKE, "gaussiantalker"),
        ns_train=(*FAKE, "ns-train"),
        most_video_bytes=4 * MIB,
        most_piece_bytes=MIB,
        spare_bytes=0,
    )


@pytest.fixture
def library(tmp_path) -> Path:
    return tmp_path / "library"


def client_of(library: Path, settings: StudioSettings) -> TestClient:
    services = SimpleNamespace(library=TalkerLibrary(library), worker=WorkerProcesses())
    studio = studio_app(services, settings)
    client = TestClient(Starlette(routes=[Mount("/studio", studio)]), base_url="http://localhost")
    client.studio = studio.state.studio
    return client


@pytest.fixture
def client(library, settings, control):
    with client_of(library, settings) as client:
        yield client
        for project in client.studio.projects.all():
            project.end_jobs()


def new_project(client, name="Mara") -> str:
    content = {"name": name, "consent": CONSENT, "agreed": True}
    answer = client.post("/studio/api/projects", json=content)
    assert answer.status_code == 201, answer.text
    return answer.json()["slug"]


def begin(client, slug, num_bytes, kind="file"):
    content = {"bytes": num_bytes, "fingerprint": "me.mp4|1|2", "kind": kind}
    return client.post(f"/studio/uploads/{slug}", json=content)


def put(client, slug, offset, data):
    return client.put(f"/studio/uploads/{slug}?offset={offset}", content=data)


def upload(client, slug, data, piece=MIB // 2):
    assert begin(client, slug, len(data)).status_code == 201
    for offset in range(0, len(data), piece):
        answer = put(client, slug, offset, data[offset : offset + piece])
        assert answer.json() == {"received": min(offset + piece, len(data))}
    return client.post(f"/studio/api/projects/{slug}/finish-upload")


def project_state(client, slug):
    client.studio.forget_snapshot()
    found = client.get("/studio/api/state").json()["projects"]
    return next(one for one in found if one["slug"] == slug)


def talker_state(client, name):
    client.studio.forget_snapshot()
    found = client.get("/studio/api/state").json()["talkers"]
    return next((one for one in found if one["name"] == name), None)


def wait_for(condition, what):
    """Look again and again; looks are counted, so that a machine that stands still does no harm."""
    for _ in range(MOST_LOOKS):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(what)


def wait_phase(client, slug, phase, state=None):
    def there():
        found = project_state(client, slug)
        return found["phase"] == phase and (state is None or found["job"]["state"] == state)

    wait_for(there, f"{phase} {state}: {project_state(client, slug)}")


def processed(client, video, name="Mara") -> str:
    slug = new_project(client, name)
    assert upload(client, slug, video).status_code == 202
    wait_phase(client, slug, "report")
    return slug


def train(client, slug, key="short"):
    return client.post(f"/studio/api/projects/{slug}/train", json={"training": key})


def calls(control: Path) -> list[list[str]]:
    return [json.loads(line) for line in (control / "calls.jsonl").read_text().splitlines()]


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "content",
    [
        {"name": "Mara", "consent": CONSENT, "agreed": False},
        {"name": "Mara", "consent": CONSENT},
        {"name": "Mara", "consent": "yes", "agreed": True},
        {"name": "Mara", "agreed": True},
        {"name": "  \n ", "consent": CONSENT, "agreed": True},
        {"name": "M" * 61, "consent": CONSENT, "agreed": True},
        ["agreed"],
    ],
)
def test_nothing_begins_without_consent_and_a_name(client, library, content):
    answer = client.post("/studio/api/projects", json=content)
    assert answer.status_code == 400 and "expected" in answer.json()["error"]
    assert not library.exists()


def test_names_become_folders_of_our_own_making(client, library):
    slug = new_project(client, "../../Mära <b>\x1b[31m")
    assert slug.startswith("mara-b-31m-")
    (made,) = (library / "studio" / "projects").iterdir()
    assert made.name == slug
    assert project_state(client, slug)["name"] == "../../Mära <b> [31m"


@pytest.mark.parametrize("slug", ["..", "..%2f..%2fetc", "%2e%2e%2f", "nobody", "*", "a\\..\\b"])
def test_names_in_addresses_are_never_paths(client, slug):
    new_project(client)
    for address in (f"api/projects/{slug}/report", f"api/talkers/{slug}/file"):
        assert client.get(f"/studio/{address}").status_code == 404
    assert client.delete(f"/studio/api/projects/{slug}").status_code in (404, 405)
    assert client.delete(f"/studio/api/talkers/{slug}").status_code in (404, 405)


def test_a_video_in_pieces_becomes_a_data_set_with_its_consent(client, control, library, video):
    slug = processed(client, video)
    (call,) = calls(control)
    options = studio_commands.call_arguments(call)
    assert call[:2] == ["gaussiantalker", "process"] and options["consent"] == CONSENT
    assert Path(options["video"]).read_bytes() == video
    state = project_state(client, slug)
    assert state["video"] == {"seconds": 9.0, "width": 160, "height": 144}
    report = client.get(f"/studio/api/projects/{slug}/report")
    assert report.text == studio_commands.REPORT
    assert report.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert begin(client, slug, 5).status_code == 409


def test_an_upload_goes_on_where_it_was(client, video):
    slug = new_project(client)
    begin(client, slug, len(video))
    put(client, slug, 0, video[:1000])
    wrong = put(client, slug, 0, video[:1000])
    assert wrong.status_code == 409 and "expected 1000" in wrong.json()["error"]
    early = client.post(f"/studio/api/projects/{slug}/finish-upload")
    assert early.status_code == 409
    arrived = project_state(client, slug)["upload"]
    assert arrived["received"] == 1000 and arrived["fingerprint"] == "me.mp4|1|2"
    for offset in range(1000, len(video), MIB):
        put(client, slug, offset, video[offset : offset + MIB])
    assert client.post(f"/studio/api/projects/{slug}/finish-upload").status_code == 202
    wait_phase(client, slug, "report")


def silent_video(folder: Path) -> bytes:
    return write_video(folder / "a.mkv", range(10), noise_picture, sound=False).read_bytes()


def short_video(folder: Path) -> bytes:
    return write_video(folder / "a.mkv", range(4), noise_picture).read_bytes()


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
CONCAT = b"ffconcat version 1.0\nfile '/etc/hostname'\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda folder: b"This is a text, whatever its name says.\n" * 50, "no recording"),
        (lambda folder: PLAYLIST, "no recording"),
        (lambda folder: CONCAT, "no recording"),
        (lambda folder: bytes(5000), "no recording"),
        (silent_video, "no sound"),
        (short_video, "lasts 3 s"),
    ],
)
def test_what_is_no_usable_video_is_refused_and_gone(client, library, tmp_path, content, said):
    slug = new_project(client)
    answer = upload(client, slug, content(tmp_path))
    assert answer.status_code == 415
    assert said in answer.json()["error"] and str(library) not in answer.json()["error"]
    assert files_below(library) == [f"studio/projects/{slug}/project.json"]
    assert project_state(client, slug)["phase"] == "video"


def test_uploads_are_bounded(client, library):
    slug = new_project(client)
    assert begin(client, slug, 5 * 2**30).status_code == 413
    assert begin(client, slug, -1).status_code == 400
    assert put(client, slug, 0, b"a").status_code == 409
    assert begin(client, slug, 10).status_code == 201
    assert put(client, slug, 0, b"a" * 11).status_code == 413
    assert begin(client, slug, None, "recording").status_code == 201
    assert put(client, slug, 0, bytes(MIB + 1)).status_code == 413
    assert project_state(client, slug)["upload"]["received"] == 0, "the piece is not kept"
    for offset in range(0, 4 * MIB, MIB):
        assert put(client, slug, offset, bytes(MIB)).status_code == 200
    assert put(client, slug, 4 * MIB, b"a").status_code == 413
    assert files_below(library) == [f"studio/projects/{slug}/project.json"]


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"name": null, "created": 1}'])
def test_a_damaged_project_is_left_out_and_hides_no_other(client, library, text):
    new_project(client)
    broken = library / "studio" / "projects" / "broken-1"
    broken.mkdir()
    (broken / "project.json").write_text(text)
    found = client.get("/studio/api/state").json()["projects"]
    assert [one["name"] for one in found] == ["Mara"]


def test_nothing_begins_on_a_full_disk(library, settings, control):
    with client_of(library, replace(settings, spare_bytes=2**60)) as client:
        content = {"name": "Mara", "consent": CONSENT, "agreed": True}
        answer = client.post("/studio/api/projects", json=content)
        assert answer.status_code == 507 and "MiB left" in answer.json()["error"]
        project = client.studio.projects.create("Mara", CONSENT)
        assert begin(client, project.slug, 10).status_code == 507
        text = client.post("/studio/api/talkers/presenter/speak-text", json={"text": "Hello."})
        assert text.status_code == 507
    assert files_below(library) == [f"studio/projects/{project.slug}/project.json"]


def test_unfinished_uploads_expire(client, library, settings, monkeypatch):
    slug = new_project(client)
    begin(client, slug, 10)
    put(client, slug, 0, b"abc")
    upload_of = client.studio.upload(client.studio.project(slug))
    upload_of.expire()
    assert upload_of.facts()["received"] == 3
    later = time.time() + settings.upload_s + 1
    monkeypatch.setattr(time, "time", lambda: later)
    upload_of.expire()
    assert upload_of.facts() is None


def test_a_failed_command_says_why_and_is_tried_again(client, control, video):
    (control / "fail").write_text("No face was found; expected one person.\n")
    slug = new_project(client)
    upload(client, slug, video)
    wait_phase(client, slug, "process", "failed")
    assert (
        project_state(client, slug)["job"]["message"] == "No face was found; expected one person."
    )
    (control / "fail").unlink()
    assert client.post(f"/studio/api/projects/{slug}/resume").status_code == 202
    wait_phase(client, slug, "report")


def test_training_is_stopped_and_goes_on_at_its_checkpoint(client, control, library, video):
    slug = processed(client, video)
    (control / "hold").touch()
    assert train(client, slug, "unknown").status_code == 400
    assert train(client, slug).status_code == 202
    wait_for(lambda: project_state(client, slug)["job"]["done"] == 1, "it tells its step")
    state = project_state(client, slug)["job"]
    assert (state["step"], state["total"], state["seconds_left"]) == ("train", 30, 65.0)
    assert client.get(f"/studio/api/projects/{slug}/picture").content == b"a picture"
    again = train(client, slug)
    assert again.status_code == 409
    assert client.post(f"/studio/api/projects/{slug}/stop").status_code == 202
    wait_phase(client, slug, "train", "stopped")
    (control / "hold").unlink()
    client.post(f"/studio/api/projects/{slug}/resume")
    wait_phase(client, slug, "ready")

    _, first, second, pack = (studio_commands.call_arguments(call) for call in calls(control))
    assert first["max-num-iterations"] == "30" and "load-dir" not in first
    assert second["max-num-iterations"] == "20", "ten steps are in the checkpoint"
    assert second["load-dir"].endswith("nerfstudio_models")
    assert Path(pack["output"]) == library / f"{slug}.talker"
    assert talker_state(client, slug)["title"] == "Mara"


def test_jobs_are_adopted_by_the_next_server(library, settings, control, video):
    """The first server is forgotten without a word, as one that is killed."""
    (control / "hold").touch()
    with client_of(library, settings) as client:
        slug = new_project(client)
        upload(client, slug, video)
        wait_for(lambda: project_state(client, slug)["job"]["done"] == 3, "it has begun")
        children = dict(Job._children)
        Job._children.clear()
    with client_of(library, settings) as client:
        wait_phase(client, slug, "process", "running")
        (control / "hold").unlink()
        wait_phase(client, slug, "report")
    assert len(calls(control)) == 1
    assert [child.wait() for child in children.values()] == [0]


def test_a_killed_job_is_interrupted_and_its_command_never_runs_twice(client, control, video):
    slug = new_project(client)
    (control / "hold").touch()
    upload(client, slug, video)
    wait_for(lambda: project_state(client, slug)["job"]["done"] == 3, "it has begun")
    job = client.studio.project(slug).process_job
    status = json.loads((job.folder / "status.json").read_text())
    os.kill(job._owner_pid(), 9)
    wait_phase(client, slug, "process", "interrupted")
    command = psutil.Process(status["child"]["pid"])
    assert command.is_running(), "its command does not know"
    client.post(f"/studio/api/projects/{slug}/resume")
    wait_for(lambda: not command.is_running(), "the old command is ended")
    (control / "hold").unlink()
    wait_phase(client, slug, "report")


def test_a_video_that_arrived_before_the_server_ended_is_not_lost(client, video):
    slug = new_project(client)
    upload(client, slug, video)
    wait_phase(client, slug, "report")
    project = client.studio.project(slug)
    for path in (project.process_job.folder / "job.json", project.report):
        path.unlink()
    wait_phase(client, slug, "process", "interrupted")
    client.post(f"/studio/api/projects/{slug}/resume")
    wait_phase(client, slug, "report")


def test_one_heavy_job_at_a_time(client, control, video):
    first, second = processed(client, video, "Ann"), processed(client, video, "Bea")
    (control / "hold").touch()
    train(client, first)
    wait_phase(client, first, "train", "running")
    refused = train(client, second)
    assert refused.status_code == 409 and "'Ann' is being trained" in refused.json()["error"]
    assert project_state(client, second)["phase"] == "report"


def test_another_quality_begins_anew(client, control, video):
    slug = processed(client, video)
    train(client, slug)
    wait_phase(client, slug, "ready")
    train(client, slug, "long")
    wait_phase(client, slug, "ready")
    options = [studio_commands.call_arguments(call) for call in calls(control)]
    assert options[3]["max-num-iterations"] == "50" and "load-dir" not in options[3]
    # The same again has nothing left to train.
    train(client, slug, "long")
    wait_phase(client, slug, "ready")
    assert [call[1] for call in calls(control)][-1] == "pack"


def test_discarding_and_deleting_leave_nothing(client, control, library, video):
    slug = processed(client, video)
    (control / "hold").touch()
    train(client, slug)
    wait_phase(client, slug, "train", "running")
    assert client.post(f"/studio/api/projects/{slug}/discard").status_code == 204
    assert files_below(library) == [f"studio/projects/{slug}/project.json"]
    assert project_state(client, slug)["phase"] == "video"
    assert client.delete(f"/studio/api/projects/{slug}").status_code == 204
    assert files_below(library) == []


def test_a_talker_is_listed_freed_of_its_data_downloaded_and_deleted(client, library, video):
    slug = processed(client, video)
    early = client.post(f"/studio/api/projects/{slug}/free-space")
    assert early.status_code == 409
    train(client, slug)
    wait_phase(client, slug, "ready")
    talker = talker_state(client, slug)
    assert talker["bytes"] == asset_path(SAMPLE).stat().st_size
    assert "rendered character" in talker["consent"] and talker["can_delete"]
    assert client.get(f"/studio/api/talkers/{slug}/picture").content[8:12] == b"WEBP"
    file = client.get(f"/studio/api/talkers/{slug}/file")
    assert file.content == asset_path(SAMPLE).read_bytes()
    assert f'filename="{slug}.talker"' in file.headers["content-disposition"]
    client.post(f"/studio/api/projects/{slug}/free-space")
    project = library / "studio" / "projects" / slug
    assert not [path for path in project.iterdir() if path.name in ("data", "training")]
    assert project_state(client, slug)["phase"] == "ready"
    client.post(f"/studio/api/talkers/{slug}/speak-text", json={"text": "Hello."})
    assert client.delete(f"/studio/api/talkers/{slug}").status_code == 204
    assert files_below(library) == [] and talker_state(client, slug) is None


def test_the_presenter_cannot_be_deleted(client):
    answer = client.delete("/studio/api/talkers/presenter")
    assert answer.status_code == 409 and asset_path(SAMPLE).is_file()
    assert not talker_state(client, "presenter")["can_delete"]


def test_a_damaged_talker_is_listed_as_such(client, library):
    library.mkdir()
    (library / "broken.talker").write_bytes(b"PK nonsense")
    talker = talker_state(client, "broken")
    assert "was cut" in talker["problem"] and str(library) not in talker["problem"]
    assert client.get("/studio/api/talkers/broken/picture").status_code == 404


def test_talkers_speak_texts_and_recordings(client, control, library, tmp_path):
    text = "--overwrite $(touch x); `x` \n\x00 Hello."
    made = client.post("/studio/api/talkers/presenter/speak-text", json={"text": text})
    assert made.status_code == 202
    wait_for(lambda: talker_state(client, "presenter")["videos"][0]["state"] == "done", "text")
    assert calls(control)[0][3] == "--text=--overwrite $(touch x); `x` Hello."
    write_wav(tmp_path / "a.wav", 0.1 * np.sin(np.arange(16_000) * 0.2))
    address = "/studio/api/talkers/presenter/speak-recording?name=<b>a.wav"
    assert client.post(address, content=(tmp_path / "a.wav").read_bytes()).status_code == 202
    wait_for(lambda: len(talker_state(client, "presenter")["videos"]) == 2, "listed")
    videos = {one["title"]: one for one in talker_state(client, "presenter")["videos"]}
    spoken = videos["<b>a.wav"]
    address = f"/studio/api/talkers/presenter/videos/{spoken['id']}"
    wait_for(lambda: client.get(address).content == b"a video", "recording")
    assert "attachment" in client.get(f"{address}?download").headers["content-disposition"]
    assert client.delete(address).status_code == 204
    assert client.get(address).status_code == 404


def test_what_cannot_be_spoken_is_refused_and_gone(client, library):
    address = "/studio/api/talkers/presenter/speak-"
    for content in (b"a text named .wav", PLAYLIST):
        answer = client.post(f"{address}recording?name=a.wav", content=content)
        assert answer.status_code == 415 and "no recording" in answer.json()["error"]
    assert client.post(f"{address}recording", content=b"").status_code == 400
    for text in ("...", "a" * 2001):
        assert client.post(f"{address}text", json={"text": text}).status_code == 400
    assert client.post("/studio/api/talkers/nobody/speak-text", json={}).status_code == 404
    assert files_below(library) == []


def test_events_send_the_state_at_every_change(client, monkeypatch):
    monkeypatch.setattr(talker_routes, "WATCH_S", 0.01)
    studio = SimpleNamespace(state=SimpleNamespace(studio=client.studio))
    request = Request({"type": "http", "app": studio})

    async def listen():
        stream = (await talker_routes.events(request)).body_iterator
        said = [await anext(stream), await anext(stream)]
        client.studio.projects.create("Mara", CONSENT)
        client.studio.forget_snapshot()
        said.append(await anext(stream))
        client.studio.close()
        return said, [one async for one in stream]

    said, rest = asyncio.run(listen())
    assert said[0].startswith("retry:") and rest == []
    first, second = (json.loads(one.removeprefix("data: ")) for one in said[1:])
    assert first["projects"] == [] and second["projects"][0]["name"] == "Mara"


def test_last_words_are_the_last_line_without_colours(tmp_path):
    (tmp_path / "errors.txt").write_text("first\n\x1b[1;31mThe video is empty.\x1b[0m\n\n")
    assert last_words(tmp_path / "errors.txt") == "The video is empty."
    assert last_words(tmp_path / "none.txt") == ""


DEAF = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) > 2:
    subprocess.run([sys.executable, sys.argv[0], sys.argv[1]])
pathlib.Path(sys.argv[1]).touch()
time.sleep(600)
"""


def test_a_command_that_does_not_listen_is_ended_with_its_children(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "PATIENCE_S", 0.5)
    script, begun = tmp_path / "deaf.py", tmp_path / "begun"
    script.write_text(DEAF)
    job = Job(tmp_path / "job")
    job.start([Step("deaf", (sys.executable, str(script), str(begun), "with a child"))])
    wait_for(begun.exists, "it runs")
    family = psutil.Process(job._owner_pid()).children(recursive=True)
    assert len(family) == 2
    job.end()
    assert job.state().state in ("stopped", "interrupted")
    assert psutil.wait_procs(family, timeout=5)[1] == []


def test_a_stopped_job_is_stopped_however_its_command_ends(tmp_path):
    """One that ends well when it is told to has not done its work, and nothing follows it."""
    begun, after = tmp_path / "begun", tmp_path / "after"
    code = "import pathlib, signal, sys, time; signal.signal(15, lambda *_: sys.exit(0));"
    code += "pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
    follow = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()"
    job = Job(tmp_path / "job")
    job.start(
        [
            Step("polite", (sys.executable, "-c", code, str(begun))),
            Step("after", (sys.executable, "-c", follow, str(after))),
        ]
    )
    wait_for(begun.exists, "it runs")
    job.stop()
    wait_for(lambda: job.state().state == "stopped", "it is stopped")
    assert job.state().step == "polite" and not after.exists()
