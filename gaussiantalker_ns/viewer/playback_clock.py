"""Playback clock: one for all browsers, corrected by the sound that is played.

Sound is the clock. Between two reports of the page whose sound leads, time goes on by the server's
own clock; a report moves it. The clock knows neither viser nor the model.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import RLock

from gaussiantalker_ns.timebase import FPS

JUMP_S = 0.12
"""A reported position that is further off than this is taken over at once."""

SMOOTHING = 0.2
"""Fraction of a smaller difference that is taken over: network jitter is averaged away."""

SPEEDS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Playback speeds a user can choose."""


@dataclass(frozen=True)
class PlaybackState:
    """What to show at some time."""

    epoch: int
    """Number of the uninterrupted stretch of playback; every seek or pause begins a new one."""
    frame: int
    """Frame of the soundtrack."""
    playing: bool
    """Whether time goes on."""


class Timeline:
    """Position, speed and loop of the playback; safe to use from several threads."""

    def __init__(self, num_frames: int, now: Callable[[], float] = time.monotonic) -> None:
        """Stand still at the first frame.

        Args:
            num_frames: Frames of the soundtrack.
            now: Clock in seconds.
        """
        assert num_frames > 0, "a soundtrack has at least one frame"
        self._now = now
        self._lock = RLock()
        self._num_frames = num_frames
        self._anchor_s = 0.0
        self._anchor_time = now()
        self._playing = False
        self.epoch = 0
        self.speed = 1.0
        self.loop = False
        self.leader: int | None = None
        """Browser whose sound is the clock."""

    @property
    def num_frames(self) -> int:
        """Frames of the soundtrack."""
        return self._num_frames

    @property
    def duration_s(self) -> float:
        """Length of the soundtrack."""
        return self._num_frames / FPS

    @property
    def playing(self) -> bool:
        """Whether time goes on."""
        return self._playing

    @property
    def frame(self) -> int:
        """The frame that is heard now."""
        return self.playback_state().frame

    @property
    def position_s(self) -> float:
        """The time that is heard now; a loop begins anew, everything else stops at the end."""
        with self._lock:
            position = self._anchor_s
            if self._playing:
                position += self.speed * (self._now() - self._anchor_time)
            return self._folded(position)

    def playback_state(self, lead_s: float = 0.0) -> PlaybackState:
        """What will be heard in `lead_s` seconds; while time stands still, the frame it stands at.

        Args:
            lead_s: Time that passes until a picture that is begun now can be seen.
        """
        with self._lock:
            position = self.position_s + (self.speed * lead_s if self._playing else 0.0)
            frame = int(self._folded(position) * FPS + 1e-6)
            return PlaybackState(self.epoch, min(frame, self._num_frames - 1), self._playing)

    def seconds_until_next_frame(self, lead_s: float = 0.0) -> float:
        """How long it takes until `playback_state(lead_s)` changes."""
        with self._lock:
            position = (self.position_s + self.speed * lead_s) * FPS
            return (1.0 - position % 1.0) / FPS / self.speed

    def play(self, leader: int | None) -> None:
        """Let time go on; at the end it begins at the start.

        Args:
            leader: Browser whose sound is the clock.
        """
        with self._lock:
            at_end = self.playback_state().frame >= self._num_frames - 1
            self._restart(0.0 if at_end else self.position_s, playing=True)
            self.leader = leader

    def pause(self) -> None:
        """Stand still at the present frame."""
        with self._lock:
            self._restart(self.playback_state().frame / FPS, playing=False)

    def seek(self, frame: int) -> None:
        """Go to a frame; playback goes on if it was on."""
        with self._lock:
            self._restart(min(max(frame, 0), self._num_frames - 1) / FPS, self._playing)

    def finish(self, epoch: int) -> bool:
        """Stand still at the last frame, unless somebody has done something else meanwhile.

        Args:
            epoch: Stretch of playback that has come to its end.

        Returns:
            Whether it was still that stretch.
        """
        with self._lock:
            if epoch != self.epoch or not self._playing:
                return False
            self._restart((self._num_frames - 1) / FPS, playing=False)
            return True

    def change_speed(self, speed: float) -> None:
        """Play faster or slower from now on."""
        assert speed > 0, "time runs forwards"
        with self._lock:
            position = self.position_s
            self.speed = speed
            self._restart(position, self._playing)

    def change_track(self, num_frames: int) -> None:
        """Stand still at the first frame of another soundtrack."""
        with self._lock:
            self._num_frames = num_frames
            self._restart(0.0, playing=False)

    def report(self, browser: int, epoch: int, seconds: float) -> float | None:
        """Take note of what a browser plays.

        Args:
            browser: Who reports.
            epoch: Stretch of playback the report belongs to; older ones are ignored.
            seconds: Position of its sound.

        Returns:
            How far a browser that follows is ahead of the clock in seconds; None for the leader.
        """
        with self._lock:
            if epoch != self.epoch or not self._playing:
                return None
            ahead = seconds - self.position_s
            if self.loop:
                ahead = (ahead + self.duration_s / 2) % self.duration_s - self.duration_s / 2
            if browser != self.leader:
                return ahead
            step = ahead if abs(ahead) > JUMP_S else SMOOTHING * ahead
            self._anchor_s = self._folded(self.position_s + step)
            self._anchor_time = self._now()
            return None

    def _restart(self, position_s: float, playing: bool) -> None:
        self._anchor_s, self._anchor_time = position_s, self._now()
        self._playing = playing
        self.epoch += 1

    def _folded(self, position_s: float) -> float:
        if self.loop:
            return position_s % self.duration_s
        return min(max(position_s, 0.0), self.duration_s)
