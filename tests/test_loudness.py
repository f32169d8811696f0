"""Speech comes to one loudness, silence stays silent, and a stream finds the same gain."""

import numpy as np
import pytest

from gaussiantalker_ns.audio.loudness import MAX_GAIN, WINDOW_SAMPLES, RunningGain, speech_gain

TARGET_RMS = 10 ** (-23 / 20)


def tone(rms: float, num_windows: int) -> np.ndarray:
    phase = 2 * np.pi * 200 * np.arange(num_windows * WINDOW_SAMPLES) / 16_000
    return (rms * np.sqrt(2) * np.sin(phase)).astype(np.float32)


@pytest.mark.parametrize("factor", [0.25, 1.0, 4.0])
def test_gain_undoes_a_known_level(factor: float):
    assert speech_gain(tone(TARGET_RMS * factor, 10)) == pytest.approx(1 / factor, rel=1e-4)


def test_pauses_do_not_count():
    speech = tone(TARGET_RMS / 2, 5)
    with_pauses = np.concatenate([speech, np.zeros(20 * WINDOW_SAMPLES, dtype=np.float32)])
    assert speech_gain(with_pauses) == pytest.approx(2.0, rel=1e-4)


def test_silence_is_not_amplified():
    assert speech_gain(np.zeros(16_000, dtype=np.float32)) == 1.0
    assert speech_gain(tone(10 ** (-65 / 20), 4)) == 1.0


def test_gain_is_bounded():
    assert speech_gain(tone(10 ** (-58 / 20), 4)) == MAX_GAIN


def test_recording_shorter_than_a_window():
    assert speech_gain(tone(TARGET_RMS / 2, 1)[:3_200]) == pytest.approx(2.0, rel=1e-3)
    assert speech_gain(np.zeros(0, dtype=np.float32)) == 1.0


def test_running_gain_settles_at_the_gain_of_the_recording():
    quiet = tone(TARGET_RMS / 3, 150)
    gain = RunningGain(initial=1.0, memory_s=5.0)
    gain.push(quiet)
    assert gain.value == pytest.approx(speech_gain(quiet), rel=0.01)


def test_running_gain_ignores_pauses():
    gain = RunningGain(initial=2.0)
    gain.push(np.zeros(100 * WINDOW_SAMPLES, dtype=np.float32))
    assert gain.value == pytest.approx(2.0)


def test_running_gain_does_not_depend_on_chunks():
    samples = np.concatenate([tone(0.02, 7), tone(0.2, 5)])
    whole, pieces = RunningGain(), RunningGain()
    whole.push(samples)
    for start in range(0, len(samples), 999):
        pieces.push(samples[start : start + 999])
    assert pieces.value == whole.value
