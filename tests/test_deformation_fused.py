"""Attention and heads computed together against one after the other."""

import pytest
import torch
from torch import Tensor

from gaussiantalker_ns.fields.attention import (
    FusionConfig,
    SpatialAudioAttention,
    SpatialAudioAttentionConfig,
)
from gaussiantalker_ns.fields.deformation import (
    DeformationHeads,
    DeformationHeadsConfig,
    can_fuse,
    deform,
    precompute,
)
from gaussiantalker_ns.gaussians.gaussians import GaussianDeltas
from gaussiantalker_ns.kernels.compile import num_threads, set_num_threads

# Float32 sums in another order.
TOLERANCE = 1e-5


def build(
    num_tokens: int = 4, num_heads: int = 2, num_sh_bases: int = 4, num_layers: int = 1
) -> tuple[SpatialAudioAttention, DeformationHeads]:
    torch.manual_seed(0)
    attention = SpatialAudioAttentionConfig(
        num_layers=num_layers, num_heads=num_heads, feed_forward_width=0, dropout=0.0
    ).setup(64, 64, num_tokens)
    heads = DeformationHeadsConfig(joint=True).setup(64, num_sh_bases)
    assert isinstance(attention, SpatialAudioAttention)
    with torch.no_grad():
        for parameter in (*attention.parameters(), *heads.parameters()):
            parameter.add_(0.1 * torch.randn_like(parameter))
    return attention, heads


def joined(deltas: GaussianDeltas) -> Tensor:
    return torch.cat([delta.flatten(1) for delta in deltas.present()], dim=1)


def test_no_number_escapes_from_partly_filled_blocks() -> None:
    """A block of 128 places with 5 Gaussians, used again and again by the same thread."""
    attention, heads = build()
    features, tokens = torch.rand(5, 64), 10 * torch.randn(40, 4, 64)
    values = joined(deform(attention, heads, features, tokens))
    grads = torch.autograd.grad(values.square().sum(), [*heads.parameters()])
    assert all(bool(grad.isfinite().all()) for grad in (values, *grads))


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize(
    ("num_points", "num_frames", "num_tokens", "num_heads", "num_sh_bases"),
    [(300, 3, 4, 2, 4), (128, 1, 3, 2, 16), (77, 2, 4, 1, 1), (5, 2, 1, 1, 9)],
)
def test_together_equals_one_after_the_other(
    num_points: int,
    num_frames: int,
    num_tokens: int,
    num_heads: int,
    num_sh_bases: int,
    limited: bool,
) -> None:
    attention, heads = build(num_tokens, num_heads, num_sh_bases)
    features = torch.rand(num_points, 64).requires_grad_()
    tokens = torch.randn(num_frames, num_tokens, 64).requires_grad_()
    inputs = [features, tokens, *attention.parameters(), *heads.parameters()]
    token_mask = torch.rand(num_tokens, num_points) + 1e-3 if limited else None
    assert can_fuse(attention, heads, features)
    results = []
    for values in (
        joined(heads(attention(features, tokens, token_mask))),
        joined(deform(attention, heads, features, tokens, token_mask)),
    ):
        cotangent = torch.randn(values.shape, generator=torch.Generator().manual_seed(1))
        results.append([values, *torch.autograd.grad((values * cotangent).sum(), inputs)])
    for plain, together in zip(*results):
        size = max(float(plain.detach().abs().max()), 1.0)
        assert torch.allclose(plain, together, atol=TOLERANCE * size, rtol=0)


def test_what_frames_share_can_be_kept() -> None:
    attention, heads = build()
    features, tokens = torch.rand(50, 64), torch.randn(2, 4, 64)
    with torch.no_grad():
        cache = precompute(attention, heads, features)
        assert torch.equal(
            joined(deform(attention, heads, features, tokens, cache=cache)),
            joined(deform(attention, heads, features, tokens)),
        )


def test_falls_back_where_it_cannot_be_done_together() -> None:
    features, tokens = torch.rand(20, 64), torch.randn(2, 4, 64)
    _, heads = build()
    others = [
        build(num_layers=2)[0],
        FusionConfig(mode="concat").setup(64, 64, 4),
        SpatialAudioAttentionConfig(num_layers=1, dropout=0.0).setup(64, 64, 4),
        SpatialAudioAttentionConfig(num_layers=1, feed_forward_width=0).setup(64, 64, 4),
        SpatialAudioAttentionConfig(
            num_layers=1, feed_forward_width=0, dropout=0.0, form="plain"
        ).setup(64, 64, 4),
    ]
    for fusion in others:
        assert not can_fuse(fusion, heads, features)
        assert joined(deform(fusion.eval(), heads, features, tokens)).shape == (2, 20 * 23)
    assert not can_fuse(build()[0].double(), heads, features.double())


def test_dropout_is_no_obstacle_after_training() -> None:
    _, heads = build()
    attention = SpatialAudioAttentionConfig(num_layers=1, feed_forward_width=0).setup(64, 64, 4)
    features, tokens = torch.rand(20, 64), torch.randn(2, 4, 64)
    assert not can_fuse(attention, heads, features)
    attention.eval()
    assert can_fuse(attention, heads, features)
    together, plain = deform(attention, heads, features, tokens), heads(attention(features, tokens))
    assert torch.allclose(joined(together), joined(plain), atol=TOLERANCE)


def test_runs_are_bit_identical_for_any_number_of_threads() -> None:
    attention, heads = build()
    features, tokens = torch.rand(400, 64), torch.randn(2, 4, 64)

    def gradients() -> tuple[Tensor, ...]:
        values = joined(deform(attention, heads, features, tokens))
        # The input norm is left out: torch sums its gradient in an order that depends on threads.
        weights = [*attention.layers.parameters(), *heads.parameters()]
        return torch.autograd.grad(values.square().sum(), weights)

    before = num_threads()
    many = gradients()
    try:
        set_num_threads(1)
        one = gradients()
    finally:
        set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(one, many))
