"""Encoders by name, the transformers networks with tiny random weights, rows of silence."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gaussiantalker_ns.audio.encoders.base import AudioFeatureEncoder
from gaussiantalker_ns.audio.encoders.registry import DEFAULT_ENCODER, get_encoder
from gaussiantalker_ns.audio.encoders.self_supervised import HubertEncoder, Wav2Vec2Encoder
from gaussiantalker_ns.audio.encoders.whisper import WhisperEncoder
from gaussiantalker_ns.audio.silence import silence_windows


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a wav2vec 2.0 network of three tiny layers with random weights."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    folder = tmp_path_factory.mktemp("weights")
    Wav2Vec2Model(config).save_pretrained(folder)
    return folder


def noise(duration_s: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(int(duration_s * 16_000))).astype(np.float32)


class LevelEncoder(AudioFeatureEncoder):
    """The level of every 20 ms in bels."""

    name = "level"
    window_items, feature_size = 2, 1

    def encode_prepared(self, samples: np.ndarray) -> np.ndarray:
        parts = samples.reshape(-1, 2, 320)
        return np.log10(np.square(parts).mean(axis=-1, keepdims=True) + 1e-8).astype(np.float32)


def test_default_is_whisper():
    assert DEFAULT_ENCODER == "whisper"
    assert isinstance(get_encoder(), WhisperEncoder)


@pytest.mark.parametrize("name", ["whispr", "mel"])
def test_unknown_encoder(name: str):
    """Early versions had `mel`."""
    with pytest.raises(ValueError, match=rf"Unknown audio encoder '{name}'.*whisper, wav2vec2"):
        get_encoder(name)


@pytest.mark.parametrize(("name", "file"), [("deepspeech", "aud_ds"), ("esperanto", "aud_eo")])
def test_ready_made_features_cannot_be_computed(name: str, file: str):
    with pytest.raises(ValueError, match=rf"'{name}'.*only be used with ready ones \({file}\.npy"):
        get_encoder(name)


@pytest.mark.parametrize("encoder_class", [Wav2Vec2Encoder, HubertEncoder])
def test_two_tokens_per_frame(tiny_weights: Path, encoder_class: type):
    if encoder_class is HubertEncoder:
        from transformers import HubertConfig, HubertModel

        weights = tiny_weights / "hubert"
        HubertModel(
            HubertConfig(
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=16,
                conv_dim=(8,) * 7,
                num_conv_pos_embeddings=16,
                num_conv_pos_embedding_groups=2,
            )
        ).save_pretrained(weights)
        encoder = HubertEncoder(str(weights))
    else:
        encoder = Wav2Vec2Encoder(str(tiny_weights), num_layers=3)
    assert (encoder.window_items, encoder.feature_size) == (2, 16)
    features = encoder.encode(noise(2.0))
    assert features.shape == (50, 2, 16)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


def test_middle_layer_equals_the_hidden_state_of_the_whole_network(tiny_weights: Path):
    from transformers import Wav2Vec2Model

    samples = noise(1.0)
    found = Wav2Vec2Encoder(str(tiny_weights), num_layers=2).encode(samples)
    network = Wav2Vec2Model.from_pretrained(tiny_weights).eval()
    gained = samples - samples.mean()
    padded = np.pad(gained / np.sqrt(gained.var() + 1e-7), 40)
    with torch.no_grad():
        states = network(torch.from_numpy(padded)[None], output_hidden_states=True).hidden_states
    np.testing.assert_allclose(found.reshape(50, 16), states[2][0].numpy(), atol=1e-4)


def test_long_recordings_are_encoded_in_chunks(tiny_weights: Path):
    encoder = Wav2Vec2Encoder(str(tiny_weights), num_layers=1)
    features = encoder.encode(noise(41.0))
    assert features.shape == (1_025, 2, 16)


def test_weights_that_are_nowhere(monkeypatch: pytest.MonkeyPatch):
    """Both attempts fail; the second one stands for a machine without a network."""
    from transformers import Wav2Vec2Model

    attempts = []

    def fail(source: str, local_files_only: bool = False, **options: int) -> None:
        attempts.append((local_files_only, options))
        raise OSError("We couldn't connect")

    monkeypatch.setattr(Wav2Vec2Model, "from_pretrained", fail)
    with pytest.raises(FileNotFoundError, match=r"wav2vec2-base-960h.*encoder 'whisper'"):
        get_encoder("wav2vec2")
    assert attempts == [(True, {"num_hidden_layers": 6}), (False, {"num_hidden_layers": 6})]


def test_silence_windows_are_reproducible_runs_of_silence():
    encoder = LevelEncoder()
    windows = silence_windows(encoder, noise(3.0), num_windows=40)
    assert windows.shape == (40, 8, 2, 1)
    np.testing.assert_array_equal(windows, silence_windows(encoder, noise(3.0), num_windows=40))
    speech = encoder.encode(noise(3.0))
    assert windows.mean() < speech.mean() - 0.5
    # Some are digital silence, some room noise.
    floor = windows.min()
    is_zero = np.isclose(windows, floor).all(axis=(1, 2, 3))
    assert 0 < is_zero.sum() < 40


def test_silence_windows_longer_than_a_silence():
    with pytest.raises(ValueError, match="Silence windows of 200 frames"):
        silence_windows(LevelEncoder(), noise(1.0), window_frames=200)


def test_audio_package_is_light_and_independent():
    """The package is light, and even its encoders import neither Nerfstudio nor gsplat."""
    code = (
        "import sys, gaussiantalker_ns.audio as a; assert 'torch' not in sys.modules;"
        "import gaussiantalker_ns.audio.sync, gaussiantalker_ns.audio.silence;"
        "import gaussiantalker_ns.audio.streaming;"
        "import gaussiantalker_ns.audio.encoders.self_supervised;"
        "assert not {'nerfstudio', 'gsplat', 'torchaudio', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
