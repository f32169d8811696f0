"""Log-mel spectrum: the input of the Whisper encoder."""

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from gaussiantalker_ns.timebase import SAMPLE_RATE_HZ

NUM_MELS = 80
FFT_SAMPLES = 400
HOP_SAMPLES = 160
"""Mel frame j is centred at 0.010 j seconds."""

LOG10_CEILING = 1.5
"""Stands in for the loudest value of the recording, which Whisper clamps the spectrum against.

A constant makes the features of a window independent of the rest of the recording, so that a
stream and a file give the same ones; the samples must be normalised for it (`loudness.py`).
"""

LOG10_RANGE = 8.0


@lru_cache(maxsize=4)
def mel_filters(device: str = "cpu") -> Float32[Tensor, "80 201"]:
    """Return Whisper's filter bank: Slaney's scale from 0 to 8 kHz, normalised by area."""
    edges = slaney_hz(np.linspace(0.0, slaney_mels(SAMPLE_RATE_HZ / 2), NUM_MELS + 2))
    bins = np.linspace(0.0, SAMPLE_RATE_HZ / 2, FFT_SAMPLES // 2 + 1)
    distances, widths = edges[:, None] - bins, np.diff(edges)[:, None]
    rising, falling = -distances[:-2] / widths[:-1], distances[2:] / widths[1:]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    filters *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return torch.from_numpy(filters.astype(np.float32)).to(device)


def slaney_mels(hz: float) -> float:
    """Slaney's mel scale: linear up to 1 kHz (15 mel), 27 mel per factor of 6.4 above."""
    return hz * 3.0 / 200.0 if hz < 1000.0 else 15.0 + 27.0 * math.log(hz / 1000.0) / math.log(6.4)


def slaney_hz(mels: Float64[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
    """The inverse of `slaney_mels`."""
    return np.where(mels < 15.0, mels * 200.0 / 3.0, 1000.0 * 6.4 ** ((mels - 15.0) / 27.0))


def log_mel(samples: Float32[Tensor, "*b samples"]) -> Float32[Tensor, "*b 80 m"]:
    """Return Whisper's log-mel spectrum, one column per 10 ms, about in [-0.6, 1.4].

    The windows are centred, with reflection at both ends, so at least 201 samples are needed.
    """
    spectrum = torch.stft(
        samples,
        n_fft=FFT_SAMPLES,
        hop_length=HOP_SAMPLES,
        window=torch.hann_window(FFT_SAMPLES, device=samples.device),
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    power = spectrum[..., :-1].abs() ** 2
    mel = mel_filters(str(samples.device)) @ power
    log10_mel = mel.clamp(min=1e-10).log10().clamp(min=LOG10_CEILING - LOG10_RANGE)
    return (log10_mel + 4.0) / 4.0
