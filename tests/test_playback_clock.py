"""The clock of the timeline: positions, stretches of playback, and what browsers report."""

import pytest

from gaussiantalker_ns.viewer.playback_clock import JUMP_S, SMOOTHING, Timeline

FRAMES = 100  # Four seconds.


class Clock:
    def __init__(self):
        self.time = 50.0

    def __call__(self):
        return self.time


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def timeline(clock):
    return Timeline(FRAMES, clock)


def test_stands_still_until_it_plays(timeline, clock):
    clock.time += 3
    assert timeline.frame == 0
    timeline.play(leader=7)
    clock.time += 1
    assert timeline.frame == 25 and timeline.leader == 7


def test_pause_holds_the_frame_that_was_heard(timeline, clock):
    timeline.play(None)
    clock.time += 0.5
    timeline.pause()
    clock.time += 10
    assert timeline.frame == 12 and not timeline.playing


def test_a_picture_is_begun_before_its_frame_is_heard(timeline, clock):
    timeline.play(None)
    clock.time += 1
    assert timeline.playback_state(lead_s=0.2).frame == 30
    timeline.pause()
    assert timeline.playback_state(lead_s=0.2).frame == 25


def test_speed_changes_from_the_present_position_on(timeline, clock):
    timeline.play(None)
    clock.time += 1
    timeline.change_speed(0.5)
    clock.time += 1
    assert timeline.position_s == pytest.approx(1.5)
    assert timeline.seconds_until_next_frame() == pytest.approx(0.04)


def test_the_end_is_the_last_frame_and_play_begins_anew(timeline, clock):
    timeline.play(None)
    clock.time += 60
    assert timeline.frame == FRAMES - 1
    timeline.play(None)
    assert timeline.frame == 0


def test_the_end_of_a_stretch_that_somebody_has_left_is_none(timeline, clock):
    timeline.play(1)
    ended = timeline.epoch
    timeline.seek(0)
    assert not timeline.finish(ended) and timeline.playing and timeline.frame == 0
    assert timeline.finish(timeline.epoch) and not timeline.playing
    assert timeline.frame == timeline.num_frames - 1
    assert not timeline.finish(timeline.epoch), "it stands still already"


def test_a_loop_wraps_and_so_does_its_lead(timeline, clock):
    timeline.loop = True
    timeline.play(None)
    clock.time += 4.4
    assert timeline.frame == 10
    clock.time += 3.5
    assert timeline.playback_state(lead_s=0.2).frame == 2


def test_every_seek_begins_a_new_stretch_and_goes_on_playing(timeline, clock):
    timeline.play(None)
    before = timeline.epoch
    timeline.seek(50)
    clock.time += 0.2
    assert timeline.epoch == before + 1 and timeline.playing and timeline.frame == 55
    timeline.seek(10_000)
    assert timeline.frame == FRAMES - 1


def test_the_leaders_sound_moves_the_clock(timeline, clock):
    timeline.play(leader=1)
    clock.time += 1
    assert timeline.report(1, timeline.epoch, 0.95) is None
    assert timeline.position_s == pytest.approx(1 - SMOOTHING * 0.05)
    timeline.report(1, timeline.epoch, 0.95 - 2 * JUMP_S)
    assert timeline.position_s == pytest.approx(0.95 - 2 * JUMP_S)


def test_a_follower_is_told_how_far_ahead_it_is(timeline, clock):
    timeline.play(leader=1)
    clock.time += 1
    assert timeline.report(2, timeline.epoch, 1.3) == pytest.approx(0.3)
    assert timeline.position_s == pytest.approx(1.0)


def test_reports_across_the_seam_of_a_loop_are_close(timeline, clock):
    timeline.loop = True
    timeline.play(leader=1)
    clock.time += 3.98
    assert timeline.report(2, timeline.epoch, 0.02) == pytest.approx(0.04)


def test_reports_of_an_earlier_stretch_are_ignored(timeline, clock):
    timeline.play(leader=1)
    old = timeline.epoch
    timeline.seek(75)
    assert timeline.report(1, old, 0.1) is None
    assert timeline.frame == 75
