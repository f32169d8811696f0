"""The joint form of attention output and deformation heads as a differentiable function."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gaussiantalker_ns.fields.deformation_numba import BLOCK, backward_kernel, forward_kernel


def rounded_up(values: Tensor, dim: int) -> Tensor:
    """Append zeros so that the size along `dim` is a multiple of four."""
    missing = -values.shape[dim] % 4
    padding = [0, 0] * (values.ndim - dim - 1) + [0, missing]
    return F.pad(values, padding) if missing else values


class JointDeformation(torch.autograd.Function):
    """Offsets from attention weights; symbols and shapes as in `deformation_numba`."""

    @staticmethod
    def forward(
        ctx: Any,
        shares: Tensor,
        overlaps: Tensor,
        gram: Tensor,
        squares: Tensor,
        hidden_x: Tensor,
        hidden_v: Tensor,
        shift: Tensor,
        weight: Tensor,
        bias: Tensor,
    ) -> Tensor:
        """Compute the offsets [b, n, outputs]."""
        b, _, n = shares.shape
        inputs = (
            shares.contiguous(),
            overlaps.contiguous(),
            gram.contiguous(),
            squares.contiguous(),
            hidden_x.contiguous(),
            rounded_up(hidden_v, 1).contiguous(),
            shift.contiguous(),
            rounded_up(weight, 0).contiguous(),
        )
        out = torch.empty(b, n, len(weight))
        forward_kernel(*as_arrays(inputs), bias.detach().numpy(), out.numpy())
        ctx.save_for_backward(*inputs)
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, ...]:
        """Make the hidden layer again, block by block, and spread the gradient."""
        shares, overlaps, gram, squares, hidden_x, hidden_v, shift, weight = inputs = (
            ctx.saved_tensors
        )
        v_out = grad_outputs[0].contiguous()
        b, n, num_out = v_out.shape
        m, padded, width = gram.shape[1], hidden_v.shape[1], hidden_v.shape[2]
        num_blocks = (n + BLOCK - 1) // BLOCK
        v_shares, v_overlaps = torch.empty_like(shares), torch.empty_like(overlaps)
        v_squares, v_hidden_x = torch.zeros_like(squares), torch.zeros_like(hidden_x)
        v_gram = torch.zeros(num_blocks, b, padded * padded)
        v_hidden_v = torch.zeros(num_blocks, b * padded * width)
        v_shift = torch.zeros(num_blocks, width)
        v_weight = torch.zeros(num_blocks, weight.numel())
        backward_kernel(
            *as_arrays(inputs),
            v_out.numpy(),
            v_shares.view(-1).numpy(),
            v_overlaps.view(-1).numpy(),
            v_gram.numpy(),
            v_squares.numpy(),
            v_hidden_x.view(-1).numpy(),
            v_hidden_v.numpy(),
            v_shift.numpy(),
            v_weight.numpy(),
        )
        return (
            v_shares,
            v_overlaps,
            v_gram.sum(dim=0).view(b, padded, padded)[:, :m, :m],
            v_squares,
            v_hidden_x,
            v_hidden_v.sum(dim=0).view(b, padded, width)[:, :m],
            v_shift.sum(dim=0),
            v_weight.sum(dim=0).view(-1, width)[:num_out],
            v_out.sum(dim=(0, 1)),
        )


def as_arrays(inputs: tuple[Tensor, ...]) -> tuple[np.ndarray, ...]:
    """What the kernels take: everything flat but g."""
    gram = inputs[2]
    return tuple((t if t is gram else t.view(-1)).detach().numpy() for t in inputs)
