"""The spatial mask of condition tokens."""

import torch

from gaussiantalker_ns.fields.tokens import token_mask

NAMES = ("audio", "eye", "viewpoint", "null")
BORDER = torch.tensor([-0.3, -0.1])


def test_a_smooth_step_between_the_heights_for_the_tokens_named():
    heights = torch.tensor([-5.0, -0.3, -0.2, -0.1, 5.0])
    means = torch.stack([torch.randn(5), heights, torch.randn(5)], dim=1).requires_grad_()
    mask = token_mask(means, BORDER, NAMES, ("eye", "viewpoint"))
    assert mask is not None and not mask.requires_grad
    assert torch.equal(mask[0], torch.ones(5)) and torch.equal(mask[3], torch.ones(5))
    assert torch.allclose(mask[1], torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]), atol=1e-5)
    assert torch.equal(mask[1], mask[2]) and not mask[1, :2].any()


def test_nothing_to_do_where_no_token_that_exists_is_named():
    means = torch.zeros(3, 3)
    assert token_mask(means, BORDER, NAMES, ()) is None
    assert token_mask(means, BORDER, ("audio", "null"), ("eye",)) is None
