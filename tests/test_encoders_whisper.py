"""The Whisper encoder: the network against plain code, windows, timing, streams."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gaussiantalker_ns.assets import asset_path
from gaussiantalker_ns.audio.encoders.mel import log_mel, mel_filters
from gaussiantalker_ns.audio.encoders.whisper import WhisperEncoder, WindowLayout
from gaussiantalker_ns.audio.loudness import speech_gain
from gaussiantalker_ns.audio.streaming import StreamingEncoder
from gaussiantalker_ns.timebase import SAMPLES_PER_FRAME

PARITY_TOLERANCE = 1e-4
"""Float32 sums in another order; the features have a standard deviation of 0.4."""


@pytest.fixture(scope="module")
def encoder() -> WhisperEncoder:
    return WhisperEncoder()


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return babble(3.3)


def babble(duration_s: float, seed: int = 0) -> np.ndarray:
    """Return a buzz with moving formants and pauses: no speech, but not unlike it."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(duration_s * 16_000)) / 16_000
    pitch = 120 * (1 + 0.2 * np.sin(2 * np.pi * 0.7 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / 16_000
    formant = 500 + 1_500 * (0.5 + 0.5 * np.sin(2 * np.pi * 2.3 * time))
    voices = [
        np.exp(-(((k * pitch - formant) / 300) ** 2)) * np.sin(k * phase) for k in range(1, 25)
    ]
    loudness = np.clip(np.sin(2 * np.pi * 1.9 * time), 0, None)
    samples = 0.1 * loudness * np.sum(voices, axis=0) + 1e-4 * rng.standard_normal(len(time))
    return samples.astype(np.float32)


def plain_encode(samples: np.ndarray) -> np.ndarray:
    """Compute the tokens of one window with functional calls only, in the slow obvious way."""
    arrays = np.load(asset_path("whisper_tiny_en_2blocks.npz"))
    w = {name: torch.from_numpy(arrays[name].astype(np.float32)) for name in arrays.files}
    spectrum = torch.stft(
        torch.from_numpy(samples), 400, 160, 400, torch.hann_window(400), return_complex=True
    )
    mel = (mel_filters() @ spectrum[:, :-1].abs() ** 2).clamp(min=1e-10).log10().clamp(min=-6.5)
    hidden = ((mel + 4) / 4)[None]
    hidden = F.gelu(F.conv1d(hidden, w["conv1.weight"], w["conv1.bias"], padding=1))
    hidden = F.gelu(F.conv1d(hidden, w["conv2.weight"], w["conv2.bias"], stride=2, padding=1))
    rates = torch.exp(-np.log(10_000) / 191 * torch.arange(192))
    angles = torch.arange(hidden.shape[-1])[:, None] * rates
    hidden = hidden[0].T + torch.cat([angles.sin(), angles.cos()], dim=1)
    for block in range(2):

        def linear(x: torch.Tensor, name: str, block: int = block) -> torch.Tensor:
            name = f"layers.{block}.{name}"
            return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))

        def norm(x: torch.Tensor, name: str, block: int = block) -> torch.Tensor:
            name = f"layers.{block}.{name}"
            return F.layer_norm(x, (384,), w[f"{name}.weight"], w[f"{name}.bias"], 1e-5)

        normed = norm(hidden, "self_attn_layer_norm")
        heads = []
        for head in range(6):
            part = slice(64 * head, 64 * (head + 1))
            query, key, value = (
                linear(normed, f"self_attn.{name}_proj")[:, part] for name in "qkv"
            )
            heads.append(torch.softmax(query @ key.T / 8, dim=-1) @ value)
        hidden = hidden + linear(torch.cat(heads, dim=-1), "self_attn.out_proj")
        hidden = hidden + linear(F.gelu(linear(norm(hidden, "final_layer_norm"), "fc1")), "fc2")
    return hidden.numpy()


