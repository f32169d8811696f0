"""Frame worker: the thread of one session that turns what it hears into pictures.

A thread that falls behind does less for each frame: it encodes longer hops at once, leaves out the
pictures that are due already, and when a second is waiting it goes on at the newest sound.
"""

import threading
import time
from dataclasses import dataclass

import numpy as np

from gaussiantalker_ns.audio.streaming import StreamResampler
from gaussiantalker_ns.inference.stream.talker_stream import TalkerStream
from gaussiantalker_ns.live.sessions.delay import AdaptiveDelay
from gaussiantalker_ns.live.sessions.intake import RATE_HZ, SAMPLES_PER_PICTURE, Intake
from gaussiantalker_ns.live.sessions.pictures import PictureBuffer, VisibleMark
from gaussiantalker_ns.timebase import SAMPLE_RATE_HZ

LEAST_NEW = RATE_HZ // 50
"""Samples that the thread waits for, 20 ms."""

MOST_BACKLOG = RATE_HZ
"""Samples that may wait for the thread, one second."""

PAST_SAMPLES = 2 * RATE_HZ
"""What the encoder is given of the sound before a jump."""

COST_MEMORY_FRAMES = 50
"""Frames over which the cost is averaged."""


@dataclass
class WorkerFigures:
    """What a worker has done."""

    rendered: int = 0
    """Pictures made."""
    skipped: int = 0
    """Pictures left out because they were due already."""
    jumps: int = 0
    """Times that the thread went on at the newest sound."""
    cost_ms: float = 0.0
    """Processor time for 40 ms of sound and its picture, averaged."""
    error: str | None = None
    """What ended the thread before its time."""


class FrameWorker:
    """Renders the pictures of one session in a thread of its own."""

    def __init__(
        self,
        stream: TalkerStream,
        intake: Intake,
        pictures: PictureBuffer,
        delay: AdaptiveDelay,
        mark: VisibleMark | None,
        name: str,
    ) -> None:
        """Begin to work.

        Args:
            stream: Where sound becomes frames; closed at the end.
            intake: What the session hears.
            pictures: Where the pictures go.
            delay: How long after its sound was heard a picture is shown; told when they are ready.
            mark: Written into every picture.
            name: Name of the thread.
        """
        self.figures = WorkerFigures()
        self._stream, self._intake, self._pictures = stream, intake, pictures
        self._delay, self._mark = delay, mark
        self._resampler = StreamResampler(SAMPLE_RATE_HZ)
        self._heard = 0
        self._spent = 0.0
        self._closed = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Say that there is more to hear."""
        if self._intake.position - self._heard >= LEAST_NEW:
            with self._news:
                self._news.notify()

    def close(self) -> None:
        """End the thread and wait for it."""
        with self._news:
            self._closed = True
            self._news.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._wait():
                self._step()
        except Exception as error:  # Shown by the session's state; the thread ends.
            self.figures.error = f"{type(error).__name__}: {error}"
        finally:
            self._stream.close()

    def _wait(self) -> bool:
        with self._news:
            while not self._closed and self._intake.position - self._heard < LEAST_NEW:
                self._news.wait(1.0)
            return not self._closed

    def _step(self) -> None:
        """Hear what is new and render what is complete."""
        began, before = time.thread_time(), self._stream.next_frame
        if self._intake.position - self._heard > MOST_BACKLOG:
            self._jump()
        self._heard, samples = self._intake.read_new(self._heard)
        self._heard += len(samples)
        self._stream.push_audio(self._resampler.push(samples, RATE_HZ), SAMPLE_RATE_HZ)
        rendered = 0
        self._stream.skip_until(self._first_not_due())
        for number, frame in self._stream.numbered_frames():
            # A renderer may hand out the same array again.
            picture = np.ascontiguousarray(frame[..., :3]).copy()
            if self._mark is not None:
                self._mark.draw(picture)
            self._pictures.put(number, picture)
            self._delay.note(self._spare(number))
            rendered += 1
            if self._closed:
                break
            self._stream.skip_until(self._first_not_due())
        passed = self._stream.next_frame - before
        self.figures.rendered += rendered
        skipped = max(passed - rendered, 0)
        self.figures.skipped += skipped
        for _ in range(skipped):
            self._delay.note(-SAMPLES_PER_PICTURE)
        self._count_cost(time.thread_time() - began, passed)

    def _first_not_due(self) -> int:
        return (self._intake.position - self._delay.samples) // SAMPLES_PER_PICTURE + 1

    def _spare(self, number: int) -> int:
        """Samples until a picture is due."""
        return number * SAMPLES_PER_PICTURE + self._delay.samples - self._intake.position

    def _jump(self) -> None:
        """Leave out all but the newest sound."""
        frame = self._intake.position // SAMPLES_PER_PICTURE - 1
        start = frame * SAMPLES_PER_PICTURE
        past = self._intake.read(start - PAST_SAMPLES, PAST_SAMPLES)
        earlier = StreamResampler(SAMPLE_RATE_HZ)
        heard = [earlier.push(past, RATE_HZ), earlier.flush()]
        self._stream.jump(frame, np.concatenate(heard))
        self._resampler = StreamResampler(SAMPLE_RATE_HZ)
        self._heard = start
        self.figures.jumps += 1

    def _count_cost(self, seconds: float, num_frames: int) -> None:
        """Average the processor time of this thread; steps without a frame add to the next one."""
        self._spent += seconds
        if num_frames <= 0:
            return
        cost_ms, self._spent = 1e3 * self._spent / num_frames, 0.0
        weight = min(num_frames / COST_MEMORY_FRAMES, 1.0)
        known = self.figures.cost_ms or cost_ms
        self.figures.cost_ms = (1 - weight) * known + weight * cost_ms
