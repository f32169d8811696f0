"""Spatial-audio cross-attention (Eq. 10-13, Sec. 4.3.1), and simpler fusions to compare with."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gaussiantalker_ns.fields.audio_encoder import NEGATIVE_SLOPE, initialise


@dataclass
class SpatialAudioAttentionConfig:
    """Sizes of the attention; the defaults are the full model of the paper and its code."""

    _target: type = field(default_factory=lambda: SpatialAudioAttention)
    """Class to build."""
    num_layers: int = 2
    """Layers L, at least 1: 2 for GaussianTalker, 1 for GaussianTalker*."""
    num_heads: int = 2
    """Attention heads; must divide the width."""
    feed_forward_width: int = 128
    """Hidden width of the feed-forward layers; 0 leaves them out (Eq. 12 becomes the identity)."""
    dropout: float = 0.2
    """Fraction of features dropped after attention and inside the feed-forward layer, in [0, 1)."""
    form: Literal["plain", "folded"] = "folded"
    """How the same function is computed; folded is several times faster on a CPU."""

    def setup(self, feature_dim: int, width: int, num_tokens: int) -> nn.Module:
        """Build the module for tri-plane features and `num_tokens` tokens of length `width`."""
        return self._target(self, feature_dim, width, num_tokens)


class TokenFusion(nn.Module, ABC):
    """Merges the features of canonical positions with condition tokens; subclasses say how.

    The tri-plane feature is normalised on the way in: its variation over positions is a hundredth
    of the size of the attention's output, which would drown it.
    """

    def __init__(self, feature_dim: int, width: int) -> None:
        super().__init__()
        norm = nn.LayerNorm(feature_dim, eps=1e-6)
        widen = () if feature_dim == width else (nn.Linear(feature_dim, width),)
        self.feature_in = nn.Sequential(norm, *widen)

    def forward(
        self,
        features: Float[Tensor, "n f"],
        tokens: Float[Tensor, "b k d"],
        token_mask: Float[Tensor, "k n"] | None = None,
        return_attention: bool = False,
    ) -> Float[Tensor, "b n d"] | tuple[Float[Tensor, "b n d"], Float[Tensor, "b k n"]]:
        """Merge the features of canonical positions with the tokens of b frames (Eq. 10-13).

        Args:
            features: Tri-plane features.
            tokens: Condition tokens.
            token_mask: Factors on the tokens' influence on each Gaussian; all 1 if missing.
            return_attention: Return the weights of the tokens, too.

        Returns:
            The audio-aware features z^L; with `return_attention` also how much each Gaussian looks
            at each token, averaged over layers and heads (sums to 1 over tokens).
        """
        h, weights = self.merge(self.feature_in(features), tokens, token_mask)
        return (h, torch.stack(weights).mean(dim=(0, 2))) if return_attention else h

    @abstractmethod
    def merge(
        self,
        z: Float[Tensor, "n d"],
        tokens: Float[Tensor, "b k d"],
        token_mask: Float[Tensor, "k n"] | None,
    ) -> tuple[Float[Tensor, "b n d"], list[Float[Tensor, "b heads k n"]]]:
        """Merge normalised features with tokens; return the weights of the tokens by layer, too."""


class SpatialAudioAttention(TokenFusion):
    """L cross-attention layers with skip connections, each normalised after the skip."""

    def __init__(
        self, config: SpatialAudioAttentionConfig, feature_dim: int, width: int, num_tokens: int
    ) -> None:
        if width % config.num_heads:
            raise ValueError(
                f"SpatialAudioAttentionConfig.num_heads is {config.num_heads}, which does not"
                f" divide the token width {width}; expected a divisor. Change one of the two."
            )
        super().__init__(feature_dim, width)
        self.layers = nn.ModuleList(
            CrossAttentionLayer(config, width) for _ in range(config.num_layers)
        )

    def merge(
        self,
        z: Float[Tensor, "n d"],
        tokens: Float[Tensor, "b k d"],
        token_mask: Float[Tensor, "k n"] | None,
    ) -> tuple[Float[Tensor, "b n d"], list[Float[Tensor, "b heads k n"]]]:
        """Pass the layers; the mask holds factors on the exponentials inside the softmax."""
        maps = []
        for layer in self.layers:
            z, weights = layer(z, tokens, token_mask)
            maps.append(weights)
        return z, maps


class CrossAttentionLayer(nn.Module):
    """One layer: cross-attention (Eq. 11), then the feed-forward network (Eq. 12)."""

    def __init__(self, config: SpatialAudioAttentionConfig, width: int) -> None:
        super().__init__()
        self.form = config.form
        self.num_heads = config.num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        for linear in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        self.attention_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)
        self.feed_forward: nn.Sequential | None = None
        if config.feed_forward_width:
            self.feed_forward = nn.Sequential(
                nn.Linear(width, config.feed_forward_width),
                nn.ReLU(),
                nn.Dropout(config.dropout),
                nn.Linear(config.feed_forward_width, width),
                nn.Dropout(config.dropout),
            )
            initialise(self.feed_forward)
            self.feed_forward_norm = nn.LayerNorm(width)

    def forward(
        self,
        z: Float[Tensor, "*b n d"],
        tokens: Float[Tensor, "c k d"],
        token_mask: Float[Tensor, "k n"] | None = None,
    ) -> tuple[Float[Tensor, "c n d"], Float[Tensor, "c heads k n"]]:
        """Update features, shared by all frames or one set a frame, from the tokens of c frames."""
        attend = self._attend_folded if self.form == "folded" else self._attend_plain
        attended, weights = attend(z, tokens, token_mask)
        z = self.attention_norm(z + self.dropout(attended))
        if self.feed_forward is not None:
            z = self.feed_forward_norm(z + self.feed_forward(z))
        return z, weights

    def _attend_plain(
        self, z: Tensor, tokens: Tensor, token_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Multi-head attention as usually written."""
        z = z.expand(len(tokens), *z.shape[-2:])
        query, key, value = (
            linear(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for linear, x in ((self.query, z), (self.key, tokens), (self.value, tokens))
        )
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        if token_mask is not None:
            scores = scores + token_mask.T.log()
        weights = torch.softmax(scores, dim=-1)
        attended = (weights @ value).transpose(1, 2).flatten(2)
        return self.out(attended), weights.transpose(-1, -2)

    def fold(
        self, z: Tensor, tokens: Tensor, token_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Fold the four projections into two thin matrices per frame, tokens before Gaussians.

        With k tokens and H heads, scores are z times a [d, H k] matrix (query weights times keys)
        and the output is the weights times an [H k, d] matrix (values times output weights). The
        softmax runs over a leading axis, which vectorises over Gaussians.

        Returns:
            Attention weights [b, H, k, n], and the rows [b, H k, d] that they mix.
        """
        b, k, width = tokens.shape
        heads, size = self.num_heads, width // self.num_heads
        keys = self.key(tokens).view(b, k, heads, size).transpose(1, 2) / size**0.5
        values = self.value(tokens).view(b, k, heads, size).transpose(1, 2)
        score_map = (keys @ self.query.weight.view(heads, size, width)).view(b, heads * k, width)
        score_bias = (keys @ self.query.bias.view(heads, size, 1)).view(b, heads * k, 1)
        value_map = values @ self.out.weight.view(width, heads, size).permute(1, 2, 0)
        if z.ndim == 2:
            scores = (score_map.flatten(0, 1) @ z.T).unflatten(0, (b, heads * k)) + score_bias
        else:
            scores = torch.baddbmm(score_bias, score_map, z.transpose(1, 2))
        scores = scores.view(b, heads, k, -1)
        if token_mask is not None:
            scores = scores + token_mask.log()
        weights = torch.softmax(scores, dim=2)
        return weights, value_map.reshape(b, heads * k, width)

    def _attend_folded(
        self, z: Tensor, tokens: Tensor, token_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Mix the folded rows by the attention weights."""
        weights, value_map = self.fold(z, tokens, token_mask)
        mixed = weights.flatten(1, 2).transpose(1, 2)
        return torch.baddbmm(self.out.bias, mixed, value_map), weights


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


class Fusion(TokenFusion):
    """Feature and (weighted) tokens joined and passed through one hidden layer, with a skip."""

    def __init__(self, config: FusionConfig, feature_dim: int, width: int, num_tokens: int) -> None:
        super().__init__(feature_dim, width)
        self.num_tokens = num_tokens
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

    def merge(
        self,
        z: Float[Tensor, "n d"],
        tokens: Float[Tensor, "b k d"],
        token_mask: Float[Tensor, "k n"] | None,
    ) -> tuple[Float[Tensor, "b n d"], list[Float[Tensor, "b heads k n"]]]:
        """Join and pass the hidden layer; the mask holds factors on the tokens.

        The weight of a token is its fraction of the channel weights, which does not depend on the
        frame; tokens that are joined without channel weights have equal ones.
        """
        weights = z.new_full((len(z), self.num_tokens), 1 / self.num_tokens)
        # A linear layer on joined inputs is the sum of linear layers on the parts.
        if self.channel_weights is None:
            weight = self.token_hidden.weight.unflatten(1, (self.num_tokens, -1))
            parts = torch.einsum("bkd,hkd->bkh", tokens, weight)
            merged = parts.sum(dim=1, keepdim=True) if token_mask is None else token_mask.T @ parts
        else:
            weights = self.channel_weights(z)
            by_token = weights.unflatten(-1, (self.num_tokens, -1))
            weights = by_token.mean(dim=-1)
            weights = weights / weights.sum(dim=-1, keepdim=True)
            if token_mask is not None:
                by_token = by_token * token_mask.T[..., None]
            merged = self.token_hidden((tokens[:, None] * by_token).flatten(2))
        hidden = torch.relu(self.feature_hidden(z) + merged)
        shared = weights.T.expand(len(tokens), 1, -1, -1)
        return self.norm(z + self.output(hidden)), [shared]
