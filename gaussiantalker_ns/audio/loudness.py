"""Loudness normalisation of speech, so that features do not depend on the microphone's gain."""

import numpy as np
from jaxtyping import Float32, Float64

from gaussiantalker_ns.timebase import SAMPLE_RATE_HZ

TARGET_DBFS = -23.0
"""Root-mean-square level that active speech is brought to."""

WINDOW_SAMPLES = int(0.4 * SAMPLE_RATE_HZ)
"""Levels are measured over 0.4 s."""

ACTIVE_RANGE_DB = 25.0
"""Windows within this range of the loudest one count as active speech."""

SILENCE_DBFS = -60.0
"""Sound below this level is never amplified."""

MAX_GAIN = 30.0


def _power(dbfs: float) -> float:
    return 10.0 ** (dbfs / 10.0)


def window_powers(samples: Float32[np.ndarray, " samples"]) -> Float64[np.ndarray, " m"]:
    """Return the mean power of every full 0.4 s window, or of all if there is less than one."""
    num_full = len(samples) // WINDOW_SAMPLES
    full = samples[: num_full * WINDOW_SAMPLES].reshape(num_full, WINDOW_SAMPLES)
    powers = np.mean(full.astype(np.float64) ** 2, axis=1)
    tail = samples[num_full * WINDOW_SAMPLES :]
    if num_full == 0 and len(tail):
        powers = np.mean(tail.astype(np.float64) ** 2, keepdims=True)
    return powers


def speech_gain(samples: Float32[np.ndarray, " samples"]) -> float:
    """Return the factor that brings active speech to `TARGET_DBFS`; 1 if there is only silence.

    Example: a steady tone of RMS 0.0708 (-23 dBFS) gives 1.0, the same tone at half the amplitude
    gives 2.0.
    """
    if is_silent(samples):
        return 1.0
    powers = window_powers(samples)
    active = powers[powers >= powers.max() * _power(-ACTIVE_RANGE_DB)]
    return min(float(np.sqrt(_power(TARGET_DBFS) / active.mean())), MAX_GAIN)


def is_silent(samples: Float32[np.ndarray, " samples"]) -> bool:
    """Whether nothing in a recording is loud enough to be amplified: there is no speech in it."""
    powers = window_powers(samples)
    return not len(powers) or bool(powers.max() <= _power(SILENCE_DBFS))


class RunningGain:
    """The gain of `speech_gain` for a stream whose end is not known, following it slowly.

    Feed it every sample once; `value` is the gain to use now. It starts at `initial` (the gain of
    the training clip is a good choice) as if `memory_s` of active speech had been heard with it.
    """

    def __init__(self, initial: float = 1.0, memory_s: float = 10.0) -> None:
        self._rate = WINDOW_SAMPLES / SAMPLE_RATE_HZ / memory_s
        self._active_power = _power(TARGET_DBFS) / initial**2
        self._loudest = 0.0
        self._pending = np.zeros(0, dtype=np.float32)

    @property
    def value(self) -> float:
        """The present gain."""
        return min(float(np.sqrt(_power(TARGET_DBFS) / self._active_power)), MAX_GAIN)

    def push(self, samples: Float32[np.ndarray, " samples"]) -> None:
        """Take new samples into account."""
        self._pending = np.concatenate([self._pending, samples])
        num_full = len(self._pending) // WINDOW_SAMPLES
        for index in range(num_full):
            window = self._pending[index * WINDOW_SAMPLES : (index + 1) * WINDOW_SAMPLES]
            self._follow(float(np.mean(window.astype(np.float64) ** 2)))
        self._pending = self._pending[num_full * WINDOW_SAMPLES :]

    def _follow(self, power: float) -> None:
        # The loudest level fades, so that one bang does not make all later speech inactive.
        self._loudest = max(power, self._loudest * (1.0 - self._rate))
        if power > _power(SILENCE_DBFS) and power >= self._loudest * _power(-ACTIVE_RANGE_DB):
            self._active_power += self._rate * (power - self._active_power)
