"""wav2vec 2.0 and HuBERT through transformers: for data sets made with them, or by choice.

The weights are looked for on this machine first, then downloaded once. torchaudio is not needed.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from gaussiantalker_ns.audio.encoders.base import AudioFeatureEncoder
from gaussiantalker_ns.timebase import SAMPLES_PER_FRAME

STRIDE_SAMPLES = 320
"""Both networks give 50 tokens per second, two per video frame."""

FIELD_SAMPLES = 400
"""The samples that the convolutions of one token see."""

TOKENS_PER_FRAME = SAMPLES_PER_FRAME // STRIDE_SAMPLES

CHUNK_TOKENS = 1000
"""Long recordings are encoded in pieces of 20 s, as the public talking-head codes do."""


class SelfSupervisedEncoder(AudioFeatureEncoder):
    """Two tokens per frame of a network of the wav2vec 2.0 family; token j is centred at
    0.020 j + 0.010 seconds, so that the two of a frame lie around its middle.
    """

    window_items = TOKENS_PER_FRAME
    model_class: str
    """The class in transformers."""
    default_source: str
    """The weights on the hub."""
    default_num_layers: int | None
    """How many transformer layers to run; None runs all."""

    def __init__(
        self, source: str | None = None, num_layers: int | None = None, device: str = "cpu"
    ) -> None:
        """Load the network.

        Args:
            source: The name of the weights on the hub, or a folder that holds them.
            num_layers: How many transformer layers to run; None takes the encoder's own default.
            device: Where to run.
        """
        self.device = device
        num_layers = num_layers or self.default_num_layers
        self._network = _load_pretrained(
            self.model_class, source or self.default_source, num_layers
        )
        self._network.eval().requires_grad_(False).to(device)
        self.feature_size = int(self._network.config.hidden_size)

    def encode_prepared(
        self, samples: Float32[np.ndarray, " samples"]
    ) -> Float32[np.ndarray, "frames w a"]:
        """Return tokens 2i and 2i+1 of every frame i (`[N, 2, 1024]` for HuBERT large)."""
        # The networks expect zero mean and unit variance, which makes any gain irrelevant.
        normalised = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
        margin = (FIELD_SAMPLES - STRIDE_SAMPLES) // 2
        padded = np.pad(normalised, margin)
        chunk = CHUNK_TOKENS * STRIDE_SAMPLES
        tokens = [
            self._encode_chunk(padded[start : start + chunk + 2 * margin])
            for start in range(0, len(normalised), chunk)
        ]
        return np.concatenate(tokens).reshape(-1, TOKENS_PER_FRAME, self.feature_size)

    @torch.inference_mode()
    def _encode_chunk(self, samples: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, "m a"]:
        batch = torch.from_numpy(samples).to(self.device)[None]
        return self._network(batch).last_hidden_state[0].float().cpu().numpy()


class Wav2Vec2Encoder(SelfSupervisedEncoder):
    """A middle layer of wav2vec 2.0 base: the last ones of a recogniser lose what lips show."""

    name = "wav2vec2"
    model_class = "Wav2Vec2Model"
    default_source = "facebook/wav2vec2-base-960h"
    default_num_layers = 6


class HubertEncoder(SelfSupervisedEncoder):
    """The last layer of HuBERT large, the features that the public `aud_hu.npy` files hold."""

    name = "hubert"
    model_class = "HubertModel"
    default_source = "facebook/hubert-large-ls960-ft"
    default_num_layers = None


def _load_pretrained(model_class: str, source: str, num_layers: int | None) -> Any:
    """Load a network of transformers from this machine if it is there, else try one download."""
    try:
        import transformers

        network_class = getattr(transformers, model_class)
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"transformers cannot provide {model_class} ({error}); expected a working installation."
            " A torchaudio that does not match this torch is the usual reason, and nothing here"
            " needs it: `pip uninstall torchaudio`."
        ) from error
    options = {} if num_layers is None else {"num_hidden_layers": num_layers}
    try:
        return network_class.from_pretrained(source, local_files_only=True, **options)
    except OSError:
        pass  # Not on this machine: one try over the network.
    try:
        return network_class.from_pretrained(source, **options)
    except OSError as error:
        raise FileNotFoundError(
            f"The weights {source!r} are neither on this machine nor could they be downloaded;"
            " expected one of the two. Run `hf download "
            f"{source}` where there is a network and copy ~/.cache/huggingface here, or use the"
            " encoder 'whisper', whose weights come with this package."
        ) from error
