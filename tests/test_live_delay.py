"""The pace at which a session lets sound and pictures go, and its delay on a busy machine."""

import numpy as np
import pytest

from gaussiantalker_ns.live.sessions.delay import MOST_ABOVE, STARTING_FRAMES, AdaptiveDelay, Pace
from gaussiantalker_ns.live.sessions.intake import RATE_HZ, Intake

PACKET = RATE_HZ // 100
TARGET = int(0.24 * RATE_HZ)


class Clock:
    """A time that passes when it is told to."""

    def __init__(self):
        self.now = 50.0

    def __call__(self):
        return self.now


def started(target=TARGET):
    delay = AdaptiveDelay(target)
    for _ in range(STARTING_FRAMES):
        delay.note(-RATE_HZ)
    return delay


def test_the_first_pictures_do_not_count():
    assert started().samples == TARGET


def test_late_pictures_raise_the_delay_and_it_falls_again():
    delay = started()
    for _ in range(500):
        delay.note(-1)
    assert delay.samples == TARGET + MOST_ABOVE
    for _ in range(3000):
        delay.note(RATE_HZ // 10)
    assert delay.samples == TARGET


def test_one_late_picture_changes_nothing():
    delay = started()
    for number in range(1000):
        delay.note(-1 if number % 25 == 0 else 100)
    assert delay.samples == TARGET


def test_a_delay_without_time_to_spare_stays():
    delay = started()
    for _ in range(25):
        delay.note(-1)
    raised = delay.samples
    for _ in range(1000):
        delay.note(10)
    assert TARGET < raised == delay.samples


@pytest.mark.parametrize("ppm", [0, 200, -200])
def test_packets_that_come_unevenly_leave_evenly(ppm):
    """Three minutes with up to 30 ms of jitter: the delay stays, and 10 ms take 10 ms."""
    clock = Clock()
    intake = Intake(clock)
    pace = Pace(intake, AdaptiveDelay(TARGET), clock)
    random = np.random.default_rng(0)
    true_s, released, behind = 50.0, [], []
    for number in range(20_000):
        true_s += 0.01 / (1 + ppm * 1e-6)
        clock.now = max(clock.now, true_s + random.uniform(0, 0.03))
        intake.push_live(np.zeros(PACKET, np.int16), RATE_HZ)
        pace.note()
        if number > 1000:
            heard = (clock.now - 50.0) * (1 + ppm * 1e-6) * RATE_HZ
            released.append((clock.now, pace.released))
            behind.append((heard - released[-1][1]) / RATE_HZ)
    assert intake.num_dropped == 0
    # What is heard at a moment leaves 0.24 s and a mean jitter of 20 ms later, always.
    assert np.ptp(behind) < 0.01 and np.mean(behind) == pytest.approx(0.26, abs=0.01)
    steps = np.diff(np.array(released), axis=0)
    even = steps[:, 1] / RATE_HZ - steps[:, 0]
    assert np.abs(even).max() < 0.002


def test_a_changed_delay_is_taken_up_slowly():
    clock = Clock()
    intake = Intake(clock)
    delay = AdaptiveDelay(TARGET)
    pace = Pace(intake, delay, clock)
    pace.note()
    delay.samples += RATE_HZ // 25
    places = []
    for _ in range(200):
        clock.now += 0.01
        intake.push_live(np.zeros(PACKET, np.int16), RATE_HZ)
        pace.note()
        places.append(pace.released)
    steps = np.diff(places)
    assert steps.min() >= 0.9 * PACKET
    assert places[-1] == pytest.approx(intake.position - delay.samples, abs=PACKET)


def test_nothing_leaves_that_was_not_heard():
    clock = Clock()
    intake = Intake(clock)
    pace = Pace(intake, AdaptiveDelay(TARGET), clock)
    intake.push_live(np.zeros(PACKET, np.int16), RATE_HZ)
    pace.note()
    clock.now += 10
    assert pace.released == PACKET
