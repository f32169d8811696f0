"""Who is let in: hosts, origins, the token, sizes and times of bodies, headers of answers."""

from dataclasses import replace
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse

from gaussiantalker_ns.live import security
from gaussiantalker_ns.live.errors import exception_handlers
from gaussiantalker_ns.live.security import COOKIE, Guard
from gaussiantalker_ns.live.settings import ServerSettings

TOKEN = "a-token-that-nobody-guesses"
BASE = "http://127.0.0.1:8000"
SOCKET = "ws://127.0.0.1:8000/socket"


async def whole_body(request: Request):
    return PlainTextResponse(str(len(await request.body())))


async def nothing(scope, receive, send):
    """An application that is never reached."""


async def accept(websocket):
    await websocket.accept()
    await websocket.send_text("hello")
    await websocket.close()


def client(**options):
    settings = ServerSettings(library=Path("none"), **options)
    app = Starlette(
        routes=[
            Route("/", whole_body, methods=["GET", "POST"]),
            Route("/health", whole_body),
            Route("/studio/uploads/1", whole_body, methods=["POST"]),
            WebSocketRoute("/socket", accept),
        ],
        middleware=[Middleware(Guard, settings)],
        exception_handlers=exception_handlers(),
    )
    return TestClient(app, base_url=BASE, follow_redirects=False)


@pytest.fixture(scope="module")
def plain():
    return client()


@pytest.fixture(scope="module")
def guarded():
    return client(token=TOKEN, host="0.0.0.0")


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:1", "[::1]:8000"])
def test_this_machines_own_names_are_served(plain, host):
    assert plain.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "[", "localhost:80@evil.example"]
)
def test_other_hosts_are_refused(plain, host):
    """A name that an attacker makes point to this machine (DNS rebinding)."""
    answer = plain.get("/", headers={"host": host})
    assert answer.status_code == 421 and "expected one of 127.0.0.1" in answer.json()["error"]


def test_hosts_can_be_allowed():
    assert client(allowed_hosts=("me.example",)).get("/", headers={"host": "me.example"}).is_success


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9000"])
def test_other_sites_cannot_post_nor_open_sockets(plain, origin):
    headers = {"origin": origin}
    assert plain.post("/", headers=headers).status_code == 403
    with (
        pytest.raises(WebSocketDenialResponse) as denial,
        plain.websocket_connect(SOCKET, headers=headers),
    ):
        pass
    assert denial.value.status_code == 403


def test_own_pages_and_programs_can(plain):
    assert plain.post("/", headers={"origin": BASE}).status_code == 200
    assert plain.post("/").status_code == 200
    with plain.websocket_connect(SOCKET, headers={"origin": BASE}) as socket:
        assert socket.receive_text() == "hello"


def test_no_answer_allows_other_sites(plain):
    answer = plain.options("/", headers={"origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("given", [None, "Bearer wrong", "Bearer ", f"Basic {TOKEN}", "\u00e9"])
def test_the_token_is_needed(guarded, given):
    headers = {} if given is None else {"authorization": given.encode()}
    answer = guarded.get("/", headers=headers)
    assert answer.status_code == 401 and "expected the one that the server printed" in answer.text
    assert TOKEN not in answer.text
    with (
        pytest.raises(WebSocketDenialResponse) as denial,
        guarded.websocket_connect(SOCKET, headers=headers),
    ):
        pass
    assert denial.value.status_code == 401


def test_the_token_lets_in(guarded):
    assert guarded.get("/", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert guarded.get("/health").status_code == 200
    with guarded.websocket_connect(f"{SOCKET}?token={TOKEN}") as socket:
        assert socket.receive_text() == "hello"


def test_the_token_is_compared_in_constant_time(guarded, monkeypatch):
    compared = []
    monkeypatch.setattr(
        security.secrets, "compare_digest", lambda a, b: compared.append((a, b)) or False
    )
    guarded.get("/", headers={"authorization": "Bearer x"})
    assert compared == [(b"x", TOKEN.encode())]


def test_a_page_keeps_the_token_in_a_cookie(guarded):
    answer = guarded.get(f"/?token={TOKEN}&talker=me", headers={"accept": "text/html"})
    assert answer.status_code == 303 and answer.headers["location"] == "/?talker=me"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    for value, status in ((TOKEN, 200), ("wrong", 401), ("", 401)):
        guarded.cookies.clear()
        assert guarded.get("/", headers={"cookie": f"{COOKIE}={value}"}).status_code == status


@pytest.mark.parametrize("path", ["//evil.example/", "/\\evil.example/", "///evil.example/"])
def test_the_redirect_stays_on_this_server(path):
    guard = Guard(nothing, ServerSettings(library=Path("none"), token=TOKEN))
    query = f"token={TOKEN}".encode()
    headers = [(b"accept", b"text/html")]
    scope = {"path": path, "query_string": query, "headers": headers, "method": "GET"}
    assert guard._entered(scope).headers["location"] == "/evil.example/"


def test_long_bodies_are_refused():
    small = client(max_body_bytes=1000, max_video_bytes=5000)
    assert small.post("/", content=bytes(1000)).text == "1000"
    assert small.post("/", content=bytes(1001)).status_code == 413
    assert small.post("/studio/uploads/1", content=bytes(5000)).text == "5000"
    assert small.post("/studio/uploads/1", content=bytes(5001)).status_code == 413


def test_long_bodies_of_unknown_length_are_refused():
    small = client(max_body_bytes=1000)
    answer = small.post("/", content=iter([bytes(600)] * 1000))
    assert answer.status_code == 413 and "shorter one" in answer.json()["error"]


def test_slow_bodies_are_refused():
    import anyio

    async def never():
        await anyio.sleep_forever()

    guard = Guard(nothing, ServerSettings(library=Path("none"), upload_timeout_s=0.05))
    receive = guard._bounded({"path": "/"}, never)
    with pytest.raises(Exception, match="took longer") as refused:
        anyio.run(receive)
    assert refused.value.status_code == 408


def test_answers_have_the_headers(plain):
    headers = plain.get("/").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_another_host_needs_a_token():
    with pytest.raises(ValueError, match="there is no token.* Give --token"):
        ServerSettings(host="0.0.0.0")
    assert replace(ServerSettings(), host="127.0.0.5").token is None
    assert TOKEN not in repr(ServerSettings(token=TOKEN))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tls_cert": Path("a.pem")}, ValueError, "expected both"),
        ({"tls_cert": Path("a"), "tls_key": Path("b")}, FileNotFoundError, "No file at a"),
        ({"port": 70_000}, ValueError, "0 to 65535"),
        ({"margin_ms": 1.0}, ValueError, "20 to 1000"),
        ({"max_sessions": 0}, ValueError, "1 or more"),
    ],
)
def test_impossible_settings_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        ServerSettings(**options)
