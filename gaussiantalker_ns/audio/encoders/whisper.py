"""The default encoder: the first two transformer blocks of Whisper tiny.en, run on short windows.

Middle layers of a speech recogniser know what the lips do: of the features tried they predict lip
opening and width best, for strangers' voices and other languages too. The weights travel with the
package. The windows are the same for files and for streams, so that a model sees one kind of
feature in training and at run time.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor, nn

from gaussiantalker_ns.assets import asset_path
from gaussiantalker_ns.audio.encoders.base import AudioFeatureEncoder
from gaussiantalker_ns.audio.encoders.mel import NUM_MELS, log_mel
from gaussiantalker_ns.timebase import SAMPLES_PER_FRAME

WEIGHTS = "whisper_tiny_en_2blocks.npz"
MODEL_WIDTH = 384
NUM_BLOCKS = 2
NUM_HEADS = 6
TOKENS_PER_FRAME = 2
"""Token j is centred at 0.020 j seconds, so that token 2i+1 is in the middle of frame i."""


@dataclass(frozen=True)
class WindowLayout:
    """How a recording is cut into windows that the encoder sees one at a time, in video frames.

    A model must be driven with the past context that it was trained with: features of windows of
    another kind differ a lot. The hop alone may change: a live talker that runs windows of four
    frames on a model trained with eight gains 0.16 s for twice the work, and loses nothing.
    """

    past_frames: int = 50
    """Context before the frames whose features are kept."""
    hop_frames: int = 8
    """Frames whose features are kept of each window; a stream waits for so many."""
    ahead_frames: int = 5
    """Context after them; a stream runs so many frames behind."""

    @property
    def num_frames(self) -> int:
        """The length of a window."""
        return self.past_frames + self.hop_frames + self.ahead_frames


class WhisperEncoder(AudioFeatureEncoder):
    """Two feature vectors per frame after the second block, without the final layer norm."""

    name = "whisper"
    window_items = TOKENS_PER_FRAME
    feature_size = MODEL_WIDTH

    def __init__(self, layout: WindowLayout | None = None, device: str = "cpu") -> None:
        self.layout = layout or WindowLayout()
        self.device = device
        self._network = _load_network(self.layout.num_frames * TOKENS_PER_FRAME).to(device)

    def encode_prepared(
        self, samples: Float32[np.ndarray, " samples"]
    ) -> Float32[np.ndarray, "frames w a"]:
        """Return tokens 2i and 2i+1 of every frame i; silence surrounds the recording."""
        num_frames = len(samples) // SAMPLES_PER_FRAME
        layout = self.layout
        num_windows = -(-num_frames // layout.hop_frames)
        after = num_windows * layout.hop_frames - num_frames + layout.ahead_frames
        padded = np.pad(
            samples, (layout.past_frames * SAMPLES_PER_FRAME, after * SAMPLES_PER_FRAME)
        )
        windows = [
            self.encode_window(padded[start : start + layout.num_frames * SAMPLES_PER_FRAME])
            for start in range(
                0,
                num_windows * layout.hop_frames * SAMPLES_PER_FRAME,
                layout.hop_frames * SAMPLES_PER_FRAME,
            )
        ]
        return np.concatenate(windows)[:num_frames]

    @torch.inference_mode()
    def encode_window(
        self, prepared: Float32[np.ndarray, " samples"]
    ) -> Float32[np.ndarray, "m 2 384"]:
        """Return the features of the `hop_frames` frames in the middle of one normalised window.

        Windows are run one by one, not in batches, so that a stream gives the very same bits.
        """
        mel = log_mel(torch.from_numpy(prepared).to(self.device))
        first, hop = self.layout.past_frames, self.layout.hop_frames
        kept = slice(first * TOKENS_PER_FRAME, (first + hop) * TOKENS_PER_FRAME)
        if hop < WindowLayout().hop_frames:
            tokens = self._network.some(mel[None], kept)[0]
        else:
            tokens = self._network(mel[None])[0, kept]
        return tokens.reshape(hop, TOKENS_PER_FRAME, MODEL_WIDTH).cpu().numpy()


class WhisperBlocks(nn.Module):
    """The stem and the first blocks of Whisper's encoder, for windows of one length.

    Two convolutions, the second of which halves the rate, a sinusoid of the position, and
    transformer blocks whose norms come first. The norm after the last block of the full network is
    left out: it belongs to the network's output, not to a middle layer.
    """

    positions: Float[Tensor, "k d"]

    def __init__(self, num_tokens: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(NUM_MELS, MODEL_WIDTH, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(MODEL_WIDTH, MODEL_WIDTH, kernel_size=3, stride=2, padding=1)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                MODEL_WIDTH,
                NUM_HEADS,
                4 * MODEL_WIDTH,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(NUM_BLOCKS)
        )
        half = MODEL_WIDTH // 2
        rates = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half))
        angles = torch.arange(num_tokens)[:, None] * rates
        positions = torch.cat([angles.sin(), angles.cos()], dim=1)
        self.register_buffer("positions", positions, persistent=False)

    def forward(self, mel: Float[Tensor, "b 80 m"]) -> Float[Tensor, "b k d"]:
        """Tokens of windows of log-mel spectra; a token takes two columns."""
        hidden = self._stem(mel)
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden

    def some(self, mel: Float[Tensor, "b 80 m"], kept: slice) -> Float[Tensor, "b k2 d"]:
        """Only some of the tokens, for less work in the last block: the others are seen there, but
        neither ask nor are they worked on. Equal to `forward` but for rounding."""
        hidden = self._stem(mel)
        *others, last = self.layers
        for layer in others:
            hidden = layer(hidden)
        assert isinstance(last, nn.TransformerEncoderLayer), "a block"
        seen = last.norm1(hidden)
        answers, _ = last.self_attn(seen[:, kept], seen, seen, need_weights=False)
        tokens = hidden[:, kept] + answers
        return tokens + last.linear2(F.gelu(last.linear1(last.norm2(tokens))))

    def _stem(self, mel: Float[Tensor, "b 80 m"]) -> Float[Tensor, "b k d"]:
        return F.gelu(self.conv2(F.gelu(self.conv1(mel)))).transpose(1, 2) + self.positions


def torch_names(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """The shipped weights, which have transformers' names, under those of `WhisperBlocks`.

    torch keeps the three input projections in one matrix; Whisper's keys have no bias.
    """
    renamed = (
        ("self_attn_layer_norm", "norm1"),
        ("final_layer_norm", "norm2"),
        ("fc1", "linear1"),
        ("fc2", "linear2"),
    )
    state: dict[str, Tensor] = {}
    for name, array in arrays.items():
        if not any(f".{part}_proj." in name for part in "qkv"):
            key = name
            for old, new in renamed:
                key = key.replace(old, new)
            state[key] = array
    for index in range(NUM_BLOCKS):
        attention = f"layers.{index}.self_attn"
        query, value = (arrays[f"{attention}.{part}_proj.bias"] for part in "qv")
        state[f"{attention}.in_proj_bias"] = torch.cat([query, torch.zeros_like(query), value])
        state[f"{attention}.in_proj_weight"] = torch.cat(
            [arrays[f"{attention}.{part}_proj.weight"] for part in "qkv"]
        )
    return state


def _load_network(num_tokens: int) -> WhisperBlocks:
    """Return the network with the shipped weights, for windows of one length."""
    network = WhisperBlocks(num_tokens)
    with np.load(asset_path(WEIGHTS)) as arrays:
        shipped = {name: torch.from_numpy(arrays[name].astype(np.float32)) for name in arrays.files}
    network.load_state_dict(torch_names(shipped))
    return network.eval().requires_grad_(False)
