"""Manager of sessions: admission by measured cost, the clock's tick, and ends.

A session is admitted when all sessions together would take at most `MOST_LOAD` of the cores, by
what a picture of each talker has been measured to cost on this machine.
"""

import asyncio
import json
import os
import time
from contextlib import suppress
from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy as np
import torch
from starlette.exceptions import HTTPException

from gaussiantalker_ns.inference.motion import MotionConfig
from gaussiantalker_ns.inference.provenance import Provenance
from gaussiantalker_ns.inference.scene import Scene
from gaussiantalker_ns.inference.stream.latency import LatencyConfig
from gaussiantalker_ns.inference.talker import Talker
from gaussiantalker_ns.kernels.compile import num_threads, set_num_threads
from gaussiantalker_ns.live.library import TalkerLibrary
from gaussiantalker_ns.live.sessions.session import LiveSession
from gaussiantalker_ns.live.settings import ServerSettings
from gaussiantalker_ns.timebase import FPS, SAMPLE_RATE_HZ

TICK_S = 0.02

MOST_LOAD = 0.8
"""Fraction of the cores that sessions may take together."""

MEASURED_S = 1.0
"""Length of the sound with which a talker is tried out."""

ENCODING_NS_PER_PIXEL = 20.0
"""Processor time of encoding a picture as video (VP8 18, H.264 32 at 256 px)."""

RETRY_AFTER_S = 10

