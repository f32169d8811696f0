"""The audio network: any encoder's windows become one token a frame."""

import pytest
import torch

from gaussiantalker_ns.fields.audio_encoder import AudioEncoderConfig, TemporalAttention

# Rows and features of a frame's window: DeepSpeech, Whisper, HuBERT, one row, Esperanto.
WINDOWS = [(16, 29), (2, 384), (2, 1024), (1, 80), (16, 44)]


@pytest.mark.parametrize(("rows", "features"), WINDOWS)
@pytest.mark.parametrize("frames", [1, 5, 8])
def test_every_encoder_gives_a_token(rows: int, features: int, frames: int) -> None:
    encoder = AudioEncoderConfig(window_frames=frames).setup(rows, features, 64)
    audio = torch.randn(3, frames, rows, features)
    token = encoder(audio)
    assert token.shape == (3, 64)
    token.square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.any()), name


def test_batch_is_a_stack_of_singles() -> None:
    encoder = AudioEncoderConfig().setup(2, 384, 64).eval()
    audio = torch.randn(4, 8, 2, 384)
    singles = torch.cat([encoder(audio[i : i + 1]) for i in range(4)])
    assert torch.allclose(encoder(audio), singles, atol=1e-5)


def test_every_frame_of_the_window_is_heard() -> None:
    encoder = AudioEncoderConfig().setup(2, 384, 64).eval()
    audio = torch.randn(1, 8, 2, 384, requires_grad=True)
    encoder(audio).sum().backward()
    assert audio.grad is not None
    assert bool((audio.grad.abs().sum(dim=(0, 2, 3)) > 0).all())


def test_three_frame_attention_by_hand() -> None:
    """Scores are all zero without weights, so three frames are averaged: (1 + 2 + 6) / 3 = 3.

    A last bias of log 2 on the first frame doubles its share: (2 * 1 + 2 + 6) / 4 = 2.5.
    """
    attention = TemporalAttention(1, 3)
    for parameter in attention.parameters():
        parameter.data.zero_()
    codes = torch.tensor([[[1.0], [2.0], [6.0]]])
    assert attention(codes).item() == pytest.approx(3.0)
    last = list(attention.parameters())[-1]
    last.data[0] = torch.tensor(2.0).log()
    assert attention(codes).item() == pytest.approx(2.5)


def test_features_are_dropped_in_training_only() -> None:
    encoder = AudioEncoderConfig(feature_dropout=0.5).setup(2, 384, 64)
    audio = torch.randn(1, 8, 2, 384)
    assert not torch.equal(encoder(audio), encoder(audio))
    encoder.eval()
    assert torch.equal(encoder(audio), encoder(audio))


def test_wrong_windows_are_refused() -> None:
    encoder = AudioEncoderConfig().setup(2, 384, 64)
    with pytest.raises(ValueError, match=r"\(8, 16, 29\), expected \(8, 2, 384\)"):
        encoder(torch.randn(1, 8, 16, 29))
    with pytest.raises(ValueError, match="window_frames is 0"):
        AudioEncoderConfig(window_frames=0)
