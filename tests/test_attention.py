"""Spatial-audio attention (Eq. 10-13): plain against folded form, reference loop, switches."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gaussiantalker_ns.fields.attention import SpatialAudioAttention, SpatialAudioAttentionConfig

# Float32 sums of 64 products in another order, through two layers.
TOLERANCE = 2e-5

CONFIG = SpatialAudioAttentionConfig(dropout=0.0)


def build(config: SpatialAudioAttentionConfig, feature_dim: int = 64) -> SpatialAudioAttention:
    torch.manual_seed(0)
    attention = config.setup(feature_dim, 64, 4)
    assert isinstance(attention, SpatialAudioAttention)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return attention


def inputs(num_frames: int = 3, num_points: int = 50) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    features = torch.rand(num_points, 64).requires_grad_()
    return features, torch.randn(num_frames, 4, 64).requires_grad_()


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("feed_forward_width", [0, 128])
@pytest.mark.parametrize("num_heads", [1, 2, 4])
def test_folded_form_equals_plain_form(
    num_layers: int, feed_forward_width: int, num_heads: int, limited: bool
) -> None:
    config = replace(
        CONFIG, num_layers=num_layers, feed_forward_width=feed_forward_width, num_heads=num_heads
    )
    results = []
    for form in ("plain", "folded"):
        attention = build(replace(config, form=form))
        features, tokens = inputs()
        token_mask = torch.rand(4, 50) + 1e-3 if limited else None
        h, maps = attention(features, tokens, token_mask, return_attention=True)
        (h * torch.linspace(-1, 1, h.numel()).view_as(h)).sum().backward()
        grads = [p.grad for p in attention.parameters()] + [features.grad, tokens.grad]
        results.append([h, maps, *grads])
    for plain, folded in zip(*results):
        assert plain is not None and folded is not None
        size = float(plain.abs().max())
        assert torch.allclose(plain, folded, atol=TOLERANCE * max(size, 1)), size


def test_reference_loop() -> None:
    """One head, one Gaussian at a time, written as in the paper."""
    attention = build(replace(CONFIG, num_layers=1, num_heads=1, feed_forward_width=0))
    features, tokens = inputs(num_frames=2, num_points=5)
    h, maps = attention(features, tokens, return_attention=True)
    layer = attention.layers[0]
    for frame in range(2):
        keys, values = layer.key(tokens[frame]), layer.value(tokens[frame])
        for i in range(5):
            z0 = torch.nn.functional.layer_norm(features[i], (64,), eps=1e-6)
            z0 = z0 * attention.feature_in[0].weight + attention.feature_in[0].bias
            weights = torch.softmax(keys @ layer.query(z0) / 8, dim=0)
            z1 = layer.attention_norm(z0 + layer.out(weights @ values))
            assert torch.allclose(h[frame, i], z1, atol=TOLERANCE)
            assert torch.allclose(maps[frame, :, i], weights, atol=TOLERANCE)


def test_the_token_mask_multiplies_the_exponentials_of_the_softmax() -> None:
    attention = build(replace(CONFIG, num_layers=1, num_heads=1))
    token_mask = torch.tensor([1.0, 1.0, 0.25, 1e-3])[:, None].expand(4, 50)
    _, plain = attention(*inputs(), return_attention=True)
    _, limited = attention(*inputs(), token_mask, return_attention=True)
    expected = plain * token_mask
    assert torch.allclose(limited, expected / expected.sum(dim=1, keepdim=True), atol=TOLERANCE)


def test_attention_maps_are_fractions() -> None:
    attention = build(CONFIG)
    _, maps = attention(*inputs(), return_attention=True)
    assert maps.shape == (3, 4, 50)
    assert bool((maps > 0).all())
    assert torch.allclose(maps.sum(dim=1), torch.ones(3, 50), atol=1e-5)


def test_batch_is_a_stack_of_singles_and_points_are_independent() -> None:
    attention = build(CONFIG)
    features, tokens = inputs()
    h = attention(features, tokens)
    singles = torch.cat([attention(features, tokens[i : i + 1]) for i in range(3)])
    assert torch.allclose(h, singles, atol=TOLERANCE)
    order = torch.randperm(50)
    assert torch.allclose(attention(features[order], tokens), h[:, order], atol=TOLERANCE)


@pytest.mark.parametrize("form", ["plain", "folded"])
def test_order_of_tokens_does_not_matter(form: str) -> None:
    attention = build(replace(CONFIG, form=form))
    features, tokens = inputs()
    assert torch.allclose(
        attention(features, tokens), attention(features, tokens.flip(1)), atol=TOLERANCE
    )


def test_gradcheck() -> None:
    config = SpatialAudioAttentionConfig(num_layers=2, feed_forward_width=4, dropout=0.0)
    attention = config.setup(4, 4, 3).double()
    features = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    tokens = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(attention, (features, tokens))


def test_frames_differ_at_initialisation() -> None:
    """Neither the position nor the frame drowns in the other."""
    torch.manual_seed(0)
    attention = replace(CONFIG, num_layers=1, feed_forward_width=0).setup(64, 64, 4)
    features = 0.02 + 0.01 * torch.rand(200, 64)
    h = attention(features, torch.randn(20, 4, 64))
    assert float(h.std(dim=0).mean()) > 0.2
    assert float(h.std(dim=1).mean()) > 0.2


def test_switches_change_the_parameters() -> None:
    def names(**changes: object) -> set[str]:
        return {n for n, _ in replace(CONFIG, **changes).setup(64, 64, 4).named_parameters()}

    assert any(n.startswith("layers.1") for n in names(num_layers=2))
    assert not any(n.startswith("layers.1") for n in names(num_layers=1))
    assert not any("feed_forward" in n for n in names(feed_forward_width=0))
    assert "feature_in.1.weight" in {n for n, _ in CONFIG.setup(96, 64, 4).named_parameters()}


def test_dropout_acts_in_training_only() -> None:
    attention = replace(CONFIG, dropout=0.2).setup(64, 64, 4)
    features, tokens = inputs()
    assert not torch.equal(attention(features, tokens), attention(features, tokens))
    attention.eval()
    assert torch.equal(attention(features, tokens), attention(features, tokens))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="num_heads is 3, which does not divide"):
        replace(CONFIG, num_heads=3).setup(64, 64, 4)
