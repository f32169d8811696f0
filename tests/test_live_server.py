"""The live server over real sockets, with tiny talkers: sessions, streams, refusals, ends."""

import asyncio
import io
import json
import socket
import threading
import time
from pathlib import Path

import av
import httpx
import numpy as np
import openapi_spec_validator
import pytest
import websockets
from live_servers import serving
from starlette.websockets import WebSocketDisconnect
from talker_files import tiny_description, tiny_members, zipped

from gaussiantalker_ns.audio.read import write_wav
from gaussiantalker_ns.inference.provenance import DIGITAL_SOURCE_TYPE
from gaussiantalker_ns.inference.talker_file import webp
from gaussiantalker_ns.live.services import Services
from gaussiantalker_ns.live.sessions.fragments import FragmentWriter
from gaussiantalker_ns.live.sessions.intake import RATE_HZ, SAMPLES_PER_PICTURE
from gaussiantalker_ns.live.settings import ServerSettings
from gaussiantalker_ns.live.sockets import _send_units

COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200)}


def coloured_talker(path: Path, colour: tuple[int, int, int]) -> None:
    """A tiny talker before a wall of one colour, without anything else that is seen."""
    members = tiny_members(tiny_description(torso_mode="gaussians", size=64))
    wall = np.broadcast_to(np.array(colour, np.uint8), (64, 64, 3))
    path.write_bytes(zipped({**members, "background.webp": webp.encode(wall.copy())}))


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    for name, colour in COLOURS.items():
        coloured_talker(folder / f"{name}.talker", colour)
    return folder


@pytest.fixture(scope="module")
def server(library):
    settings = ServerSettings(library=library, max_sessions=4, idle_timeout_s=30.0)
    with serving(settings) as running:
        yield running


@pytest.fixture(scope="module")
def base(server):
    return server[0]


@pytest.fixture
def client(base):
    with httpx.Client(base_url=base, timeout=60) as client:
        yield client


@pytest.fixture
def session(client):
    begun = client.post("/sessions", json={"talker": "red"}).json()
    yield begun["id"]
    client.delete(f"/sessions/{begun['id']}")


def socket_of(base, path):
    return websockets.connect(f"ws{base.removeprefix('http')}{path}", max_size=None)


async def read_media(base, session_id, num_units, audio="opus"):
    """The first message and the bytes of some units."""
    async with socket_of(base, f"/sessions/{session_id}/media?audio={audio}") as media:
        first = json.loads(await media.recv())
        return first, [await media.recv() for _ in range(num_units)]


