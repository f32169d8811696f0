"""WebSockets of a session: sound in, a video stream out."""

import asyncio
import contextlib
import json
from collections.abc import Coroutine
from typing import Any

import numpy as np
from starlette.exceptions import HTTPException
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from gaussiantalker_ns.audio.streaming import StreamResampler
from gaussiantalker_ns.live.api import MARK_HEADER
from gaussiantalker_ns.live.errors import refusal
from gaussiantalker_ns.live.sessions.fragments import MIME_TYPES, FragmentWriter
from gaussiantalker_ns.live.sessions.intake import RATE_HZ, SAMPLES_PER_PICTURE
from gaussiantalker_ns.live.sessions.session import LiveSession, SessionClosedError

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 8_000, 192_000

STEP = RATE_HZ // 50
"""How often it is looked whether a session goes on, in samples."""

MOST_LAG_UNITS = 8
"""Pictures that a reader may be behind; one that is slower goes on at the newest."""

BAD_DATA, GOING_AWAY = 1007, 1001
"""WebSocket close codes."""

MARK_HEADERS = [(name.encode(), value.encode()) for name, value in MARK_HEADER.items()]


async def _session_of(websocket: WebSocket) -> LiveSession | None:
    """The session that the path names; the socket is refused where there is none."""
    try:
        return websocket.app.state.services.sessions.get(websocket.path_params["session_id"])
    except HTTPException as error:
        await websocket.send_denial_response(refusal(error.status_code, error.detail))
        return None


async def _first_of(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run coroutines until one ends; the others are cancelled, and its error is raised."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def media(websocket: WebSocket) -> None:
    """Send a session as fragmented MP4, a message for each picture with its sound."""
    session = await _session_of(websocket)
    if session is None:
        return
    sound = websocket.query_params.get("audio", "opus")
    if sound not in MIME_TYPES:
        said = refusal(400, f"audio is {sound[:20]!r}; expected one of {', '.join(MIME_TYPES)}.")
        await websocket.send_denial_response(said)
        return
    await websocket.accept(headers=MARK_HEADERS)
    writer = FragmentWriter(session.size, sound, session.metadata)  # pyright: ignore[reportArgumentType]
    try:
        with session.reading(), contextlib.suppress(WebSocketDisconnect):
            await websocket.send_json({"type": "media", "mime": MIME_TYPES[sound]})
            await _first_of(_send_units(websocket, session, writer), _until_gone(websocket))
    except SessionClosedError:
        with contextlib.suppress(RuntimeError):
            await websocket.close(GOING_AWAY, "the session has ended")
    finally:
        await asyncio.to_thread(writer.close)


async def _until_gone(websocket: WebSocket) -> None:
    """Return when the client has closed the socket; what it says is not for us."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        continue


async def _send_units(websocket: WebSocket, session: LiveSession, writer: FragmentWriter) -> None:
    number = max(session.released, 0) // SAMPLES_PER_PICTURE
    while True:
        await session.wait_for((number + 1) * SAMPLES_PER_PICTURE)
        newest = session.released // SAMPLES_PER_PICTURE - 1
        if newest - number > MOST_LAG_UNITS:
            session.figures.dropped += newest - number
            number = newest
        picture = session.picture(number)
        if picture is not None:
            samples = session.sound(number * SAMPLES_PER_PICTURE, SAMPLES_PER_PICTURE)
            await websocket.send_bytes(await asyncio.to_thread(writer.write, picture, samples))
        number += 1


async def audio(websocket: WebSocket) -> None:
    """Take 16-bit mono samples: speech that waits its turn, or a microphone (`mode=live`)."""
    session = await _session_of(websocket)
    if session is None:
        return
    rate, mode = websocket.query_params.get("rate", "16000"), websocket.query_params.get("mode")
    in_range = rate.isascii() and rate.isdigit() and len(rate) < 7
    if not in_range or not LOWEST_RATE_HZ <= int(rate) <= HIGHEST_RATE_HZ:
        said = f"rate is {rate[:20]!r}; expected {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ}."
        await websocket.send_denial_response(refusal(400, said))
        return
    if mode not in (None, "speech", "live"):
        said = refusal(400, f"mode is {mode[:20]!r}; expected speech or live.")
        await websocket.send_denial_response(said)
        return
    await websocket.accept(headers=MARK_HEADERS)
    source = _AudioSource(websocket, session, int(rate), mode == "live")
    try:
        with session.reading(), contextlib.suppress(WebSocketDisconnect):
            await _first_of(source.listen(), _until_closed(session))
    except SessionClosedError:
        with contextlib.suppress(RuntimeError):
            await websocket.close(GOING_AWAY, "the session has ended")
    except ValueError as error:
        with contextlib.suppress(RuntimeError):
            await websocket.close(BAD_DATA, str(error)[:120])
    finally:
        source.close()


async def _until_closed(session: LiveSession) -> None:
    """Raise `SessionClosedError` when the session ends."""
    while True:
        await session.wait_for(session.released + STEP)


class _AudioSource:
    """What one audio socket sends."""

    def __init__(self, websocket: WebSocket, session: LiveSession, rate: int, live: bool) -> None:
        self._websocket, self._session = websocket, session
        self._rate, self._live = rate, live
        self._resampler = StreamResampler(RATE_HZ)
        self._announcement: asyncio.Task | None = None

    async def listen(self) -> None:
        """Take messages until the client leaves.

        Raises:
            ValueError: A message is not what it should be.
        """
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("bytes") is not None:
                await self._take(message["bytes"])
            else:
                await self._obey(message.get("text") or "")

    async def _take(self, data: bytes) -> None:
        if len(data) % 2:
            raise ValueError(f"{len(data)} bytes are no 16-bit samples; expected an even number.")
        samples = np.frombuffer(data, "<i2").astype(np.int16)
        intake = self._session.intake
        before = intake.num_dropped
        if self._live:
            self._session.push_live(samples, self._rate)
        else:
            intake.say(self._resampler.push(samples, self._rate))
        dropped = intake.num_dropped - before
        if dropped:
            await self._websocket.send_json({"type": "dropped", "seconds": dropped / RATE_HZ})

    async def _obey(self, text: str) -> None:
        try:
            kind = json.loads(text)["type"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError('A text message is {"type": "flush"} or "interrupt".') from error
        if kind == "flush":
            if not self._live:
                self._session.intake.say(self._resampler.flush())
            self._stop_announcing()
            self._announcement = asyncio.create_task(self._announce_end())
        elif kind == "interrupt":
            self._resampler = StreamResampler(RATE_HZ)
            self._session.intake.interrupt()
            self._stop_announcing()
            await self._websocket.send_json({"type": "interrupted"})
        else:
            raise ValueError('A text message is {"type": "flush"} or "interrupt".')

    async def _announce_end(self) -> None:
        """Tell the client when all that it has sent was let go."""
        with contextlib.suppress(SessionClosedError, WebSocketDisconnect, RuntimeError):
            while self._session.is_speaking:
                await self._session.wait_for(self._session.released + STEP)
            await self._websocket.send_json({"type": "spoken"})

    def _stop_announcing(self) -> None:
        if self._announcement is not None:
            self._announcement.cancel()

    def close(self) -> None:
        """End what still waits."""
        self._stop_announcing()


def socket_routes() -> list[WebSocketRoute]:
    """The routes of this module."""
    return [
        WebSocketRoute("/sessions/{session_id}/media", media),
        WebSocketRoute("/sessions/{session_id}/audio", audio),
    ]
