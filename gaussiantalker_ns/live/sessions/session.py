"""A session: one talker, one listener's sound, and whoever watches and hears it.

Sound and picture number n leave when the timeline has grown by the delay beyond their beginning.
Readers pull: each has its own place on the timeline, and one that is too slow goes on at the newest
pictures, so that nothing piles up for it.
"""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int16, UInt8

from gaussiantalker_ns.inference.stream.talker_stream import TalkerStream
from gaussiantalker_ns.live.sessions.delay import AdaptiveDelay, Pace
from gaussiantalker_ns.live.sessions.frame_worker import FrameWorker
from gaussiantalker_ns.live.sessions.intake import RATE_HZ, SAMPLES_PER_PICTURE, Intake
from gaussiantalker_ns.live.sessions.pictures import PictureBuffer, VisibleMark

SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.001, 0.02
"""How long readers sleep at a time."""

ID_BYTES = 16
"""Names of sessions cannot be guessed."""


class SessionClosedError(Exception):
    """The session has ended."""


@dataclass
class ReaderFigures:
    """What readers of one session have got."""

    sent: int = 0
    """Pictures given to readers."""
    repeated: int = 0
    """Times that a picture was not ready and the one before it was given again."""
    dropped: int = 0
    """Pictures that a reader who was too slow did not get."""


class LiveSession:
    """One talker that is spoken to. Belongs to the event loop, but for its worker's thread."""

    def __init__(
        self,
        talker_name: str,
        stream: TalkerStream,
        size: int,
        margin_ms: float,
        visible_mark: bool,
        expected_cost_ms: float = 0.0,
        metadata: dict[str, str] | None = None,
        intake: Intake | None = None,
    ) -> None:
        """Begin; the clock runs from now on.

        Args:
            talker_name: Who talks.
            stream: Its stream, which the session closes.
            size: Side of the pictures in pixels.
            margin_ms: Time for computing beyond the stream's own delay.
            visible_mark: Whether pictures carry the sign.
            expected_cost_ms: Processor time for a picture, as long as it is not measured.
            metadata: The synthetic-media mark of its streams.
            intake: Where it hears; another one for tests.
        """
        assert stream.delay_s is not None, "only encoders that stream can talk live"
        self.id = secrets.token_urlsafe(ID_BYTES)
        self.talker_name, self.size = talker_name, size
        self.metadata = metadata or {}
        self.delay = AdaptiveDelay(round((stream.delay_s + margin_ms / 1000) * RATE_HZ))
        self.intake = intake or Intake()
        self.pictures = PictureBuffer()
        self.figures = ReaderFigures()
        self.is_closed = False
        self.num_readers = 0
        self.last_used = asyncio.get_running_loop().time()
        self._pace = Pace(self.intake, self.delay)
        self._at_close: list[Callable[[], Any]] = []
        self._expected_cost_ms = expected_cost_ms
        self.connections: list[Any] = []
        """WebRTC connections, open ones and some that have ended."""
        mark = VisibleMark(size) if visible_mark else None
        self.worker = FrameWorker(
            stream, self.intake, self.pictures, self.delay, mark, f"session-{self.id[:6]}"
        )

    @property
    def released(self) -> int:
        """The sample on the timeline up to which sound and pictures may leave."""
        return self._pace.released

    @property
    def delay_ms(self) -> float:
        """Time from hearing a sample to letting it and its picture go."""
        return 1000 * self.delay.samples / RATE_HZ

    @property
    def cost_ms(self) -> float:
        """Processor time for 40 ms of sound and its picture, as far as it is known."""
        return self.worker.figures.cost_ms or self._expected_cost_ms

    @property
    def is_speaking(self) -> bool:
        """Whether speech is waiting, or on its way out."""
        return self.intake.num_waiting > 0 or self.intake.speech_end > max(self.released, 0)

    def push_live(self, samples: np.ndarray, sample_rate_hz: int) -> None:
        """Take what a microphone has just heard."""
        before = self.intake.position
        self.intake.push_live(samples, sample_rate_hz)
        self._grown(before)

    def tick(self) -> None:
        """Let time pass where no microphone does."""
        before = self.intake.position
        self.intake.tick()
        self._grown(before)

    def _grown(self, before: int) -> None:
        if self.intake.position != before:
            self._pace.note()
            self.worker.wake()

    async def wait_for(self, position: int) -> None:
        """Return when sound up to a place on the timeline may leave.

        Raises:
            SessionClosedError: The session has ended.
        """
        while not self.is_closed:
            ahead_s = (position - self.released) / RATE_HZ
            if ahead_s <= 0:
                return
            await asyncio.sleep(min(max(ahead_s, SHORTEST_WAIT_S), LONGEST_WAIT_S))
        raise SessionClosedError

    def sound(self, start: int, count: int) -> Int16[np.ndarray, " m"]:
        """Samples of the timeline."""
        return self.intake.read(start, count)

    def picture(self, number: int) -> UInt8[np.ndarray, "h wd 3"] | None:
        """The picture that is to be shown at a number's time; None before the first one."""
        found = self.pictures.newest_until(number)
        if found is None:
            return None
        self.figures.sent += 1
        self.figures.repeated += found[0] != number
        return found[1]

    @contextmanager
    def reading(self):
        """Count somebody who watches or hears the session."""
        self.num_readers += 1
        try:
            yield
        finally:
            self.num_readers -= 1
            self.last_used = asyncio.get_running_loop().time()

    def at_close(self, call: Callable[[], Any]) -> None:
        """Have a function called, and awaited if it is a coroutine's, when the session ends."""
        self._at_close.append(call)

    async def close(self) -> None:
        """End the session; may be called more than once."""
        if self.is_closed:
            return
        self.is_closed = True
        for call in self._at_close:
            result = call()
            if asyncio.iscoroutine(result):
                await result
        await asyncio.to_thread(self.worker.close)

    def state(self) -> dict[str, Any]:
        """What the session is doing, for its page."""
        return {
            "id": self.id,
            "talker": self.talker_name,
            "size": self.size,
            "fps": RATE_HZ // SAMPLES_PER_PICTURE,
            "delay_ms": round(self.delay_ms),
            "speaking": self.is_speaking,
            "waiting_s": round(self.intake.num_waiting / RATE_HZ, 2),
            "microphone": self.intake.is_live,
            "readers": self.num_readers,
            "rendered": self.worker.figures.rendered,
            "skipped": self.worker.figures.skipped,
            "repeated": self.figures.repeated,
            "dropped": self.figures.dropped,
            "dropped_s": round(self.intake.num_dropped / RATE_HZ, 2),
            "cost_ms": round(self.cost_ms, 1),
            "error": self.worker.figures.error,
        }