@pytest.mark.parametrize("layout", [WindowLayout(), WindowLayout(25, 250, 25)])
def test_network_equals_plain_code(layout: WindowLayout):
    window = babble(layout.num_frames / 25)
    expected = plain_encode(window).reshape(-1, 2, 384)
    first = layout.past_frames
    expected = expected[first : first + layout.hop_frames]
    found = WhisperEncoder(layout=layout).encode_window(window)
    np.testing.assert_allclose(found, expected, atol=PARITY_TOLERANCE)


def test_log_mel_of_silence_is_the_floor():
    mel = log_mel(torch.zeros(1_600))
    assert mel.shape == (80, 10)
    assert torch.all(mel == (-6.5 + 4) / 4)


def test_frames_cover_the_recording(encoder: WhisperEncoder, speech: np.ndarray):
    features = encoder.encode(speech)
    assert features.shape == (83, 2, 384)  # 3.3 s are 82.5 frames.
    assert features.dtype == np.float32
    assert encoder.encode(speech, num_frames=70).shape == (70, 2, 384)
    assert encoder.encode(speech, num_frames=90).shape == (90, 2, 384)


def test_features_are_float16_safe(encoder: WhisperEncoder, speech: np.ndarray):
    assert np.abs(encoder.encode(speech)).max() < 100


def test_very_short_recording(encoder: WhisperEncoder):
    assert encoder.encode(np.ones(1, dtype=np.float32)).shape == (1, 2, 384)


def test_empty_recording(encoder: WhisperEncoder):
    with pytest.raises(ValueError, match="at least one mono sample"):
        encoder.encode(np.zeros(0, dtype=np.float32))


def test_token_is_centred_on_its_frame():
    """A click in the middle of frame 30 reaches the stem's tokens 60 to 62, around 2 * 30 + 1.

    The spectrum j sees 25 ms around 10 j ms: a click at 1220 ms, the middle of [1200, 1240), is in
    121 to 123. The first convolution widens that to 120 to 124, the second one sees 2j-1 to 2j+1.
    """
    encoder = WhisperEncoder(layout=WindowLayout(0, 59, 0))
    samples = np.zeros(59 * SAMPLES_PER_FRAME, dtype=np.float32)
    silent = log_mel(torch.from_numpy(samples))
    samples[round(1.220 * 16_000)] = 0.5
    clicked = log_mel(torch.from_numpy(samples))
    assert (clicked != silent).any(dim=0).nonzero().flatten().tolist() == [121, 122, 123]
    before, after = (
        encoder._network.conv2(F.gelu(encoder._network.conv1(mel[None])))[0]
        for mel in (silent, clicked)
    )
    assert (before != after).any(dim=0).nonzero().flatten().tolist() == [60, 61, 62]


def test_features_do_not_depend_on_distant_sound(encoder: WhisperEncoder, speech: np.ndarray):
    louder_end = np.concatenate([speech, 5 * speech])
    frames = len(speech) // SAMPLES_PER_FRAME - encoder.layout.ahead_frames
    frames -= frames % encoder.layout.hop_frames
    np.testing.assert_array_equal(
        encoder.encode(speech, gain=1.0)[:frames], encoder.encode(louder_end, gain=1.0)[:frames]
    )


def test_features_do_not_depend_on_the_microphone(encoder: WhisperEncoder, speech: np.ndarray):
    plain, quiet = encoder.encode(speech), encoder.encode(0.25 * speech)
    np.testing.assert_allclose(quiet, plain, atol=1e-3)


@pytest.mark.parametrize("chunk_samples", [160, 641, 12_345, 10**6])
def test_stream_equals_file_bit_for_bit(
    encoder: WhisperEncoder, speech: np.ndarray, chunk_samples: int
):
    gain = speech_gain(speech)
    stream = StreamingEncoder(encoder, gain=gain)
    pieces = [
        stream.push(speech[start : start + chunk_samples])
        for start in range(0, len(speech), chunk_samples)
    ]
    features = np.concatenate([*pieces, stream.flush()])
    np.testing.assert_array_equal(features, encoder.encode(speech))


