"""The condition tokens (Eq. 13): switches of Table 5, and their spread over frames."""

import math
from dataclasses import replace

import pytest
import torch

from gaussiantalker_ns.fields.tokens import ConditionTokensConfig, encode_eye
from gaussiantalker_ns.frame_signals import FrameCondition

NUM_FRAMES = 400


def speech_like(frames: int, rows: int, features: int) -> torch.Tensor:
    """Standardised features that change slowly over the eight frames of a window."""
    steps = torch.randn(NUM_FRAMES + frames + 4, rows, features)
    smooth = sum((steps[i : len(steps) - 4 + i] for i in range(5)), torch.zeros(())) / 5**0.5
    return smooth.unfold(0, frames, 1)[:NUM_FRAMES].permute(0, 3, 1, 2)


def condition(rows: int, features: int, eye_dim: int, num_frames: int = 8) -> FrameCondition:
    eye = torch.rand(num_frames, 1) if eye_dim == 1 else torch.randn(num_frames, eye_dim)
    return FrameCondition(
        torch.randn(num_frames, 8, rows, features), eye, torch.randn(num_frames, 12)
    )


@pytest.mark.parametrize(("rows", "features"), [(16, 29), (2, 384), (1, 80)])
@pytest.mark.parametrize("eye_dim", [1, 17])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_tokens_vary_over_frames(rows: int, features: int, eye_dim: int, seed: int) -> None:
    """With torch's own initialisation the audio token's std is a hundredth of its size."""
    torch.manual_seed(seed)
    tokens = ConditionTokensConfig().setup(rows, features, eye_dim).eval()
    frames = replace(
        condition(rows, features, eye_dim, NUM_FRAMES), audio=speech_like(8, rows, features)
    )
    with torch.no_grad():
        values = tokens(frames)
    for name, token in zip(tokens.names, values.unbind(1)):
        std, size = float(token.std(dim=0).mean()), float(token.abs().mean())
        if name == "null":
            assert std == pytest.approx(0.0, abs=1e-6)
        else:
            assert std > 0.3 * size, f"{name}: std {std:.3f}, size {size:.3f}"


@pytest.mark.parametrize("off", ["audio", "eye", "viewpoint", "null"])
def test_each_token_can_be_switched_off(off: str) -> None:
    config = replace(ConditionTokensConfig(), **{off: False})
    tokens = config.setup(2, 384, 17)
    assert tokens.names == tuple(n for n in ("audio", "eye", "viewpoint", "null") if n != off)
    assert not any(name.split(".")[0] == off for name, _ in tokens.named_parameters())
    frames = condition(2, 384, 17)
    values = tokens.eval()(frames)
    assert values.shape == (8, 3, 64)
    if off != "null":
        other = replace(frames, **{off: torch.randn_like(getattr(frames, off))})
        assert torch.equal(values, tokens(other))


def test_no_token_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at least one token"):
        ConditionTokensConfig(audio=False, eye=False, viewpoint=False, null=False)


def test_overriding_one_condition_changes_its_token_only() -> None:
    tokens = ConditionTokensConfig().setup(2, 384, 17).eval()
    frames = condition(2, 384, 17)
    shut = replace(frames, eye=frames.eye + 1)
    changed = (tokens(frames) - tokens(shut)).abs().sum(dim=(0, 2)) > 0
    assert dict(zip(tokens.names, changed.tolist())) == {
        "audio": False,
        "eye": True,
        "viewpoint": False,
        "null": False,
    }


def test_null_is_the_same_in_all_frames_and_learned() -> None:
    tokens = ConditionTokensConfig().setup(2, 384, 17)
    values = tokens(condition(2, 384, 17))
    assert torch.equal(values[0, 3], values[5, 3])
    values.sum().backward()
    assert tokens.null.grad is not None and bool((tokens.null.grad == 8).all())


def test_gradients_reach_every_parameter() -> None:
    tokens = ConditionTokensConfig().setup(16, 29, 1)
    tokens(condition(16, 29, 1)).square().sum().backward()
    for name, parameter in tokens.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_dropout_zeroes_its_own_token_in_training_only() -> None:
    torch.manual_seed(0)
    tokens = ConditionTokensConfig(eye_dropout=0.2, viewpoint_dropout=0.6).setup(2, 384, 17)
    frames = condition(2, 384, 17, 100)
    empty = (tokens(frames) == 0).all(dim=-1).float().mean(dim=0)
    assert empty[0] == empty[3] == 0
    assert 0.05 < float(empty[1]) < 0.35 < 0.45 < float(empty[2]) < 0.75
    assert not bool((tokens.eval()(frames) == 0).all(dim=-1).any())
    with pytest.raises(ValueError, match=r"viewpoint_dropout is 1.0; expected a fraction"):
        ConditionTokensConfig(viewpoint_dropout=1.0)


def test_encoding_of_the_eye() -> None:
    """In mid-range a blink has sines 0 and cosines 1; raised brows stay apart, glitches small."""
    middle = encode_eye(torch.tensor([[0.5]]))
    assert middle.shape == (1, 32)
    assert torch.allclose(middle[0, :16], torch.zeros(16))
    assert torch.allclose(middle[0, 16:], torch.ones(16))
    near, far = encode_eye(torch.tensor([[0.5], [0.501], [0.9]])).diff(dim=0).norm(dim=1)
    assert float(near) < 0.1 < float(far)
    encoded = encode_eye(torch.tensor([[0.1, 20.0], [-0.1, 40.0], [0.0, 80.0]]))
    assert torch.allclose(encoded[:, 0], torch.tensor([0.1, -0.1, 0.0]), atol=2e-4)
    rest, raised, high = encoded[:, 1]
    assert float(raised - rest) == pytest.approx(float(high - raised), abs=1e-3)
    assert float(high) == pytest.approx(math.log(160), abs=1e-3)