def pictures_of(stream: bytes):
    with av.open(io.BytesIO(stream)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_health_config_and_metrics(client):
    assert client.get("/health").json() == {"status": "ok"}
    config = client.get("/config").json()
    assert config["talkers"] == ["blue", "red", "presenter"] and config["webrtc"]
    text = client.get("/metrics").text
    assert "# TYPE gaussiantalker_sessions gauge" in text
    for line in text.splitlines():
        assert line.startswith("#") or float(line.rsplit(" ", 1)[1]) >= 0


def test_the_description_is_valid_and_complete(client, server):
    document = client.get("/openapi.json").json()
    openapi_spec_validator.validate(document)
    described = {
        (path, method.upper())
        for path, operations in document["paths"].items()
        for method in operations
        if method != "parameters"
    }
    from gaussiantalker_ns.live.api import api_routes

    routed = {(r.path, m) for r in api_routes() for m in r.methods if m != "HEAD"}
    assert described == routed - {("/openapi.json", "GET")}


def test_the_page_and_its_parts_are_served(client):
    page = client.get("/")
    assert page.status_code == 200 and "talk.js" in page.text
    for part in ("talk.js", "talk.css", "style.css"):
        assert client.get(f"/static/{part}").status_code == 200


def test_a_session_begins_and_ends(client):
    begun = client.post("/sessions", json={"talker": "blue"})
    state = begun.json()
    assert begun.status_code == 201 and begun.headers["synthetic-media"] == DIGITAL_SOURCE_TYPE
    assert begun.headers["location"] == f"/sessions/{state['id']}"
    assert state["talker"] == "blue" and state["delay_ms"] == 240 and state["size"] == 64
    assert client.get(begun.headers["location"]).json()["id"] == state["id"]
    assert client.delete(begun.headers["location"]).status_code == 204
    assert client.get(begun.headers["location"]).status_code == 404
    assert client.delete(begun.headers["location"]).status_code == 404


@pytest.mark.parametrize("audio", ["opus", "aac"])
def test_a_stream_is_a_marked_film_with_sound(base, session, audio):
    first, units = asyncio.run(read_media(base, session, 30, audio))
    assert first["type"] == "media" and "avc1" in first["mime"]
    stream = b"".join(units)
    assert all(units) and stream[4:8] == b"ftyp"
    pictures = pictures_of(stream)
    assert len(pictures) >= 28 and pictures[0].shape == (64, 64, 3)
    with av.open(io.BytesIO(stream)) as container:
        assert "generated by a trained model" in container.metadata["comment"]
        assert container.metadata["digital_source_type"] == DIGITAL_SOURCE_TYPE
        times = [frame.time for frame in container.decode(audio=0)]
    assert times == sorted(times) and times[-1] > 1.0


def test_pictures_carry_the_visible_mark(base, session):
    _, units = asyncio.run(read_media(base, session, 10))
    picture = pictures_of(b"".join(units))[-1]
    corner, other = picture[-12:, :40].astype(int), picture[-12:, -12:].astype(int)
    assert corner.max(axis=2).max() > 150 and corner.min() < 40
    assert np.abs(other - COLOURS["red"]).max() < 40


def test_speech_is_heard_after_the_delay_and_its_end_is_told(base, session):
    async def speak():
        path = f"/sessions/{session}/audio?rate=24000"
        async with (
            socket_of(base, path) as audio,
            socket_of(base, f"/sessions/{session}/media") as media,
        ):
            await media.recv()
            tone = (8000 * np.sin(np.arange(12_000) * 0.1)).astype("<i2")
            await audio.send(tone[:5000].tobytes())
            await audio.send(tone[5000:].tobytes())
            await audio.send('{"type": "flush"}')
            units = [await media.recv() for _ in range(40)]
            return json.loads(await audio.recv()), b"".join(units)

    said, stream = asyncio.run(speak())
    assert said == {"type": "spoken"}
    with av.open(io.BytesIO(stream)) as container:
        heard = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    loud = np.flatnonzero(np.abs(heard) > 0.1)
    assert (loud[-1] - loud[0]) / RATE_HZ == pytest.approx(0.5, abs=0.05)


def test_an_interruption_is_answered(base, session, client):
    async def interrupt():
        async with socket_of(base, f"/sessions/{session}/audio?rate=16000") as audio:
            await audio.send(np.ones(16_000 * 20, "<i2").tobytes())
            await audio.send('{"type": "interrupt"}')
            return json.loads(await audio.recv())

    assert asyncio.run(interrupt()) == {"type": "interrupted"}
    assert client.get(f"/sessions/{session}").json()["waiting_s"] == 0


def test_no_frame_of_one_session_is_in_another(base, client):
    """Four sessions with two talkers before walls of their own colours, at the same time."""
    names = ["red", "blue", "red", "blue"]
    ids = [client.post("/sessions", json={"talker": name}).json()["id"] for name in names]

    async def read_all():
        return await asyncio.gather(*(read_media(base, one, 25) for one in ids))

    for name, (_, units) in zip(names, asyncio.run(read_all())):
        pictures = pictures_of(b"".join(units))
        assert len(pictures) >= 20
        for picture in pictures:
            assert np.abs(picture[8:16, 4:12].astype(int) - COLOURS[name]).max() < 40
    for one in ids:
        client.delete(f"/sessions/{one}")


def test_admission_ends_with_a_reason(client):
    ids = [client.post("/sessions").json()["id"] for _ in range(4)]
    refused = client.post("/sessions")
    assert refused.status_code == 503 and refused.headers["retry-after"] == "10"
    assert "4 sessions are open, which is the most" in refused.json()["error"]
    for one in ids:
        client.delete(f"/sessions/{one}")
    assert client.post("/sessions").status_code == 201


def test_a_recording_and_a_text_are_spoken(client, session, tmp_path, monkeypatch):
    write_wav(tmp_path / "tone.wav", np.zeros(16_000, np.float32))
    content = (tmp_path / "tone.wav").read_bytes()
    answer = client.post(f"/sessions/{session}/sound", content=content)
    assert answer.status_code == 202 and 0.5 < answer.json()["waiting_s"] <= 1.0
    stopped = client.post(f"/sessions/{session}/interrupt")
    assert stopped.json()["waiting_s"] == 0
    if client.get("/config").json()["text"]:
        spoken = client.post(f"/sessions/{session}/text", json={"text": "Good morning."})
        assert spoken.status_code == 202 and spoken.json()["waiting_s"] > 0.5


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("POST", "/sessions", {"content": b"{"}, 400),
        ("POST", "/sessions", {"json": [1]}, 400),
        ("POST", "/sessions", {"json": {"talker": 7}}, 400),
        ("POST", "/sessions", {"json": {"talker": "nobody"}}, 404),
        ("POST", "/sessions", {"json": {"talker": "../../etc/passwd"}}, 404),
        ("GET", "/sessions/../../etc/passwd", {}, 404),
        ("GET", "/static/../app.py", {}, 404),
        ("GET", "/static/%2e%2e/app.py", {}, 404),
        ("GET", "/sessions/nothing", {}, 404),
        ("POST", "{session}/offer", {"content": b"nonsense"}, 415),
        ("POST", "{session}/offer", {"sdp": b"nonsense"}, 400),
        ("POST", "{session}/offer", {"sdp": b"v=0\r\no=- 0 0 IN IP4 0\r\ns=-\r\nt=0 0\r\n"}, 400),
        ("POST", "{session}/offer", {"sdp": b"\xff\x00" * 1000}, 400),
        ("POST", "{session}/offer", {"sdp": b"x" * 300_000}, 413),
        ("POST", "{session}/sound", {"content": b""}, 400),
        ("POST", "{session}/sound", {"content": b"This is a text.\n" * 100}, 415),
        ("POST", "{session}/text", {"json": {"text": "a" * 2001}}, 413),
        ("POST", "{session}/text", {"json": {"text": ["a"]}}, 400),
        ("PUT", "/sessions", {}, 405),
    ],
)
def test_what_cannot_be_used_is_refused(client, session, method, path, options, status):
    options = dict(options)
    if "sdp" in options:
        options.update(content=options.pop("sdp"), headers={"content-type": "application/sdp"})
    answer = client.request(method, path.format(session=f"/sessions/{session}"), **options)
    assert answer.status_code == status, answer.text
    if answer.headers["content-type"] == "application/json":
        assert answer.json()["error"]
    assert "/tmp" not in answer.text


