"""The sync offset of clips whose sound was moved by a known amount."""

import numpy as np
import pytest

from gaussiantalker_ns.audio.encoders.base import AudioFeatureEncoder
from gaussiantalker_ns.audio.sync import LAGS_MS, estimate_av_offset
from gaussiantalker_ns.timebase import advance_samples

TOLERANCE_MS = 3.0
"""The lips are an exact function of the sound, so only the parabola is at work."""


class LoudnessEncoder(AudioFeatureEncoder):
    """Loudness in 32 bands of 20 ms: a stand-in for Whisper that needs no weights."""

    name = "loudness"
    window_items = 2
    feature_size = 40

    def encode_prepared(self, samples: np.ndarray) -> np.ndarray:
        # Token j covers 320 samples around 0.020 j seconds.
        tokens = np.pad(samples, (160, 0))[: len(samples)].reshape(-1, 320)
        spectra = np.log(np.abs(np.fft.rfft(tokens, axis=1))[:, 1:41] + 1e-3)
        return spectra.reshape(-1, 2, 40).astype(np.float32)


def talk(num_frames: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return modulated noise and the loudness in the middle of every frame: mouth opening."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal(num_frames // 4 + 4)
    time = np.arange(num_frames * 640) / (4 * 640)
    loudness = np.interp(time, np.arange(len(steps)) - 0.5, steps)
    samples = 0.05 * np.exp(loudness) * rng.standard_normal(len(time))
    return samples.astype(np.float32), loudness[320::640, None]


@pytest.mark.parametrize("offset_ms", [-60.0, 0.0, 37.0, 110.0, 200.0])
def test_known_shift_is_found(offset_ms: float):
    samples, opening = talk(500)
    late = advance_samples(samples, -offset_ms)
    estimate = estimate_av_offset(late, opening, LoudnessEncoder())
    assert estimate.offset_ms == pytest.approx(offset_ms, abs=TOLERANCE_MS)
    assert estimate.confidence > 0.8
    assert estimate.standard_error_ms < 10
    assert estimate.correlations.shape == LAGS_MS.shape == estimate.lags_ms.shape
    assert estimate.correlations.max() > 0.8


def test_frames_without_a_face_are_left_out():
    samples, opening = talk(500)
    opening[100:150] = np.nan
    estimate = estimate_av_offset(advance_samples(samples, -50.0), opening, LoudnessEncoder())
    assert estimate.offset_ms == pytest.approx(50.0, abs=TOLERANCE_MS)


@pytest.mark.parametrize("num_frames", [200, 500, 1000])
def test_unrelated_sound_gives_no_confidence_and_is_called_foreign(num_frames: int):
    moved, named = 0, 0
    for seed in range(8):
        samples, _ = talk(num_frames, seed=2 * seed)
        _, opening = talk(num_frames, seed=2 * seed + 1)
        estimate = estimate_av_offset(samples, opening, LoudnessEncoder())
        moved += estimate.confidence > 0.3
        named += estimate.is_foreign
    assert moved == 0
    assert named >= 7


def test_own_sound_is_recognised_the_surer_the_longer_the_clip():
    chances = []
    for num_frames in (100, 200, 500):
        samples, opening = talk(num_frames)
        noise = np.random.default_rng(5).normal(size=opening.shape)
        estimate = estimate_av_offset(samples, opening + noise, LoudnessEncoder())
        assert not estimate.is_foreign
        chances.append(estimate.chance)
    assert chances[0] > chances[1] > chances[2]
    assert chances[2] < 1e-6


def test_slow_trends_that_fit_by_chance_are_no_evidence():
    """Both get louder and wider over the clip, as after a pause; nothing else goes together."""
    samples, _ = talk(300)
    _, opening = talk(300, seed=1)
    samples *= np.linspace(0.01, 1.0, len(samples), dtype=np.float32)
    opening += 3 * np.linspace(-1, 1, len(opening))[:, None]
    estimate = estimate_av_offset(samples, opening, LoudnessEncoder())
    assert estimate.correlations.max() > 0.5
    assert estimate.confidence < 0.3 and estimate.is_foreign


def test_lips_that_do_not_move_give_no_confidence():
    samples, opening = talk(300)
    still = 0.02 + 0.001 * np.random.default_rng(0).normal(size=opening.shape)
    for lips in (still, np.full_like(opening, 0.02)):
        estimate = estimate_av_offset(samples, lips, LoudnessEncoder())
        assert estimate.confidence < 0.1 and estimate.is_foreign


def test_silence_gives_no_confidence():
    _, opening = talk(300)
    silence = np.zeros(300 * 640, dtype=np.float32)
    estimate = estimate_av_offset(silence, opening, LoudnessEncoder())
    assert estimate.confidence == 0.0
    assert np.isfinite(estimate.correlations).all()


def test_too_short_clip_gives_zero_and_no_confidence():
    samples, opening = talk(50)
    estimate = estimate_av_offset(samples, opening, LoudnessEncoder())
    assert (estimate.offset_ms, estimate.confidence) == (0.0, 0.0)
    assert estimate.chance == 1.0 and not estimate.is_foreign


def test_shift_with_whisper_features():
    samples, opening = talk(300)
    estimate = estimate_av_offset(advance_samples(samples, -80.0), opening)
    assert estimate.offset_ms == pytest.approx(80.0, abs=15.0)


def test_advance_samples_keeps_the_length():
    samples = np.arange(1, 6, dtype=np.float32)
    assert advance_samples(samples, 2.0, sample_rate_hz=1_000).tolist() == [3, 4, 5, 0, 0]
    assert advance_samples(samples, -2.0, sample_rate_hz=1_000).tolist() == [0, 0, 1, 2, 3]
    assert advance_samples(samples, 9.0, sample_rate_hz=1_000).tolist() == [0] * 5
    assert advance_samples(samples, -9.0, sample_rate_hz=1_000).tolist() == [0] * 5
