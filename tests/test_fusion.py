"""The baselines in place of the attention: joining and weighing."""

import pytest
import torch

from gaussiantalker_ns.fields.attention import FusionConfig

MODES = ["concat", "multiply"]


@pytest.mark.parametrize("mode", MODES)
def test_same_interface_as_the_attention(mode: str) -> None:
    fusion = FusionConfig(mode=mode).setup(96, 64, 4)  # type: ignore[arg-type]
    features = torch.rand(30, 96, requires_grad=True)
    tokens = torch.randn(3, 4, 64, requires_grad=True)
    h, maps = fusion(features, tokens, return_attention=True)
    assert h.shape == (3, 30, 64) and maps.shape == (3, 4, 30)
    assert torch.allclose(maps.sum(dim=1), torch.ones(3, 30), atol=1e-5)
    assert torch.equal(fusion(features, tokens), h)
    h.square().sum().backward()
    h_inputs = (features.grad, tokens.grad, *(p.grad for p in fusion.parameters()))
    assert all(grad is not None and grad.any() for grad in h_inputs)


@pytest.mark.parametrize("mode", MODES)
def test_batch_is_a_stack_of_singles(mode: str) -> None:
    fusion = FusionConfig(mode=mode).setup(64, 64, 4)  # type: ignore[arg-type]
    features, tokens = torch.rand(30, 64), torch.randn(3, 4, 64)
    singles = torch.cat([fusion(features, tokens[i : i + 1]) for i in range(3)])
    assert torch.allclose(fusion(features, tokens), singles, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_reach_weakens_tokens(mode: str) -> None:
    fusion = FusionConfig(mode=mode).setup(64, 64, 2)  # type: ignore[arg-type]
    features, tokens = torch.rand(5, 64), torch.randn(1, 2, 64)
    token_mask = torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.5], [0.0, 0.0, 1.0, 1.0, 1.0]])
    h = fusion(features, tokens, token_mask)[0]
    for i in range(5):
        heard = tokens * token_mask[:, i, None]
        assert torch.allclose(h[i], fusion(features, heard)[0, i], atol=1e-6)


def test_concat_is_a_perceptron_on_joined_inputs() -> None:
    fusion = FusionConfig(mode="concat").setup(64, 64, 2)
    features, tokens = torch.rand(5, 64), torch.randn(1, 2, 64)
    z = fusion.feature_in(features)
    joined = torch.cat([z, tokens.flatten().expand(5, -1)], dim=-1)
    weight = torch.cat([fusion.feature_hidden.weight, fusion.token_hidden.weight], dim=1)
    hidden = torch.relu(joined @ weight.T + fusion.feature_hidden.bias)
    expected = fusion.norm(z + fusion.output(hidden))
    assert torch.allclose(fusion(features, tokens)[0], expected, atol=1e-5)


def test_weights_depend_on_the_position_not_on_the_frame() -> None:
    fusion = FusionConfig(mode="multiply").setup(64, 64, 4)
    _, maps = fusion(torch.rand(30, 64), torch.randn(3, 4, 64), return_attention=True)
    assert torch.equal(maps[0], maps[1])
    assert float(maps.std(dim=2).mean()) > 0
