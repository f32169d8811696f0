"""Articulation code: the mouth's basis, out-of-fold predictions, what it never touches."""

import pytest
import torch

from gaussiantalker_ns.audio.articulation import (
    NUM_COMPONENTS,
    ArticulationConfig,
    MouthBasis,
    fit_articulation,
)

NUM_FRAMES, NUM_TRAIN, WINDOW = 400, 360, 8
CONFIG = ArticulationConfig(enabled=True, num_folds=3, steps=80, sequence_frames=64, width=16)


def make_clip(seed: int = 0):
    """Features of which the mouth is a smooth function, two frames later than heard."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, 1, NUM_FRAMES + 20, generator=generator)
    loud = torch.nn.functional.avg_pool1d(noise, 5, 1)[0, 0, :NUM_FRAMES] * 2
    mixing = torch.randn(2, 12, generator=generator)
    audio = loud[:, None, None] * mixing + 0.5 * torch.randn(NUM_FRAMES, 2, 12, generator=generator)
    opening = torch.roll(loud, 2)
    mouth = torch.stack([0.05 + 0.02 * opening, 0.5 - 0.01 * opening, 0.3 + 0.1 * opening], dim=1)
    return audio, mouth + 0.001 * torch.randn(NUM_FRAMES, 3, generator=generator)


def fit(audio, mouth, silence=None):
    silence = torch.zeros(0, WINDOW, 2, 12) if silence is None else silence
    closed = torch.topk(-mouth[:NUM_TRAIN, 0], 40).indices
    return fit_articulation(CONFIG, audio, mouth, torch.arange(NUM_TRAIN), silence, closed, WINDOW)


def windows_of(audio):
    seen = torch.arange(len(audio))[:, None] + torch.arange(-WINDOW // 2, WINDOW - WINDOW // 2)
    return audio[seen.clamp(0, len(audio) - 1)]


def correlation(first, second):
    return float(torch.corrcoef(torch.stack([first, second]))[0, 1])


def test_basis_gives_codes_of_unit_variance_and_weighs_the_outline():
    _, mouth = make_clip()
    basis = MouthBasis.of(mouth)
    codes = basis.encode(mouth)
    assert codes.shape == (NUM_FRAMES, NUM_COMPONENTS)
    assert codes[:, 0].std() == pytest.approx(1.0, abs=0.02)
    assert correlation(codes[:, 0], mouth[:, 0]) ** 2 > 0.98
    assert codes[:, 3:].abs().max() == 0  # Three columns have three components.
    assert basis.weights[0] == 1 and (basis.weights.diff() <= 1e-6).all()


def test_code_follows_held_out_speech():
    audio, mouth = make_clip()
    fitted = fit(audio, mouth)
    held_out = slice(NUM_TRAIN, NUM_FRAMES)
    codes = fitted.code(windows_of(audio))
    assert correlation(codes[held_out, 0], fitted.true[held_out, 0]) > 0.7
    assert fitted.correlations[0] > 0.7
    assert 0.3 < fitted.shrinkage <= 1.0


def test_predictions_of_training_frames_are_out_of_fold():
    audio, mouth = make_clip()
    unrelated = mouth[torch.randperm(NUM_FRAMES, generator=torch.Generator().manual_seed(1))]
    fitted = fit(audio, unrelated)
    in_sample = fitted.code(windows_of(audio))[:NUM_TRAIN, 0]
    truth = fitted.true[:NUM_TRAIN, 0]
    # What was learned by heart shows in the mean of the networks, and not in the predictions.
    assert correlation(in_sample, truth) > 0.3
    assert abs(correlation(fitted.predicted[:NUM_TRAIN, 0], truth)) < 0.2


def test_silence_gets_the_code_of_a_closed_mouth():
    audio, mouth = make_clip()
    silence = 0.1 * torch.randn(20, WINDOW, 2, 12, generator=torch.Generator().manual_seed(3)) + 3.0
    closed = torch.topk(-mouth[:NUM_TRAIN, 0], 40).indices
    with_silence, without = fit(audio, mouth, silence), fit(audio, mouth)
    wanted = with_silence.true[closed, 0].mean()
    near = (with_silence.code(silence)[:, 0] - wanted).abs().mean()
    assert near < 0.5 * (without.code(silence)[:, 0] - wanted).abs().mean()


def test_fit_is_reproducible_and_leaves_the_random_state_alone():
    audio, mouth = make_clip()
    torch.manual_seed(7)
    first = fit(audio, mouth)
    drawn = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(drawn, torch.rand(1))
    assert torch.equal(first.predicted, fit(audio, mouth).predicted)


def test_unmeasured_frames_take_no_part():
    audio, mouth = make_clip()
    gap = slice(100, 130)
    mouth[gap] = torch.nan
    fitted = fit(audio, mouth)
    assert fitted.predicted.isfinite().all() and fitted.true.isfinite().all()
    assert torch.equal(fitted.true[gap], fitted.predicted[gap])