def test_five_gigabytes_are_refused_before_they_come(base, session):
    host, port = base.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        line.sendall(
            f"POST /sessions/{session}/sound HTTP/1.1\r\nHost: {host}:{port}\r\n"
            "Content-Length: 5000000000\r\n\r\n".encode()
        )
        assert line.recv(100).startswith(b"HTTP/1.1 413")


def test_uploads_leave_nothing_on_the_disk(client, session, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    bad = client.post(f"/sessions/{session}/sound", content=b"no sound" * 1000)
    assert bad.status_code == 415 and "The file" in bad.json()["error"]
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/sessions/nothing/media", 404),
        ("/sessions/nothing/audio", 404),
        ("{session}/media?audio=mp3", 400),
        ("{session}/audio?rate=1", 400),
        ("{session}/audio?rate=99999999999999999999", 400),
        ("{session}/audio?rate=many", 400),
        ("{session}/audio?mode=loud", 400),
    ],
)
def test_sockets_that_cannot_be_are_refused(base, session, path, status):
    async def open_it():
        async with socket_of(base, path.format(session=f"/sessions/{session}")):
            pass

    with pytest.raises(websockets.InvalidStatus) as refused:
        asyncio.run(open_it())
    assert refused.value.response.status_code == status


@pytest.mark.parametrize("message", [b"odd", "{", '{"type": "dance"}', "[]", "7"])
def test_messages_that_cannot_be_used_close_the_socket(base, session, message):
    async def send_it():
        async with socket_of(base, f"/sessions/{session}/audio") as audio:
            await audio.send(message)
            await audio.recv()

    with pytest.raises(websockets.ConnectionClosedError) as closed:
        asyncio.run(send_it())
    assert closed.value.rcvd.code == 1007


