"""Samples of a live stream at any rate, brought to the encoders' 16 kHz."""

import av
import numpy as np
from jaxtyping import Float32

from gaussiantalker_ns.audio import SAMPLE_RATE_HZ


class StreamResampler:
    """Resamples mono chunks without gaps between them; a new rate starts a new resampler."""

    def __init__(self) -> None:
        self._rate = SAMPLE_RATE_HZ
        self._resampler: av.AudioResampler | None = None

    def push(self, samples: np.ndarray, sample_rate_hz: int) -> Float32[np.ndarray, " k"]:
        """Take mono samples (float in [-1, 1] or int16) and return those ready at 16 kHz.

        Raises:
            ValueError: If the samples are not one row of finite numbers, or the rate is not
                positive.
        """
        if samples.ndim != 1 or samples.dtype.kind not in "fi":
            raise ValueError(
                f"The pushed audio has shape {samples.shape} and type {samples.dtype}; expected"
                " one row of mono samples, float in [-1, 1] or int16."
            )
        if sample_rate_hz <= 0:
            raise ValueError(f"The sample rate is {sample_rate_hz}; expected a positive number.")
        if samples.dtype.kind == "i":
            samples = samples / np.float32(np.iinfo(samples.dtype).max + 1)
        samples = samples.astype(np.float32)
        if not np.isfinite(samples).all():
            raise ValueError("The pushed audio holds NaN or infinite samples; expected numbers.")
        ready = self._switch(sample_rate_hz) if sample_rate_hz != self._rate else []
        if self._resampler is None:
            return np.concatenate([*ready, samples])
        if len(samples):
            frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
            frame.sample_rate = sample_rate_hz
            ready.extend(part.to_ndarray()[0] for part in self._resampler.resample(frame))
        return np.concatenate([np.zeros(0, np.float32), *ready])

    def flush(self) -> Float32[np.ndarray, " k"]:
        """Return what the resampler still holds; the next chunk begins a new stream."""
        return np.concatenate([np.zeros(0, np.float32), *self._switch(SAMPLE_RATE_HZ)])

    def _switch(self, rate: int) -> list[Float32[np.ndarray, " k"]]:
        rest = []
        if self._resampler is not None:
            rest = [part.to_ndarray()[0] for part in self._resampler.resample(None)]
        self._rate = rate
        plain = rate == SAMPLE_RATE_HZ
        self._resampler = (
            None if plain else av.AudioResampler(format="fltp", layout="mono", rate=SAMPLE_RATE_HZ)
        )
        return rest
