"""Intake of a session: everything it hears, on one timeline of 48 kHz samples.

The number of samples on the timeline is the session's only clock; sound and pictures leave by it.
A microphone drives it, so that a device whose clock is a little fast or slow stays in step for any
time. Where none sends, samples are added as time passes: silence, or speech that waits its turn.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Int16

from gaussiantalker_ns.audio.streaming import StreamResampler
from gaussiantalker_ns.timebase import FPS

RATE_HZ = 48_000
"""Rate of the timeline, WebRTC's."""

SAMPLES_PER_PICTURE = RATE_HZ // FPS

KEPT_S = 4
"""Sound that stays readable after it was heard."""

LIVE_GAP_S = 0.25
"""A microphone that is silent on the wire for so long no longer drives the clock."""

BURST_S = 0.3
"""How much later a microphone's samples may come than they should, and all at once."""

FASTEST = 1.01
"""Samples that come faster than this times their rate for long are dropped."""

GRAIN = RATE_HZ // 100
"""The timeline grows by multiples of 10 ms where nobody sends."""

LONGEST_GAP_S = 1.0
"""A longer pause of the server itself is not made up for."""

MOST_SPEECH_S = 300
"""Speech that may wait."""


class Intake:
    """The timeline, and what is still to be said.

    `push_live`, `say`, `interrupt` and `tick` belong to one thread (the event loop); `read` may be
    called from others.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._ring = np.zeros(KEPT_S * RATE_HZ, np.int16)
        self._lock = threading.Lock()
        self._position = 0
        self._resampler = StreamResampler(RATE_HZ)
        self._speech: deque[Int16[np.ndarray, " m"]] = deque()
        self.num_waiting = 0
        """Samples of speech that wait."""
        self._last_live = -np.inf
        self._advanced_at = self._accrued_at = now()
        self._budget = BURST_S * RATE_HZ
        self.num_dropped = 0
        """Samples that were not taken: from a microphone that is too fast, or speech too long."""
        self.speech_end = 0
        """Where on the timeline the last sample of speech lies."""

    @property
    def position(self) -> int:
        """Samples on the timeline."""
        return self._position

    @property
    def is_live(self) -> bool:
        """Whether a microphone drives the clock now."""
        return self._now() - self._last_live < LIVE_GAP_S

    def push_live(self, samples: np.ndarray, sample_rate_hz: int) -> None:
        """Take what a microphone has just heard: mono `[m]`, float in [-1, 1] or int16.

        Raises:
            ValueError: The samples or the rate are none.
        """
        now = self._now()
        if sample_rate_hz == RATE_HZ and samples.dtype == np.int16 and samples.ndim == 1:
            heard = samples
        else:
            heard = to_int16(self._resampler.push(samples, sample_rate_hz))
        self._last_live = now
        self._accrue(now)
        taken = min(len(heard), int(self._budget))
        self.num_dropped += len(heard) - taken
        self._append(heard[len(heard) - taken :], now)

    def say(self, samples: Float32[np.ndarray, " m"] | Int16[np.ndarray, " m"]) -> None:
        """Let speech at 48 kHz wait for its turn; it takes the place of the microphone."""
        room = MOST_SPEECH_S * RATE_HZ - self.num_waiting
        taken = samples[: max(room, 0)]
        self.num_dropped += len(samples) - len(taken)
        if len(taken):
            self._speech.append(to_int16(taken))
            self.num_waiting += len(taken)

    def interrupt(self) -> None:
        """Forget the speech that waits."""
        self._speech.clear()
        self.num_waiting = 0

    def tick(self) -> None:
        """Let time pass; to be called every 20 ms or so."""
        now = self._now()
        self._accrue(now)
        if now - self._last_live < LIVE_GAP_S:
            return
        passed = now - self._advanced_at
        if passed > LONGEST_GAP_S:
            self._advanced_at = now - LONGEST_GAP_S
            passed = LONGEST_GAP_S
        count = int(passed * RATE_HZ) // GRAIN * GRAIN
        # The clock of this machine, not of this call: what is left over counts at the next one.
        self._append(np.zeros(count, np.int16), self._advanced_at + count / RATE_HZ)

    def read(self, start: int, count: int) -> Int16[np.ndarray, " m"]:
        """Samples of the timeline; zeros where they are forgotten or not yet heard."""
        with self._lock:
            return self._read(start, count)

    def read_new(self, start: int) -> tuple[int, Int16[np.ndarray, " m"]]:
        """The first sample at or after `start` that is still there, and all from there on."""
        with self._lock:
            first = max(start, self._position - len(self._ring))
            return first, self._read(first, self._position - first)

    def _read(self, start: int, count: int) -> Int16[np.ndarray, " m"]:
        found = np.zeros(count, np.int16)
        first = max(start, self._position - len(self._ring), 0)
        last = min(start + count, self._position)
        if first < last:
            offset = first % len(self._ring)
            head = self._ring[offset : offset + last - first]
            tail = self._ring[: last - first - len(head)]
            found[first - start : last - start] = np.concatenate([head, tail])
        return found

    def _accrue(self, now: float) -> None:
        grown = self._budget + (now - self._accrued_at) * RATE_HZ * FASTEST
        self._budget, self._accrued_at = min(grown, BURST_S * RATE_HZ), now

    def _append(self, heard: Int16[np.ndarray, " m"], now: float) -> None:
        self._budget -= len(heard)
        self._advanced_at = now
        spoken = self._spoken(len(heard))
        if len(spoken):
            self.speech_end = self._position + len(spoken)
            heard = np.concatenate([spoken, heard[len(spoken) :]])
        with self._lock:
            offset = self._position % len(self._ring)
            room = len(self._ring) - offset
            self._ring[offset : offset + len(heard)] = heard[:room]
            self._ring[: max(len(heard) - room, 0)] = heard[room:]
            self._position += len(heard)

    def _spoken(self, count: int) -> Int16[np.ndarray, " m"]:
        """Take up to `count` samples of the speech that waits."""
        parts: list[Int16[np.ndarray, " m"]] = []
        while count and self._speech:
            first = self._speech.popleft()
            parts.append(first[:count])
            if len(first) > count:
                self._speech.appendleft(first[count:])
            count -= len(parts[-1])
            self.num_waiting -= len(parts[-1])
        return np.concatenate([np.zeros(0, np.int16), *parts])


def to_int16(samples: np.ndarray) -> Int16[np.ndarray, " m"]:
    """Samples in [-1, 1] as 16-bit numbers; louder ones are clipped."""
    if samples.dtype == np.int16:
        return samples
    return np.clip(np.round(samples * 32768.0), -32768, 32767).astype(np.int16)
