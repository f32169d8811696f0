"""Simpler ways to merge features and conditions, for comparison (Sec. 4.3.1)."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gaussiantalker_ns.fields.attention import feature_input
from gaussiantalker_ns.fields.layers import NEGATIVE_SLOPE, initialise


@dataclass
class FusionConfig:
    """A baseline in place of the spatial-audio attention."""

    _target: type = field(default_factory=lambda: Fusion)
    """Class to build."""
    mode: Literal["concat", "multiply"] = "concat"
    """`concat` joins feature and tokens as RAD-NeRF does; `multiply` first weighs the channels of
    every token by the feature, as ER-NeRF does."""
    hidden_width: int = 128
    """Width of the hidden layer."""

    def setup(self, feature_dim: int, width: int, num_tokens: int) -> nn.Module:
        """Build the module for tri-plane features and `num_tokens` tokens of length `width`."""
        return self._target(self, feature_dim, width, num_tokens)


class Fusion(nn.Module):
    """Feature and (weighted) tokens joined and passed through one hidden layer, with a skip."""

    def __init__(self, config: FusionConfig, feature_dim: int, width: int, num_tokens: int) -> None:
        super().__init__()
        self.config = config
        self.num_tokens = num_tokens
        self.feature_in = feature_input(feature_dim, width)
        hidden = config.hidden_width
        self.feature_hidden = nn.Linear(width, hidden)
        self.token_hidden = nn.Linear(num_tokens * width, hidden, bias=False)
        self.output = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width)
        self.channel_weights: nn.Sequential | None = None
        if config.mode == "multiply":
            self.channel_weights = nn.Sequential(
                nn.Linear(width, hidden),
                nn.LeakyReLU(NEGATIVE_SLOPE),
                nn.Linear(hidden, num_tokens * width),
                nn.Sigmoid(),
            )
        initialise(self)

    def forward(
        self,
        features: Float[Tensor, "n f"],
        tokens: Float[Tensor, "b k d"],
        reach: Float[Tensor, "k n"] | None = None,
        return_attention: bool = False,
    ) -> Float[Tensor, "b n d"] | tuple[Float[Tensor, "b n d"], Float[Tensor, "b k n"]]:
        """Merge the features of canonical positions with the tokens of b frames.

        Args:
            features: Tri-plane features.
            tokens: Condition tokens.
            reach: Factors on the tokens; all 1 if missing.
            return_attention: Return the shares of the tokens, too.

        Returns:
            The audio-aware features; with `return_attention` also each token's share of the channel
            weights, which does not depend on the frame (equal shares when joining without weights).
        """
        z = self.feature_in(features)
        shares = z.new_full((len(z), self.num_tokens), 1 / self.num_tokens)
        # A linear layer on joined inputs is the sum of linear layers on the parts.
        if self.channel_weights is None:
            weight = self.token_hidden.weight.unflatten(1, (self.num_tokens, -1))
            parts = torch.einsum("bkd,hkd->bkh", tokens, weight)
            heard = parts.sum(dim=1, keepdim=True) if reach is None else reach.T @ parts
        else:
            weights = self.channel_weights(z)
            by_token = weights.unflatten(-1, (self.num_tokens, -1))
            shares = by_token.mean(dim=-1)
            shares = shares / shares.sum(dim=-1, keepdim=True)
            if reach is not None:
                by_token = by_token * reach.T[..., None]
            heard = self.token_hidden((tokens[:, None] * by_token).flatten(2))
        hidden = torch.relu(self.feature_hidden(z) + heard)
        h = self.norm(z + self.output(hidden))
        return (h, shares.T.expand(len(tokens), -1, -1)) if return_attention else h
