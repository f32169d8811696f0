"""The interface's description of itself (OpenAPI 3.1); WebSockets stand in its text."""

from importlib.metadata import version
from typing import Any

DESCRIPTION = """
Sessions of a talking head. A session hears a microphone (WebRTC, or a WebSocket with `mode=live`)
or speech that waits its turn (a WebSocket, a file, a text) and gives sound and pictures in step,
over WebRTC or as fragmented MP4 over a WebSocket. All pictures are synthetic; answers say so in the
header `synthetic-media`.

Where the server has a token, send `Authorization: Bearer TOKEN`, or `?token=TOKEN` to a WebSocket.

**`WS /sessions/{session_id}/audio?rate=16000&mode=speech`** takes binary messages of mono samples
(16 bit, little endian, 8000 to 192000 Hz). `mode=speech`: they may come faster than they are spoken
and wait, up to 300 s. `mode=live`: they come as they are heard and drive the session's clock. Text
messages: `{"type": "flush"}` ends an utterance and is answered by `{"type": "spoken"}` when all of
it was let go; `{"type": "interrupt"}` forgets what waits. `{"type": "dropped", "seconds": s}` says
that sound was not taken.

**`WS /sessions/{session_id}/media?audio=opus`** sends `{"type": "media", "mime": ...}`, then binary
messages: a fragmented MP4 (H.264 with Opus or, with `audio=aac`, AAC), one message for each picture
with its 40 ms of sound, for MediaSource or a file. A reader that is too slow goes on at the newest
picture, without a gap in the time stamps.
""".strip()


def _answer(text: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"description": text, **({"content": content} if content else {})}


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


TEXT, NUMBER, COUNT, FLAG = ({"type": name} for name in ("string", "number", "integer", "boolean"))

SCHEMAS = {
    "Error": {**_object(error=TEXT), "required": ["error"]},
    "Session": {
        **_object(
            id=TEXT,
            talker=TEXT,
            size=COUNT,
            fps=COUNT,
            delay_ms=NUMBER,
            speaking=FLAG,
            waiting_s=NUMBER,
            microphone=FLAG,
            readers=COUNT,
            rendered=COUNT,
            skipped=COUNT,
            repeated=COUNT,
            dropped=COUNT,
            dropped_s=NUMBER,
            cost_ms=NUMBER,
            error={"type": ["string", "null"]},
        ),
        "required": ["id", "talker", "size", "fps", "delay_ms"],
    },
    "Config": _object(
        talkers={"type": "array", "items": TEXT},
        text=FLAG,
        webrtc=FLAG,
        ice_servers={"type": "array", "items": {"type": "object"}},
        pages={"type": "array", "items": TEXT},
    ),
    "Health": _object(status=TEXT),
}

REFUSALS = {
    400: "What was sent cannot be used",
    401: "The token is missing or wrong",
    403: "The request comes from a page of another server",
    404: "There is no such session or talker",
    408: "It took too long",
    409: "The session has too many connections",
    413: "What was sent is too long",
    415: "What was sent is of another kind",
    501: "This server lacks what is needed",
    503: "There is no room for another session; see Retry-After",
}


def _operation(
    summary: str,
    name: str,
    good: dict[int, dict[str, Any]],
    refusals: tuple[int, ...] = (),
    body: dict[str, Any] | None = None,
) -> dict[str, Any]:
    answers = {str(status): answer for status, answer in good.items()}
    for status in sorted({*refusals, 401, 403}):
        answers[str(status)] = _answer(REFUSALS[status], _json("Error"))
    request = {} if body is None else {"requestBody": {"required": True, "content": body}}
    return {"summary": summary, "operationId": name, "responses": answers, **request}


def _session_paths() -> dict[str, Any]:
    session = _answer("The session", _json("Session"))
    binary = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
    words = {"application/json": {"schema": {**_object(text=TEXT), "required": ["text"]}}}
    sdp = {"application/sdp": {"schema": TEXT}}
    key = {"name": "session_id", "in": "path", "required": True, "schema": TEXT}
    gone = _answer("The session has ended")
    one = "/sessions/{session_id}"
    paths = {
        one: {
            "get": _operation("What a session is doing", "readSession", {200: session}, (404,)),
            "delete": _operation("End a session", "endSession", {204: gone}, (404,)),
        },
        f"{one}/offer": {
            "post": _operation(
                "Connect a browser: offer in, answer out (as in WHIP)",
                "connectSession",
                {201: _answer("The answer", sdp)},
                (400, 404, 409, 413, 415, 501),
                sdp,
            )
        },
        f"{one}/sound": {
            "post": _operation(
                "Speak a recording: any audio or video file, up to 300 s",
                "speakSound",
                {202: session},
                (400, 404, 408, 413, 415),
                binary,
            )
        },
        f"{one}/text": {
            "post": _operation(
                "Speak a text, by the voice that is installed",
                "speakText",
                {202: session},
                (400, 404, 413, 501),
                words,
            )
        },
        f"{one}/interrupt": {
            "post": _operation(
                "Forget what was about to be said", "interruptSession", {200: session}, (404,)
            )
        },
    }
    return {path: {"parameters": [key], **operations} for path, operations in paths.items()}


def openapi_document() -> dict[str, Any]:
    """The whole description."""
    named = {"application/json": {"schema": _object(talker=TEXT)}}
    created = {
        "description": "The session; Location names it",
        "headers": {"Location": {"schema": TEXT}},
        "content": _json("Session"),
    }
    plain = {"text/plain": {"schema": TEXT}}
    health = _answer("It does", _json("Health"))
    config = _answer("The talkers, and what is installed", _json("Config"))
    create = _operation("Begin a session", "beginSession", {201: created}, (400, 404, 503), named)
    create["requestBody"]["required"] = False
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gaussiantalker serve",
            "version": version("gaussiantalker-ns"),
            "description": DESCRIPTION,
        },
        "paths": {
            "/health": {
                "get": {
                    **_operation("Whether the server takes work", "health", {200: health}),
                    "security": [],
                }
            },
            "/config": {
                "get": _operation("Who can talk", "config", {200: config}),
            },
            "/metrics": {
                "get": _operation(
                    "Figures for Prometheus", "metrics", {200: _answer("The figures", plain)}
                )
            },
            "/sessions": {"post": create},
            **_session_paths(),
        },
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }
