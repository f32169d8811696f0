"""F_deform: offsets of the Gaussian attributes from features and tokens (Eq. 10-14, Sec. 4.3.3).

On a CPU, attention and heads are computed together where that is possible: with one attention layer
and no feed-forward network behind it. Three of the four large matrix products then shrink to the
number of tokens, and what does not depend on the frame is shared by a batch or kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gaussiantalker_ns.fields.attention import SpatialAudioAttention
from gaussiantalker_ns.gaussians.gaussians import GaussianDeltas


@dataclass
class DeformationHeadsConfig:
    """Which attributes are deformed, and the size of the network that does it."""

    _target: type = field(default_factory=lambda: DeformationHeads)
    """Class to build."""
    position: bool = True
    """Predict offsets of position (Table 4 switches attributes off)."""
    scale: bool = True
    """Predict offsets of scale."""
    rotation: bool = True
    """Predict offsets of rotation."""
    sh: bool = True
    """Predict offsets of the spherical harmonics."""
    opacity: bool = True
    """Predict offsets of opacity."""
    hidden_width: int = 128
    """Width of the hidden layers, the public code's."""
    joint: bool = False
    """One hidden layer for all offsets instead of one each: half the work, for CPUs."""
    output_gain: float = 0.1
    """Factor on the output layer's initial weights, so that the offsets start near zero."""

    def setup(self, width: int, num_sh_bases: int) -> "DeformationHeads":
        """Build the heads over features of length `width`; degree 3 has 16 bases, degree 1 four."""
        return self._target(self, width, num_sh_bases)


class DeformationHeads(nn.Module):
    """One network of two layers per attribute (the public code's sizes), or one for all of them.

    The hidden layers of the separate networks are the rows of one matrix, which is one product.
    """

    def __init__(self, config: DeformationHeadsConfig, width: int, num_sh_bases: int) -> None:
        super().__init__()
        self.config = config
        sizes = {
            "position": 3,
            "scale": 3,
            "rotation": 4,
            "opacity": 1,
            "sh": 3 * num_sh_bases,
        }
        self.deformed = tuple(name for name in sizes if getattr(config, name))
        self.sizes = [sizes[name] for name in self.deformed]
        if not self.deformed:
            return
        if config.joint:
            self.hidden = nn.Linear(width, config.hidden_width)
            self.output = nn.Linear(config.hidden_width, sum(self.sizes))
            self.output.weight.data *= config.output_gain
            nn.init.zeros_(self.output.bias)
            return
        self.hidden = nn.Linear(width, len(self.deformed) * config.hidden_width)
        for rows in self.hidden.weight.data.chunk(len(self.deformed)):
            nn.init.xavier_uniform_(rows)
        self.outputs = nn.ModuleList()
        for size in self.sizes:
            output = nn.Linear(config.hidden_width, size)
            nn.init.xavier_uniform_(output.weight, config.output_gain)
            nn.init.zeros_(output.bias)
            self.outputs.append(output)

    def forward(self, h: Float[Tensor, "b n d"]) -> GaussianDeltas:
        """Predict the offsets of b frames, before activation."""
        if not self.deformed:
            return GaussianDeltas()
        if self.config.joint:
            return self.split(self.output(torch.relu(self.hidden(h))))
        # The public code's networks begin with a rectifier.
        hidden = torch.relu(self.hidden(torch.relu(h))).chunk(len(self.outputs), dim=-1)
        return self.named([output(part) for output, part in zip(self.outputs, hidden)])

    def split(self, values: Float[Tensor, "b n m"]) -> GaussianDeltas:
        """Give the columns of the joint output layer their names."""
        return self.named(values.split(self.sizes, dim=-1))

    def named(self, values: Sequence[Tensor]) -> GaussianDeltas:
        """Give the offsets `[b, n, size]`, in the order of `deformed`, their names and shapes."""
        found = dict(zip(self.deformed, values))
        return GaussianDeltas(
            means=found.get("position"),
            log_scales=found.get("scale"),
            quats=found.get("rotation"),
            opacity_logits=found["opacity"].squeeze(-1) if "opacity" in found else None,
            sh=found["sh"].unflatten(-1, (-1, 3)) if "sh" in found else None,
        )


