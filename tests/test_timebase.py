"""Frames and samples on one time base."""

import numpy as np
import pytest

from gaussiantalker_ns.timebase import (
    SAMPLES_PER_FRAME,
    advance_samples,
    context_offsets,
    fit_to_frames,
    list_times,
    num_frames_of,
    ping_pong,
    spans,
)


@pytest.mark.parametrize(("num_samples", "frames"), [(0, 1), (640, 1), (959, 1), (961, 2)])
def test_frames_of_a_recording(num_samples, frames):
    assert num_frames_of(num_samples) == frames


def test_context_of_even_and_odd_windows():
    assert list(context_offsets(8)) == [-4, -3, -2, -1, 0, 1, 2, 3]
    assert list(context_offsets(5)) == [-2, -1, 0, 1, 2]


def test_ping_pong_folds_positions():
    assert ping_pong(np.arange(9), 4).tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert ping_pong(np.arange(3), 1).tolist() == [0, 0, 0]


def test_advancing_and_fitting_keep_the_step():
    samples = np.arange(2 * SAMPLES_PER_FRAME, dtype=np.float32)
    earlier = advance_samples(samples, 40.0)
    assert earlier[0] == SAMPLES_PER_FRAME and len(earlier) == len(samples)
    assert len(fit_to_frames(earlier, 3, SAMPLES_PER_FRAME)) == 3 * SAMPLES_PER_FRAME


def test_frames_as_periods_and_times():
    assert spans([1, 2, 9], 3) == [(1, 2), (9, 9)]
    assert spans([], 3) == []
    assert list_times([25, 26, 27, 50], 1) == "1.0 to 1.1 s, 2.0 to 2.0 s"
    assert list_times(list(range(0, 1000, 100)), 1).endswith("28.0 s and 2 more")
