"""Where condition tokens are heard."""

import torch

from gaussiantalker_ns.fields.reach import token_reach

NAMES = ("audio", "eye", "viewpoint", "null")
BORDER = torch.tensor([-0.3, -0.1])


def test_a_smooth_step_between_the_heights_for_the_tokens_named():
    heights = torch.tensor([-5.0, -0.3, -0.2, -0.1, 5.0])
    means = torch.stack([torch.randn(5), heights, torch.randn(5)], dim=1).requires_grad_()
    reach = token_reach(means, BORDER, NAMES, ("eye", "viewpoint"))
    assert reach is not None and not reach.requires_grad
    assert torch.equal(reach[0], torch.ones(5)) and torch.equal(reach[3], torch.ones(5))
    assert torch.allclose(reach[1], torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]), atol=1e-5)
    assert torch.equal(reach[1], reach[2]) and not reach[1, :2].any()


def test_nothing_to_do_where_no_token_that_exists_is_named():
    means = torch.zeros(3, 3)
    assert token_reach(means, BORDER, NAMES, ()) is None
    assert token_reach(means, BORDER, ("audio", "null"), ("eye",)) is None
