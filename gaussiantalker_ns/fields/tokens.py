"""Condition tokens of a frame: audio, eye, viewpoint and null vector (Eq. 13, Sec. 4.3.2).

Differs from GaussianTalker, whose attention finds out by itself what moves what (Sec. 4.3.1, Fig.
4). Half a minute of video is too little for that: expression and pose tell its frames apart, so the
mouth is learned by them, and stands still or moves wrongly with new speech.
"""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gaussiantalker_ns.fields.audio_encoder import AudioEncoderConfig, token_mlp, viewpoint_mlp
from gaussiantalker_ns.frame_signals import FrameCondition


def token_mask(
    means: Float[Tensor, "n 3"],
    mouth_border: Float[Tensor, "2"],
    names: tuple[str, ...],
    upper_face_only: tuple[str, ...],
) -> Float[Tensor, "k n"] | None:
    """Weight of each token at each Gaussian, in [0, 1]; None for 1 anywhere.

    Args:
        means: Canonical positions in head space (y up), scene units.
        mouth_border: Heights at and below which the mask is 0, and from which on it is 1; a
            smooth step lies between them.
        names: The tokens, in the order of the token axis.
        upper_face_only: Those that are masked out at mouth and jaw.
    """
    if not set(names) & set(upper_face_only):
        return None
    low, high = mouth_border
    fraction = ((means.detach()[:, 1] - low) / (high - low)).clamp(0, 1)
    # Nothing may remain at 0: attention learns to blow up a thousandth.
    above, unmasked = fraction.square() * (3 - 2 * fraction), torch.ones_like(fraction)
    return torch.stack([above if name in upper_face_only else unmasked for name in names])


TokenName = Literal["audio", "eye", "viewpoint", "null"]

EYE_FREQUENCIES = 16
"""Frequencies of the positional encoding of the blink value, each with a sine and a cosine."""


@dataclass
class ConditionTokensConfig:
    """Which conditions the attention sees; Table 5 of the paper drops one at a time."""

    _target: type = field(default_factory=lambda: ConditionTokens)
    """Class to build."""
    width: int = 64
    """Length of a token."""
    audio: bool = True
    """Use the audio token."""
    eye: bool = True
    """Use the eye token."""
    viewpoint: bool = True
    """Use the token of the head pose."""
    null: bool = True
    """Use the learned token that is the same in all frames."""
    upper_face_only: tuple[TokenName, ...] = ()
    """Tokens that are masked out at mouth and jaw; none in the paper. Expression and pose tell
    training frames apart, and a mouth that was learned by them does not follow speech."""
    eye_dropout: float = 0.0
    """Chance in [0, 1) that a frame's eye token is zeroed in training; 0 in the paper."""
    viewpoint_dropout: float = 0.0
    """Chance in [0, 1) that a frame's viewpoint token is zeroed in training; 0 in the paper."""
    audio_encoder: AudioEncoderConfig = field(default_factory=AudioEncoderConfig)
    """The network behind the audio token."""

    def __post_init__(self) -> None:
        """Check what a user can get wrong."""
        if not (self.audio or self.eye or self.viewpoint or self.null):
            raise ValueError(
                "ConditionTokensConfig switches off audio, eye, viewpoint and null; expected at"
                " least one token for the attention to look at. Switch one on."
            )
        enabled = [name for name in get_args(TokenName) if getattr(self, name)]
        if not set(enabled) - set(self.upper_face_only):
            raise ValueError(
                f"ConditionTokensConfig.upper_face_only is {self.upper_face_only}, but these"
                f" are all tokens that are on ({', '.join(enabled)});"
                " expected one that moves the mouth."
                " Take one off the list, or switch one on."
            )
        for name in ("eye_dropout", "viewpoint_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"ConditionTokensConfig.{name} is {getattr(self, name)}; expected a fraction of"
                    " the frames in [0, 1). Lower it."
                )

    def setup(self, window_items: int, feature_dim: int, eye_dim: int) -> "ConditionTokens":
        """Build the token networks for one audio encoder and one form of the eye signal."""
        return self._target(self, window_items, feature_dim, eye_dim)


class ConditionTokens(nn.Module):
    """One small network per condition.

    An eye signal of one value is a blink (the paper's AU45) and gets a positional encoding; a
    longer one is a standardised expression. To override a condition, pass other values.
    """

    def __init__(
        self, config: ConditionTokensConfig, window_items: int, feature_dim: int, eye_dim: int
    ) -> None:
        super().__init__()
        self.config = config
        width = config.width
        if config.audio:
            self.audio = config.audio_encoder.setup(window_items, feature_dim, width)
        if config.eye:
            self.eye = token_mlp(2 * EYE_FREQUENCIES if eye_dim == 1 else eye_dim, width)
        if config.viewpoint:
            self.viewpoint = viewpoint_mlp(12, width)
        if config.null:
            self.null = nn.Parameter(torch.randn(width))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tokens that are switched on, in the order of the token axis."""
        return tuple(name for name in get_args(TokenName) if getattr(self.config, name))

    def forward(self, condition: FrameCondition) -> Float[Tensor, "b k d"]:
        """Encode the conditions of b frames."""
        tokens = {}
        if self.config.audio:
            tokens["audio"] = self.audio(condition.audio)
        if self.config.eye:
            tokens["eye"] = self.drop_tokens(
                self.eye(encode_eye(condition.eye)), self.config.eye_dropout
            )
        if self.config.viewpoint:
            tokens["viewpoint"] = self.drop_tokens(
                self.viewpoint(condition.viewpoint), self.config.viewpoint_dropout
            )
        if self.config.null:
            tokens["null"] = self.null.expand(len(condition), -1)
        return torch.stack([tokens[name] for name in self.names], dim=1)

    def drop_tokens(self, token: Float[Tensor, "b d"], dropout: float) -> Float[Tensor, "b d"]:
        """Zero the token of some frames in training."""
        if not self.training or dropout == 0:
            return token
        return token * (torch.rand(len(token), 1, device=token.device) >= dropout)


def encode_eye(eye: Float[Tensor, "b e"]) -> Float[Tensor, "b m"]:
    """Positional encoding of a blink in [0, 1]; of an expression the inverse hyperbolic sine.

    Blendshapes rest near 0 and shoot up: raised brows stand 20 to 50 standard deviations out in a
    clip whose brows are mostly still. The sine keeps small values, tells large ones apart (clipping
    at 3 made all raised brows alike) and lets tracking glitches grow by their logarithm only.

    The wavelengths run from 4 down to 1/4. Differs from GaussianTalker: its angular frequencies
    reach 5600, so that two blinks that differ by a thousandth look unrelated.
    """
    if eye.shape[1] > 1:
        return torch.asinh(eye)
    octaves = torch.linspace(-2, 2, EYE_FREQUENCIES, device=eye.device, dtype=eye.dtype)
    angles = 2 * math.pi * torch.exp2(octaves) * (eye - 0.5)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