HARD_LIMIT = 256
"""Most sessions, however cheap."""


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class SessionManager:
    """All sessions of a server."""

    def __init__(self, settings: ServerSettings, library: TalkerLibrary) -> None:
        self._settings, self._library = settings, library
        self._sessions: dict[str, LiveSession] = {}
        self._costs: WeakKeyDictionary[Talker, float] = WeakKeyDictionary()
        """Milliseconds for a picture, when the talker was tried out."""
        self._ticker: asyncio.Task | None = None
        self._ends: set[asyncio.Task] = set()
        self._threads_before: tuple[int, int] | None = None
        self._admission = asyncio.Lock()
        self.num_admitted = self.num_refused = 0
        self.is_closing = False

    def start(self) -> None:
        """Let time pass, in the running event loop."""
        self._ticker = asyncio.create_task(self._tick(), name="session-clock")

    def all(self) -> list[LiveSession]:
        """The sessions there are."""
        return list(self._sessions.values())

    def get(self, session_id: str) -> LiveSession:
        """A session by its name.

        Raises:
            HTTPException: 404, there is none.
        """
        session = self._sessions.get(session_id)
        if session is None:
            raise HTTPException(404, "There is no such session; it may have ended. Begin another.")
        return session

    async def create(self, talker_name: str | None = None) -> LiveSession:
        """Begin a session.

        Raises:
            HTTPException: 404 for an unknown talker, 503 where the machine has no time for it.
        """
        async with self._admission:
            name, talker = await self._talker(talker_name)
            cost = await asyncio.to_thread(self._expected_cost, talker)
            self._check_admission(cost)
            scene, latency = self._scene(), self._latency()
            stream = await asyncio.to_thread(talker.stream, MotionConfig(), scene, None, latency)
            session = LiveSession(
                name,
                stream,
                stream.size,
                self._settings.margin_ms,
                self._settings.visible_mark,
                cost - encoding_ms(stream.size),
                await asyncio.to_thread(live_mark, talker),
            )
            self._sessions[session.id] = session
            self.num_admitted += 1
            return session

    async def delete(self, session_id: str) -> None:
        """End a session.

        Raises:
            HTTPException: 404, there is none.
        """
        session = self.get(session_id)
        del self._sessions[session_id]
        await session.close()

    async def warm_up(self) -> None:
        """Load the first talker and try it out, so that nobody waits for compilers."""
        _, talker = await self._talker(None)
        await asyncio.to_thread(self._expected_cost, talker)

    async def close(self) -> None:
        """End everything."""
        self.is_closing = True
        if self._ticker is not None:
            self._ticker.cancel()
            with suppress(asyncio.CancelledError):
                await self._ticker
        sessions = self.all()
        self._sessions.clear()
        await asyncio.gather(*(session.close() for session in sessions), *self._ends)
        if self._threads_before is not None:
            set_num_threads(*self._threads_before)

    async def _talker(self, name: str | None) -> tuple[str, Talker]:
        names = self._library.names()
        name = names[0] if name is None else name
        if name not in names:
            raise HTTPException(
                404, f"There is no talker of that name; there are {', '.join(names)}."
            )
        talker = await asyncio.to_thread(self._library.load, name)
        if talker.checkpoint.model.device.type == "cpu":
            # Sessions are served side by side, each by a thread of its own.
            self._threads_before = self._threads_before or (num_threads(), torch.get_num_threads())
            set_num_threads(1)
        return name, talker

    def _scene(self) -> Scene:
        return Scene(size=self._settings.size)

    def _latency(self) -> LatencyConfig:
        # A session that falls behind has to catch up.
        return replace(self._settings.latency, adaptive=True)

    def _check_admission(self, cost_ms: float) -> None:
        limit = self._settings.max_sessions
        if self.is_closing:
            self._refuse("the server is about to end")
        if len(self._sessions) >= min(HARD_LIMIT if limit is None else limit, HARD_LIMIT):
            self._refuse(f"{len(self._sessions)} sessions are open, which is the most")
        if limit is not None:
            return
        load = self.load_ms() + cost_ms
        room = MOST_LOAD * num_cores() * 1000 / FPS
        # The first session is let in on any machine: with fewer pictures it still talks.
        if self._sessions and load > room:
            self._refuse(
                f"with another session every 40 ms of sound would take {load:.0f} ms of this"
                f" machine's processors, which have {room:.0f} ms for them"
            )

    def _refuse(self, reason: str) -> None:
        self.num_refused += 1
        raise HTTPException(
            503,
            f"No further session is possible now: {reason}. Try again later.",
            {"retry-after": str(RETRY_AFTER_S)},
        )

    def load_ms(self) -> float:
        """Processor time that all sessions take for 40 ms of sound."""
        costs = (session.cost_ms + encoding_ms(session.size) for session in self.all())
        return sum(costs, 0.0)

    def _expected_cost(self, talker: Talker) -> float:
        """Milliseconds for a picture of a talker, measured once; kernels are compiled by it."""
        if talker not in self._costs:
            stream = talker.stream(MotionConfig(), self._scene(), 1.0, self._latency())
            size = stream.size
            generator = np.random.default_rng(0)
            noise = 0.05 * generator.standard_normal(int(MEASURED_S * SAMPLE_RATE_HZ))
            samples = noise.astype(np.float32)
            half = len(samples) // 2
            spent, num_frames = 0.0, 1
            try:
                # The first half compiles and loads what is needed.
                for part in (samples[:half], samples[half:]):
                    began = time.thread_time()
                    num_frames = 0
                    for start in range(0, len(part), 640):
                        stream.push_audio(part[start : start + 640], SAMPLE_RATE_HZ)
                        num_frames += sum(1 for _ in stream.frames())
                    spent = time.thread_time() - began
            finally:
                stream.close()
            self._costs[talker] = 1000 * spent / max(num_frames, 1) + encoding_ms(size)
        return self._costs[talker]

    async def _tick(self) -> None:
        """Advance the clocks that no microphone drives; end sessions that nobody uses."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_S)
            for session in self.all():
                session.tick()
                idle_s = loop.time() - session.last_used
                if session.num_readers == 0 and idle_s > self._settings.idle_timeout_s:
                    self._sessions.pop(session.id, None)
                    self._ends.add(task := asyncio.create_task(session.close()))
                    task.add_done_callback(self._ends.discard)


def live_mark(talker: Talker) -> dict[str, str]:
    """The synthetic-media mark of a live stream, as tags of its file."""
    origin = talker.checkpoint.origin()
    provenance = Provenance(
        method=talker.checkpoint.method,
        checkpoint=origin.checkpoint,
        checkpoint_sha256=origin.checkpoint_sha256,
        audio="live",
        audio_sha256="",
        consent=None if origin.consent is None else json.dumps(origin.consent, sort_keys=True),
        settings=origin.settings,
    )
    return provenance.container_metadata()


def encoding_ms(size: int) -> float:
    """Processor time of encoding one picture."""
    return size * size * ENCODING_NS_PER_PIXEL * 1e-6
