"""A session's clock: counted in samples, whatever the microphone's and the machine's clocks do."""

import numpy as np
import pytest

from gaussiantalker_ns.live.sessions.intake import (
    BURST_S,
    LIVE_GAP_S,
    MOST_SPEECH_S,
    RATE_HZ,
    Intake,
)

TICK_S = 0.02
PACKET = RATE_HZ // 50


class Clock:
    """A time that passes when it is told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def intake(clock):
    return Intake(clock)


def pass_time(intake, clock, seconds):
    for _ in range(round(seconds / TICK_S)):
        clock.now += TICK_S
        intake.tick()


def test_without_a_microphone_time_passes(intake, clock):
    pass_time(intake, clock, 3.0)
    assert intake.position == pytest.approx(3 * RATE_HZ, abs=RATE_HZ // 50)
    assert not intake.read(0, RATE_HZ).any()


@pytest.mark.parametrize("ppm", [200, -200])
def test_a_microphone_is_the_clock_for_half_an_hour(intake, clock, ppm):
    """1800 s of a microphone that is 200 ppm fast or slow: each of its samples is on the timeline,
    at its own place, so that sound and picture cannot drift from each other."""
    piece = 5 * PACKET
    for number in range(1800 * 10):
        clock.now += 5 * TICK_S / (1 + ppm * 1e-6)
        heard = np.full(piece, number, np.int16)
        intake.push_live(heard, RATE_HZ)
        intake.tick()
        if number % 1000 == 0:
            assert np.array_equal(intake.read(number * piece, piece), heard)
    assert intake.position == 1800 * RATE_HZ
    assert intake.num_dropped == 0


def test_another_rate_does_not_drift(intake, clock):
    """Ten minutes at 44.1 kHz are ten minutes of timeline, but for the resampler's last samples."""
    for _ in range(600 * 5):
        clock.now += 10 * TICK_S
        intake.push_live(np.zeros(8820, np.int16), 44_100)
    assert intake.position == pytest.approx(600 * RATE_HZ, abs=100)


def test_a_silent_wire_does_not_stop_the_clock(intake, clock):
    intake.push_live(np.zeros(PACKET, np.int16), RATE_HZ)
    assert intake.is_live
    pass_time(intake, clock, 2.0)
    assert not intake.is_live
    assert intake.position == pytest.approx(2 * RATE_HZ + PACKET, abs=PACKET)


def test_late_packets_after_a_gap_do_not_run_ahead(intake, clock):
    """What was missing for a second comes all at once: most of it is dropped and counted."""
    intake.push_live(np.zeros(PACKET, np.int16), RATE_HZ)
    pass_time(intake, clock, 1.0)
    before = intake.position
    for _ in range(50):
        intake.push_live(np.ones(PACKET, np.int16), RATE_HZ)
    assert intake.position - before <= BURST_S * RATE_HZ
    assert intake.num_dropped >= (1 - BURST_S) * RATE_HZ - PACKET


def test_jitter_within_the_gap_loses_nothing(intake, clock):
    for _ in range(100):
        clock.now += 0.2
        assert clock.now - 0.2 < clock.now - 0.2 + LIVE_GAP_S
        for _ in range(10):
            intake.push_live(np.ones(PACKET, np.int16), RATE_HZ)
        intake.tick()
    assert intake.num_dropped == 0 and intake.position == 1000 * PACKET


def test_a_flood_is_bounded(intake, clock):
    for _ in range(1000):
        intake.push_live(np.ones(RATE_HZ, np.int16), RATE_HZ)
    assert intake.position <= BURST_S * RATE_HZ
    assert intake.num_dropped == 1000 * RATE_HZ - intake.position


def test_speech_takes_the_microphones_place_at_the_clocks_pace(intake, clock):
    intake.say(np.full(3 * PACKET, 0.5, np.float32))
    intake.push_live(np.full(2 * PACKET, 7, np.int16), RATE_HZ)
    assert (intake.read(0, 2 * PACKET) == 16_384).all() and intake.num_waiting == PACKET
    clock.now += 0.04
    intake.push_live(np.full(2 * PACKET, 7, np.int16), RATE_HZ)
    assert (intake.read(2 * PACKET, PACKET) == 16_384).all()
    assert (intake.read(3 * PACKET, PACKET) == 7).all()
    assert intake.speech_end == 3 * PACKET


def test_an_interruption_forgets_what_waits(intake, clock):
    intake.say(np.ones(10 * RATE_HZ, np.int16))
    pass_time(intake, clock, 0.1)
    intake.interrupt()
    end = intake.position
    pass_time(intake, clock, 0.5)
    assert intake.num_waiting == 0 and intake.speech_end == end
    assert not intake.read(end, RATE_HZ // 4).any()


def test_speech_that_is_too_long_is_dropped_and_counted(intake):
    for _ in range(MOST_SPEECH_S + 5):
        intake.say(np.ones(RATE_HZ, np.int16))
    assert intake.num_waiting == MOST_SPEECH_S * RATE_HZ
    assert intake.num_dropped == 5 * RATE_HZ


def test_old_samples_are_forgotten(intake, clock):
    intake.say(np.arange(10 * RATE_HZ, dtype=np.int64).astype(np.int16))
    pass_time(intake, clock, 8.0)
    first, samples = intake.read_new(0)
    assert len(samples) == 4 * RATE_HZ and first == intake.position - len(samples)
    assert samples[0] == np.int64(first).astype(np.int16)
    assert not intake.read(0, 10).any()


def test_a_sleeping_machine_does_not_make_up_for_it(intake, clock):
    clock.now += 3600
    intake.tick()
    assert intake.position <= RATE_HZ
