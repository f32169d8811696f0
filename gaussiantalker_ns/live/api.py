"""HTTP interface of sessions: begin, connect, speak, look, end; `openapi.py` describes it."""

import importlib.util
import json
import shutil

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gaussiantalker_ns.audio.espeak import LOADER, PROGRAM
from gaussiantalker_ns.inference.provenance import DIGITAL_SOURCE_TYPE
from gaussiantalker_ns.live.errors import refusal
from gaussiantalker_ns.live.metrics import prometheus_text
from gaussiantalker_ns.live.openapi import openapi_document
from gaussiantalker_ns.live.services import Services
from gaussiantalker_ns.live.sessions.session import LiveSession
from gaussiantalker_ns.live.uploads import spoken_text, uploaded_sound

MARK_HEADER = {"synthetic-media": DIGITAL_SOURCE_TYPE}
"""Says of every answer about a session that its pictures are synthetic."""

SDP = "application/sdp"
MOST_OFFER_BYTES = 256 * 1024
MOST_JSON_BYTES = 64 * 1024


def services_of(request: Request) -> Services:
    """What the server of a request shares."""
    return request.app.state.services


def session_of(request: Request) -> LiveSession:
    """The session that a request's path names."""
    return services_of(request).sessions.get(request.path_params["session_id"])


async def body_of(request: Request, most_bytes: int) -> bytes:
    """A short body.

    Raises:
        HTTPException: 413, it is longer.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most_bytes:
            raise HTTPException(413, f"The body is longer than {most_bytes >> 10} KiB.")
    return bytes(body)


async def json_of(request: Request) -> dict:
    """A body of JSON; an empty one is an empty object.

    Raises:
        HTTPException: 400, it is something else.
    """
    body = await body_of(request, MOST_JSON_BYTES)
    try:
        content = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "The body is no JSON; expected an object.") from error
    if not isinstance(content, dict):
        raise HTTPException(400, "The body is JSON, but no object; expected one.")
    return content


def text_in(content: dict, name: str, default: str | None = None) -> str | None:
    """A text of an object.

    Raises:
        HTTPException: 400, it is no text.
    """
    value = content.get(name, default)
    if value is not None and not isinstance(value, str):
        raise HTTPException(400, f"`{name}` is {type(value).__name__}; expected a text.")
    return value


def has_webrtc() -> bool:
    """Whether aiortc is installed, which wants Python 3.11."""
    return importlib.util.find_spec("aiortc") is not None


def has_voice() -> bool:
    """Whether texts can be spoken."""
    return importlib.util.find_spec(LOADER) is not None or shutil.which(PROGRAM) is not None


async def health(request: Request) -> Response:
    """Say whether the server takes work."""
    closing = services_of(request).sessions.is_closing
    return JSONResponse({"status": "ending" if closing else "ok"}, 503 if closing else 200)


async def config(request: Request) -> Response:
    """Say who can talk and what else a page needs to know."""
    services = services_of(request)
    settings = services.settings
    servers = [
        {"urls": url, "username": settings.ice_username, "credential": settings.ice_password}
        if url.startswith("turn")
        else {"urls": url}
        for url in settings.ice_servers
    ]
    return JSONResponse(
        {
            "talkers": services.library.names(),
            "text": has_voice(),
            "webrtc": has_webrtc(),
            "ice_servers": servers,
            "pages": request.app.state.pages,
        }
    )


async def metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    text = prometheus_text(services_of(request).sessions)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


async def openapi(request: Request) -> Response:
    """The interface's description."""
    return JSONResponse(openapi_document())


async def create(request: Request) -> Response:
    """Begin a session."""
    talker = text_in(await json_of(request), "talker")
    session = await services_of(request).sessions.create(talker)
    place = f"/sessions/{session.id}"
    return JSONResponse(session.state(), 201, {"location": place, **MARK_HEADER})


async def state(request: Request) -> Response:
    """Say what a session is doing."""
    return JSONResponse(session_of(request).state(), headers=MARK_HEADER)


async def delete(request: Request) -> Response:
    """End a session."""
    await services_of(request).sessions.delete(request.path_params["session_id"])
    return Response(status_code=204)


async def offer(request: Request) -> Response:
    """Connect a browser: its offer in, the answer out, as in WHIP."""
    session = session_of(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != SDP:
        return refusal(415, f"The offer is {kind[:60] or 'of no type'}; expected {SDP}.")
    if not has_webrtc():
        return refusal(
            501,
            "WebRTC needs the package aiortc, which is not installed here (it wants Python 3.11)."
            " Use the media WebSocket.",
        )
    body = await body_of(request, MOST_OFFER_BYTES)
    from gaussiantalker_ns.live.sessions.webrtc import connect

    text = body.decode("utf-8", "replace")
    answer = await connect(session, text, services_of(request).settings)
    place = f"/sessions/{session.id}"
    return Response(answer, 201, {"location": place, **MARK_HEADER}, media_type=SDP)


async def sound(request: Request) -> Response:
    """Let a session speak a recording, any file that FFmpeg reads."""
    services, session = services_of(request), session_of(request)
    samples = await uploaded_sound(request, services.worker, services.settings.max_body_bytes)
    session.intake.say(samples)
    return JSONResponse(session.state(), 202, MARK_HEADER)


async def text(request: Request) -> Response:
    """Let a session speak a text, by the voice that is installed."""
    services, session = services_of(request), session_of(request)
    words = text_in(await json_of(request), "text", "")
    samples = await spoken_text(words or "", services.worker)
    session.intake.say(samples)
    return JSONResponse(session.state(), 202, MARK_HEADER)


async def interrupt(request: Request) -> Response:
    """Let a session forget what it was about to say."""
    session = session_of(request)
    session.intake.interrupt()
    return JSONResponse(session.state(), headers=MARK_HEADER)


def api_routes() -> list[Route]:
    """The routes of this module."""
    one = "/sessions/{session_id}"
    return [
        Route("/health", health),
        Route("/config", config),
        Route("/metrics", metrics),
        Route("/openapi.json", openapi),
        Route("/sessions", create, methods=["POST"]),
        Route(one, state),
        Route(one, delete, methods=["DELETE"]),
        Route(f"{one}/offer", offer, methods=["POST"]),
        Route(f"{one}/sound", sound, methods=["POST"]),
        Route(f"{one}/text", text, methods=["POST"]),
        Route(f"{one}/interrupt", interrupt, methods=["POST"]),
    ]
