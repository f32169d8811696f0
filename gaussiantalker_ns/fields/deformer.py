"""From features and tokens to offsets (Eq. 10-14), by the fastest way to the same numbers.

On a CPU, attention and heads are computed together where that is possible: with one attention layer
and no feed-forward network behind it. Three of the four large matrix products then shrink to the
number of tokens, and what does not depend on the frame is shared by a batch or kept.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gaussiantalker_ns.conditions import GaussianDeltas
from gaussiantalker_ns.fields.attention import SpatialAudioAttention
from gaussiantalker_ns.fields.deformation import DeformationHeads


@dataclass
class StaticDeformation:
    """What the joint form needs of each Gaussian, the same in all frames."""

    feature: Float[Tensor, "n d"]
    """Normalised tri-plane feature z^0."""
    centred: Float[Tensor, "d n"]
    """z^0 plus the bias of the attention's output, minus its mean over channels."""
    squares: Float[Tensor, " n"]
    """Mean square of `centred` over channels."""
    hidden: Float[Tensor, "c n"]
    """`centred` after the weights of layer norm and hidden layer."""


def can_join(fusion: nn.Module, heads: DeformationHeads, features: Tensor) -> bool:
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
    reach: Float[Tensor, "k n"] | None = None,
    static: StaticDeformation | None = None,
) -> GaussianDeltas:
    """Predict the offsets of b frames.

    Args:
        fusion: Attention or one of its baselines.
        heads: Deformation heads.
        features: Tri-plane features of the canonical positions.
        tokens: Condition tokens.
        reach: How well each token is heard at each Gaussian; well if missing.
        static: What `prepare` returned for the same features and weights, when many frames of a
            trained head are rendered; made here if missing.
    """
    if not can_join(fusion, heads, features):
        return heads(fusion(features, tokens, reach))
    # Numba takes half a second to import, which a GPU user need not wait for.
    from gaussiantalker_ns.fields.deformation_function import JointDeformation

    layer: Any = fusion.layers[0]  # type: ignore[index]
    static = prepare(fusion, heads, features) if static is None else static
    b, width = len(tokens), heads.hidden.out_features
    shares, value_map = layer.fold(static.feature, tokens, reach)
    centred_values = (value_map - value_map.mean(dim=-1, keepdim=True)) / value_map.shape[-1] ** 0.5
    overlaps = centred_values.flatten(0, 1) @ static.centred / value_map.shape[-1] ** 0.5
    scaled = heads.hidden.weight * layer.attention_norm.weight
    hidden_v = (centred_values * value_map.shape[-1] ** 0.5) @ scaled.T
    shift = heads.hidden.weight @ layer.attention_norm.bias + heads.hidden.bias
    values = JointDeformation.apply(
        shares.reshape(b, -1, len(features)),
        overlaps.unflatten(0, (b, -1)),
        centred_values @ centred_values.transpose(1, 2),
        static.squares,
        static.hidden,
        hidden_v,
        shift,
        heads.output.weight,
        heads.output.bias,
    )
    assert isinstance(values, Tensor) and width == hidden_v.shape[-1]
    return heads.split(values)


def prepare(
    fusion: nn.Module, heads: DeformationHeads, features: Float[Tensor, "n f"]
) -> StaticDeformation:
    """Compute once what all frames share; for inference keep it as long as no weight changes."""
    layer: Any = fusion.layers[0]  # type: ignore[index]
    feature = fusion.feature_in(features)  # type: ignore[operator]
    moved = feature + layer.out.bias
    centred = (moved - moved.mean(dim=-1, keepdim=True)).T.contiguous()
    scaled = heads.hidden.weight * layer.attention_norm.weight
    return StaticDeformation(feature, centred, centred.square().mean(dim=0), scaled @ centred)