def test_a_session_that_ends_closes_its_sockets(base, client):
    one = client.post("/sessions").json()["id"]

    async def watch():
        async with socket_of(base, f"/sessions/{one}/media") as media:
            await media.recv()
            await asyncio.to_thread(client.delete, f"/sessions/{one}")
            while True:
                await media.recv()

    with pytest.raises(websockets.ConnectionClosed) as closed:
        asyncio.run(watch())
    assert closed.value.rcvd.code == 1001


def test_a_reader_that_stalls_goes_on_at_the_newest_picture(library):
    """A second in which nothing can be sent costs its pictures, and no delay after it."""
    settings = ServerSettings(library=library, max_sessions=1)

    class StallingSocket:
        def __init__(self, session):
            self.session, self.sent = session, []

        async def send_bytes(self, unit):
            self.sent.append(self.session.released)
            if len(self.sent) == 5:
                await asyncio.sleep(1.0)
            if len(self.sent) == 15:
                raise WebSocketDisconnect

    async def watch():
        services = Services.of(settings)
        services.sessions.start()
        session = await services.sessions.create()
        line = StallingSocket(session)
        writer = FragmentWriter(session.size, "opus", {})
        with pytest.raises(WebSocketDisconnect):
            await _send_units(line, session, writer)
        most = len(session.pictures)
        await services.close()
        return session.figures.dropped, np.diff(line.sent) / SAMPLES_PER_PICTURE, most

    dropped, steps, most = asyncio.run(watch())
    assert 20 <= dropped <= 30 and most <= 24
    assert 20 <= steps[4] <= 30 and steps[6:].max() <= 4


def test_nothing_is_left_of_many_sessions(base, client, server):
    """200 sessions, with a stream and without."""
    _, services = server

    async def visit():
        for number in range(200):
            one = client.post("/sessions", json={"talker": "red"}).json()["id"]
            if number % 20 == 0:
                await read_media(base, one, 3)
            assert client.delete(f"/sessions/{one}").status_code == 204

    asyncio.run(visit())
    before = len(services.sessions.all())
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        left = [t.name for t in threading.enumerate() if t.name.startswith("session-")]
        if len(left) == before:
            break
        time.sleep(0.1)
    assert len(left) == before


def test_the_end_of_the_server_is_the_end_of_everything(library):
    settings = ServerSettings(library=library, max_sessions=2)
    with serving(settings) as (base, services):
        with httpx.Client(base_url=base) as client:
            one = client.post("/sessions").json()["id"]
            assert services.sessions.get(one)
    assert services.sessions.all() == []
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith(f"session-{one[:6]}")]


def test_a_token_guards_sockets_too(library):
    settings = ServerSettings(library=library, token="secret-of-the-test")
    with serving(settings) as (base, _), httpx.Client(base_url=base) as client:
        assert client.post("/sessions").status_code == 401
        headers = {"authorization": "Bearer secret-of-the-test"}
        one = client.post("/sessions", headers=headers).json()["id"]

        async def knock(query):
            async with socket_of(base, f"/sessions/{one}/media{query}") as media:
                return json.loads(await media.recv())["type"]

        with pytest.raises(websockets.InvalidStatus) as refused:
            asyncio.run(knock("?token=wrong"))
        assert refused.value.response.status_code == 401
        assert asyncio.run(knock("?token=secret-of-the-test")) == "media"