def test_stream_gives_every_frame_in_time(encoder: WhisperEncoder, speech: np.ndarray):
    stream = StreamingEncoder(encoder, gain=1.0)
    assert stream.delay_s == pytest.approx(0.52)
    for heard in range(1, 60):
        stream.push(speech[(heard - 1) * SAMPLES_PER_FRAME : heard * SAMPLES_PER_FRAME])
        assert heard - stream.num_frames <= stream.delay_s * 25
        assert len(stream._buffer) <= encoder.layout.num_frames * SAMPLES_PER_FRAME


def test_stream_can_be_used_again(encoder: WhisperEncoder, speech: np.ndarray):
    stream = StreamingEncoder(encoder, gain=1.0)
    first = np.concatenate([stream.push(speech), stream.flush()])
    second = np.concatenate([stream.push(speech), stream.flush()])
    np.testing.assert_array_equal(first, second)
    assert len(stream.flush()) == 0


def test_running_gain_does_not_depend_on_chunks(encoder: WhisperEncoder, speech: np.ndarray):
    quiet = 0.1 * speech
    whole, pieces = StreamingEncoder(encoder), StreamingEncoder(encoder)
    expected = whole.push(quiet)
    found = [pieces.push(quiet[start : start + 999]) for start in range(0, len(quiet), 999)]
    np.testing.assert_array_equal(np.concatenate(found), expected)


def test_missing_weights_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("gaussiantalker_ns.assets.ASSETS_DIR", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"whisper_tiny_en_2blocks\.npz"):
        WhisperEncoder()


def transformers_network(num_tokens: int) -> torch.nn.Module:
    """Whisper's encoder by transformers with the shipped weights, as a reference."""
    from transformers import WhisperConfig
    from transformers.models.whisper import modeling_whisper

    config = WhisperConfig(
        num_mel_bins=80,
        d_model=384,
        encoder_layers=2,
        encoder_attention_heads=6,
        encoder_ffn_dim=1536,
        max_source_positions=num_tokens,
    )
    network = modeling_whisper.WhisperEncoder(config)
    network.add_module("layer_norm", torch.nn.Identity())
    arrays = np.load(asset_path("whisper_tiny_en_2blocks.npz"))
    state = {name: torch.from_numpy(arrays[name].astype(np.float32)) for name in arrays.files}
    assert network.load_state_dict(state, strict=False).missing_keys == ["embed_positions.weight"]
    return network.eval()


@torch.no_grad()
def test_blocks_give_the_tokens_of_transformers(encoder: WhisperEncoder, speech: np.ndarray):
    num_tokens = len(encoder._network.positions)
    mel = log_mel(torch.from_numpy(speech[: num_tokens * 320]))[None]
    expected = transformers_network(num_tokens)(mel).last_hidden_state
    assert (encoder._network(mel) - expected).abs().max() < 1e-5


def test_mel_filters_are_those_of_transformers():
    from transformers.audio_utils import mel_filter_bank

    expected = mel_filter_bank(201, 80, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
    np.testing.assert_allclose(mel_filters().numpy(), expected.T, atol=1e-8)


def test_some_tokens_are_those_of_the_whole_network():
    """Short hops leave out what nobody reads of the last block."""
    encoder = WhisperEncoder(WindowLayout(hop_frames=2, ahead_frames=1))
    window = 0.1 * np.random.default_rng(0).standard_normal(53 * 640).astype(np.float32)
    with torch.inference_mode():
        mel = log_mel(torch.from_numpy(window))[None]
        whole = encoder._network(mel)[0, 100:104].reshape(2, 2, 384)
    assert np.abs(encoder.encode_window(window) - whole.numpy()).max() < 1e-4
