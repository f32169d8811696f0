"""When sound and pictures leave: an even pace, and a delay that is longer on a busy machine."""

import math
import time
from collections.abc import Callable

from gaussiantalker_ns.live.sessions.intake import RATE_HZ, Intake

STEP = RATE_HZ // 50
"""The delay changes by multiples of 20 ms, the length of a packet of sound."""

UP, DOWN = 2 * STEP, STEP

MOST_ABOVE = 8 * STEP
"""How far the delay may rise above its target, 160 ms; later pictures are left out."""

CHECKED_FRAMES = 25
"""Pictures after which the delay may be raised."""

TOLERATED_LATE = 1
"""Late pictures among them that change nothing."""

QUIET_FRAMES = 125
"""Pictures in time after which it may be lowered."""

SPARE = 2 * STEP
"""What must have been left of the time of each of them."""


STARTING_FRAMES = 25
"""Pictures at the beginning that are not counted: caches are cold."""

FOLLOWING_S = 1.0
"""Time over which the pace follows the timeline's growth."""

LOST_S = 0.25
"""A distance from the timeline at which the pace begins anew."""

SLEW = 0.05
"""How fast a changed delay is taken up, in seconds a second; receivers stretch sound so far."""


class AdaptiveDelay:
    """Follows when pictures are ready. Its worker's thread calls `note`, others read `samples`."""

    def __init__(self, target_samples: int) -> None:
        self.target = -(-target_samples // STEP) * STEP
        """What it is when the machine has time."""
        self.samples = self.target
        """What it is now."""
        self._num_starting = STARTING_FRAMES
        self._num_seen = self._num_late = self._num_quiet = 0
        self._least_spare = RATE_HZ

    def note(self, spare_samples: int) -> None:
        """Take into account how long before its time a picture was ready; negative is late."""
        if self._num_starting:
            self._num_starting -= 1
            return
        self._num_seen += 1
        self._num_late += spare_samples < 0
        self._num_quiet = self._num_quiet + 1 if spare_samples >= 0 else 0
        self._least_spare = min(self._least_spare, spare_samples)
        if self._num_seen >= CHECKED_FRAMES:
            if self._num_late > TOLERATED_LATE:
                self.samples = min(self.samples + UP, self.target + MOST_ABOVE)
                self._begin_anew()
            self._num_seen = self._num_late = 0
        if self._num_quiet >= QUIET_FRAMES:
            if self._least_spare > SPARE:
                self.samples = max(self.samples - DOWN, self.target)
            self._begin_anew()

    def _begin_anew(self) -> None:
        self._num_quiet, self._least_spare = 0, RATE_HZ


class Pace:
    """Lets sound and pictures go evenly, although the timeline grows in packets.

    The timeline is the clock: its growth is followed over a second, so that a microphone that is
    fast or slow is kept up with, and nothing leaves that has not been heard.
    """

    def __init__(
        self, intake: Intake, delay: AdaptiveDelay, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._intake, self._delay, self._now = intake, delay, now
        self._offset_s: float | None = None
        """Seconds on the timeline ahead of this machine's clock."""
        self._noted_at = self._slewed_at = now()
        self._delay_now = float(delay.samples)

    def note(self) -> None:
        """Look at the timeline, which has just grown."""
        now = self._now()
        offset_s = self._intake.position / RATE_HZ - now
        if self._offset_s is None or abs(offset_s - self._offset_s) > LOST_S:
            self._offset_s = offset_s
        else:
            weight = 1 - math.exp(-(now - self._noted_at) / FOLLOWING_S)
            self._offset_s += weight * (offset_s - self._offset_s)
        self._noted_at = now

    @property
    def released(self) -> int:
        """The sample up to which sound and pictures may leave."""
        now = self._now()
        most = (now - self._slewed_at) * RATE_HZ * SLEW
        self._slewed_at = now
        wanted = self._delay.samples - self._delay_now
        self._delay_now += min(max(wanted, -most), most)
        if self._offset_s is None:
            return -self._delay.samples
        even = (now + self._offset_s) * RATE_HZ - self._delay_now
        return min(int(even), self._intake.position)
