"""Audio encoder: windows of audio features around a frame to its audio token a_n (Sec. 4.3.1)."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

NEGATIVE_SLOPE = 0.02
"""Slope of the leaky rectifiers for negative input, as in the public code's audio network."""


def initialise(module: nn.Module) -> None:
    """Give linear and convolution layers Kaiming-normal weights and zero bias.

    With torch's defaults every layer shrinks the signal, and after eight of them the audio token
    varies over frames by a hundredth of the null token's size, which the attention never recovers.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d):
            nn.init.kaiming_normal_(layer.weight, a=NEGATIVE_SLOPE, nonlinearity="leaky_relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def token_mlp(in_dim: int, width: int, out_dim: int | None = None) -> nn.Sequential:
    """Two linear layers with a leaky rectifier between them, initialised for tokens.

    Args:
        in_dim: Length of the signal.
        width: Length of the hidden layer.
        out_dim: Length of the result, if it is not that of the hidden layer.
    """
    mlp = nn.Sequential(
        nn.Linear(in_dim, width), nn.LeakyReLU(NEGATIVE_SLOPE), nn.Linear(width, out_dim or width)
    )
    initialise(mlp)
    return mlp


def viewpoint_mlp(in_dim: int, width: int) -> nn.Sequential:
    """The public code's network of the raw camera: no biases, Xavier's weights.

    A distance of eight decimetres is among its inputs; Kaiming's weights would make a token of it
    that is several times as large as the others.
    """
    mlp = nn.Sequential(
        nn.Linear(in_dim, width, bias=False), nn.ReLU(), nn.Linear(width, width, bias=False)
    )
    for layer in (mlp[0], mlp[2]):
        nn.init.xavier_uniform_(layer.weight)  # pyright: ignore[reportArgumentType]
    return mlp


@dataclass
class AudioEncoderConfig:
    """Sizes of the audio network; the paper leaves them to its code."""

    _target: type = field(default_factory=lambda: AudioEncoder)
    """Class to build."""
    window_frames: int = 8
    """Frames seen by the temporal attention: i-4 to i+3 for 8; 5 (i-2 to i+2) measured as good."""
    channels: tuple[int, ...] = (32, 32, 64, 64)
    """Channels of the strided convolutions that halve a window (public code); a window that needs
    fewer of them takes the last ones, one that needs more repeats the last."""
    code_width: int = 32
    """Length of a frame's code, which the temporal attention averages (public code)."""
    attention_channels: tuple[int, ...] = (16, 8, 4, 2)
    """Channels of the convolutions that score the frames, before the last one's 1 (public code)."""
    feature_dropout: float = 0.0
    """Fraction of input features that are dropped in training, in [0, 1)."""

    def __post_init__(self) -> None:
        """Check what a user can get wrong."""
        if self.window_frames < 1:
            raise ValueError(
                f"AudioEncoderConfig.window_frames is {self.window_frames}; expected at least 1"
                " (the frame itself). Set it to 8, the paper's number, or 5."
            )
        if not self.channels:
            raise ValueError(
                "AudioEncoderConfig.channels is empty; expected at least one number of channels,"
                " such as 64."
            )

    def setup(self, window_items: int, feature_dim: int, width: int) -> "AudioEncoder":
        """Build the network for windows of `window_items` rows of `feature_dim` features."""
        return self._target(self, window_items, feature_dim, width)


class AudioEncoder(nn.Module):
    """Convolutions over the window of each frame, then temporal attention over the frames.

    Wide features (Whisper's 384, HuBERT's 1024) are reduced by a pointwise convolution first. The
    window is halved by strided convolutions until one row is left: four for DeepSpeech's 16 rows,
    one for Whisper's 2.
    """

    def __init__(
        self, config: AudioEncoderConfig, window_items: int, feature_dim: int, width: int
    ) -> None:
        super().__init__()
        self.config = config
        self.input_shape = (config.window_frames, window_items, feature_dim)
        last = config.channels[-1]
        halvings = max(window_items - 1, 0).bit_length()
        channels = (*config.channels, *[last] * halvings)[: max(halvings, len(config.channels))]
        layers: list[nn.Module] = [nn.Dropout(config.feature_dropout)]
        if feature_dim > max(config.channels):
            layers += [nn.Conv1d(feature_dim, last, 1), nn.LeakyReLU(NEGATIVE_SLOPE)]
            feature_dim = last
        for width_out in channels[len(channels) - halvings :]:
            layers += [
                nn.Conv1d(feature_dim, width_out, 3, stride=2, padding=1),
                nn.LeakyReLU(NEGATIVE_SLOPE),
            ]
            feature_dim = width_out
        self.window_net = nn.Sequential(*layers, nn.Flatten())
        self.frame_net = token_mlp(feature_dim, width, config.code_width)
        # One frame has nothing to weigh: its code is the average.
        self.temporal_attention = (
            TemporalAttention(config.code_width, config.window_frames, config.attention_channels)
            if config.window_frames > 1
            else None
        )
        self.token_net = token_mlp(config.code_width, width)
        initialise(self.window_net)

    def forward(self, audio: Float[Tensor, "b t w a"]) -> Float[Tensor, "b d"]:
        """Encode standardised windows of t frames around each of b frames into a token each."""
        if audio.shape[1:] != self.input_shape:
            raise ValueError(
                f"The audio network got windows of shape {tuple(audio.shape[1:])}, expected"
                f" {self.input_shape} (frames, rows, features). Encode the audio with the encoder"
                " the model was trained with."
            )
        b, t = audio.shape[:2]
        codes = self.window_net(audio.flatten(0, 1).transpose(1, 2))
        codes = self.frame_net(codes).unflatten(0, (b, t))
        if self.temporal_attention is None:
            return self.token_net(codes[:, 0])
        return self.token_net(self.temporal_attention(codes))


class TemporalAttention(nn.Module):
    """Weighted sum over neighbouring frames, with weights read from the frames themselves."""

    def __init__(self, width: int, window_frames: int, channels: tuple[int, ...] = ()) -> None:
        """Build the network that scores frames.

        Args:
            width: Length of a frame's code.
            window_frames: Frames that are weighed.
            channels: Channels of the hidden convolutions.
        """
        super().__init__()
        layers: list[nn.Module] = []
        for size in channels:
            layers += [nn.Conv1d(width, size, 3, padding=1), nn.LeakyReLU(NEGATIVE_SLOPE)]
            width = size
        last = nn.Conv1d(width, 1, 3, padding=1)
        linear = nn.Linear(window_frames, window_frames)
        self.score = nn.Sequential(*layers, last, nn.Flatten(), linear)
        initialise(self.score)

    def forward(self, codes: Float[Tensor, "b t d"]) -> Float[Tensor, "b d"]:
        """Average the codes of t frames with attention weights."""
        weights = torch.softmax(self.score(codes.transpose(1, 2)), dim=-1)
        return (weights[:, None] @ codes)[:, 0]