@dataclass
class DeformationCache:
    """What the fused form needs of each Gaussian, the same in all frames."""

    feature: Float[Tensor, "n d"]
    """Normalised tri-plane feature z^0."""
    centred: Float[Tensor, "d n"]
    """z^0 plus the bias of the attention's output, minus its mean over channels."""
    squares: Float[Tensor, " n"]
    """Mean square of `centred` over channels."""
    hidden: Float[Tensor, "c n"]
    """`centred` after the weights of layer norm and hidden layer."""


def can_fuse(fusion: nn.Module, heads: DeformationHeads, features: Tensor) -> bool:
    """Tell whether attention and heads can be computed together on this device, in this mode."""
    if not isinstance(fusion, SpatialAudioAttention) or len(fusion.layers) != 1:
        return False
    layer: Any = fusion.layers[0]
    return (
        layer.form == "folded"
        and layer.feed_forward is None
        and not (layer.dropout.p > 0 and layer.training)
        and bool(heads.deformed)
        and heads.config.joint
        and heads.config.hidden_width % 4 == 0
        and features.device.type == "cpu"
        and features.dtype == torch.float32
    )


def deform(
    fusion: nn.Module,
    heads: DeformationHeads,
    features: Float[Tensor, "n f"],
    tokens: Float[Tensor, "b k d"],
    token_mask: Float[Tensor, "k n"] | None = None,
    cache: DeformationCache | None = None,
) -> GaussianDeltas:
    """Predict the offsets of b frames.

    Args:
        fusion: Attention or one of its baselines.
        heads: Deformation heads.
        features: Tri-plane features of the canonical positions.
        tokens: Condition tokens.
        token_mask: Weight of each token at each Gaussian; 1 if missing.
        cache: What `precompute` returned for the same features and weights, when many frames of a
            trained head are rendered; made here if missing.
    """
    if not can_fuse(fusion, heads, features):
        return heads(fusion(features, tokens, token_mask))
    # Numba takes half a second to import, which a GPU user need not wait for.
    from gaussiantalker_ns.kernels.deformation import FusedDeformation

    layer: Any = fusion.layers[0]  # type: ignore[index]
    cache = precompute(fusion, heads, features) if cache is None else cache
    b, width = len(tokens), heads.hidden.out_features
    weights, value_map = layer.fold(cache.feature, tokens, token_mask)
    centred_values = (value_map - value_map.mean(dim=-1, keepdim=True)) / value_map.shape[-1] ** 0.5
    overlaps = centred_values.flatten(0, 1) @ cache.centred / value_map.shape[-1] ** 0.5
    scaled = heads.hidden.weight * layer.attention_norm.weight
    hidden_v = (centred_values * value_map.shape[-1] ** 0.5) @ scaled.T
    shift = heads.hidden.weight @ layer.attention_norm.bias + heads.hidden.bias
    values = FusedDeformation.apply(
        weights.reshape(b, -1, len(features)),
        overlaps.unflatten(0, (b, -1)),
        centred_values @ centred_values.transpose(1, 2),
        cache.squares,
        cache.hidden,
        hidden_v,
        shift,
        heads.output.weight,
        heads.output.bias,
    )
    assert isinstance(values, Tensor) and width == hidden_v.shape[-1]
    return heads.split(values)


def precompute(
    fusion: nn.Module, heads: DeformationHeads, features: Float[Tensor, "n f"]
) -> DeformationCache:
    """Compute once what all frames share; for inference keep it as long as no weight changes."""
    layer: Any = fusion.layers[0]  # type: ignore[index]
    feature = fusion.feature_in(features)  # type: ignore[operator]
    moved = feature + layer.out.bias
    centred = (moved - moved.mean(dim=-1, keepdim=True)).T.contiguous()
    scaled = heads.hidden.weight * layer.attention_norm.weight
    return DeformationCache(feature, centred, centred.square().mean(dim=0), scaled @ centred)
