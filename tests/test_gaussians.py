"""The bundles of tensors: indexing, moving, deforming (Eq. 9)."""

import pytest
import torch
from torch import Tensor

from gaussiantalker_ns.frame_signals import FrameCondition
from gaussiantalker_ns.gaussians.gaussians import GaussianDeltas, Gaussians

NUM_GAUSSIANS = 5
NUM_FRAMES = 3


def canonical_gaussians(num_bases: int = 4) -> Gaussians:
    n = NUM_GAUSSIANS
    return Gaussians(
        means=torch.randn(n, 3),
        log_scales=torch.randn(n, 3),
        quats=torch.randn(n, 4),
        opacity_logits=torch.randn(n),
        sh=torch.randn(n, num_bases, 3),
    )


def condition(num_frames: int) -> FrameCondition:
    return FrameCondition(
        audio=torch.randn(num_frames, 8, 2, 6),
        eye=torch.randn(num_frames, 17),
        viewpoint=torch.randn(num_frames, 12),
    )


def test_indexing_keeps_the_batch_axis() -> None:
    frames = condition(4)
    assert len(frames) == 4
    assert frames[-1].eye.shape == (1, 17)
    assert torch.equal(frames[-1].eye[0], frames.eye[3])
    assert torch.equal(frames[1:3].audio, frames.audio[1:3])
    assert torch.equal(frames[torch.tensor([2, 0])].viewpoint, frames.viewpoint[[2, 0]])
    assert frames.to("cpu").eye.device.type == "cpu"


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(Exception, match="viewpoint|type-check"):
        FrameCondition(torch.randn(4, 8, 2, 6), torch.randn(4, 1), torch.randn(4, 11))
    with pytest.raises(Exception, match="eye|type-check"):
        FrameCondition(torch.randn(4, 8, 2, 6), torch.randn(3, 1), torch.randn(4, 12))


def test_offsets_are_added_before_activation() -> None:
    """A logit of 0 is opacity 1/2; an offset of log 3 makes it 3/4. exp(log 2 + log 3) = 6."""
    gaussians = canonical_gaussians()
    gaussians.opacity_logits.zero_()
    gaussians.log_scales.fill_(torch.tensor(2.0).log())
    log_three = torch.full((NUM_FRAMES, NUM_GAUSSIANS), 3.0).log()
    moved = gaussians.deformed(
        GaussianDeltas(opacity_logits=log_three, log_scales=log_three[..., None].expand(-1, -1, 3))
    )
    assert torch.allclose(moved.opacities, torch.tensor(0.75))
    assert torch.allclose(moved.scales, torch.tensor(6.0))
    assert moved.means.shape == (NUM_FRAMES, NUM_GAUSSIANS, 3)
    assert torch.equal(moved.means[1], gaussians.means)
    assert len(moved) == len(gaussians) == NUM_GAUSSIANS


def test_no_offsets_leave_the_gaussians_alone() -> None:
    gaussians = canonical_gaussians()
    assert gaussians.deformed(GaussianDeltas()) is gaussians


def test_offsets_of_fewer_bases_change_the_first_ones() -> None:
    gaussians = canonical_gaussians(num_bases=16)
    offsets = torch.randn(NUM_FRAMES, NUM_GAUSSIANS, 4, 3)
    moved = gaussians.deformed(GaussianDeltas(sh=offsets))
    assert moved.sh.shape == (NUM_FRAMES, NUM_GAUSSIANS, 16, 3)
    assert torch.equal(moved.sh[:, :, :4], gaussians.sh[:, :4] + offsets)
    assert torch.equal(moved.sh[2, :, 4:], gaussians.sh[:, 4:])


def test_gradients_reach_canonical_gaussians_and_offsets() -> None:
    gaussians = canonical_gaussians()
    tensors: list[Tensor] = [t.requires_grad_() for t in vars(gaussians).values()]
    offsets = torch.zeros(NUM_FRAMES, NUM_GAUSSIANS, 3, requires_grad=True)
    moved = gaussians.deformed(GaussianDeltas(means=offsets))
    loss = sum((t.sum() for t in vars(moved).values()), torch.zeros(()))
    loss.backward()
    assert all(t.grad is not None and bool((t.grad == NUM_FRAMES).all()) for t in tensors)
    assert offsets.grad is not None and bool((offsets.grad == 1).all())
