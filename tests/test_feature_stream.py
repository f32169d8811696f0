"""Windows of a stream: equal however the rows arrive, closed in silence, and a slow reference."""

import numpy as np
import pytest

from gaussiantalker_ns.audio.silence import frame_powers, silence_fractions
from gaussiantalker_ns.inference.feature_stream import FeatureStream

SPEECH_POWER = 10 ** (-23 / 10)
REST = np.full((2, 3), -1.0, np.float32)


def rows_and_powers(count=50, seed=0):
    rows = np.random.default_rng(seed).standard_normal((count, 2, 3)).astype(np.float32)
    powers = np.full(count, SPEECH_POWER)
    powers[20:35] = 0.0
    return rows, powers


def run(chunks, rows, powers, block_frames=4, **options):
    stream = FeatureStream(8, **options)
    windows = []
    first = 0
    for count in chunks:
        stream.push_powers(powers[first : first + count])
        stream.push_rows(rows[first : first + count])
        windows.extend(stream.blocks(block_frames))
        first += count
    stream.end()
    windows.extend(stream.blocks(block_frames))
    return np.concatenate(windows)


@pytest.mark.parametrize("chunks", [[50], [1] * 50, [3, 17, 2, 28]])
def test_windows_do_not_depend_on_the_chunks(chunks):
    rows, powers = rows_and_powers()
    options = {"silence": REST, "smoothing_frames": 0.8}
    assert np.array_equal(
        run(chunks, rows, powers, **options), run([50], rows, powers, block_frames=50, **options)
    )


def test_plain_windows_equal_a_loop():
    rows, powers = rows_and_powers()
    windows = run([50], rows, powers)
    for frame in range(50):
        for place, offset in enumerate(range(-4, 4)):
            assert np.array_equal(windows[frame, place], rows[min(max(frame + offset, 0), 49)])


def test_silence_becomes_the_silence_features():
    rows, powers = rows_and_powers()
    own = run([50], rows, powers, silence=REST)[:, 4]
    assert np.array_equal(own[23:32], np.broadcast_to(REST, (9, 2, 3)))
    assert np.array_equal(own[:15], rows[:15])


def test_smoothing_keeps_constant_rows():
    rows = np.ones((20, 2, 3), np.float32)
    windows = run([20], rows, np.full(20, SPEECH_POWER), smoothing_frames=1.5)
    assert np.abs(windows - 1).max() < 1e-6


def test_memory_is_bounded():
    stream = FeatureStream(8, silence=REST, smoothing_frames=1.0)
    rows, powers = rows_and_powers(1000)
    for first in range(0, 1000, 4):
        stream.push_powers(np.full(4, SPEECH_POWER))
        stream.push_rows(rows[first : first + 4])
        next(stream.blocks(4), None)
        assert len(stream._rows) < 40


def test_frame_power_of_a_tone():
    samples = np.sin(np.arange(16_000) * 0.3).astype(np.float32)
    assert frame_powers(samples) == pytest.approx(np.full(25, 0.5), rel=0.01)


def test_gate_is_open_for_speech_and_shut_for_room_noise():
    assert silence_fractions(np.full(9, SPEECH_POWER)).max() == 0
    assert silence_fractions(np.full(9, 10 ** (-60 / 10)))[2:-2].min() == 1
