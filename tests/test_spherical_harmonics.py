"""Spherical harmonics: values, orthogonality, and the compiled kernel against plain torch."""

import math

import pytest
import torch

from gaussiantalker_ns.rendering.spherical_harmonics import evaluate_sh, num_bases, sh_basis


def test_degrees_0_and_1_by_hand():
    values = sh_basis(1, torch.tensor([[0.0, 0.0, 3.0], [2.0, 0.0, 0.0], [0.0, -1.0, 0.0]]))
    c0, c1 = 0.5 / math.sqrt(math.pi), math.sqrt(3 / (4 * math.pi))
    expected = torch.tensor([[c0, 0.0, c1, 0.0], [c0, 0.0, 0.0, -c1], [c0, c1, 0.0, 0.0]])
    torch.testing.assert_close(values, expected)


def test_the_bases_are_orthonormal():
    """The mean of a product over the sphere, times its area, is 1 for equal bases, else 0."""
    points = 20_000
    height = torch.linspace(-1, 1, 2 * points + 1, dtype=torch.float64)[1::2]
    angle = math.pi * (3 - math.sqrt(5)) * torch.arange(points, dtype=torch.float64)
    radius = (1 - height**2).sqrt()
    directions = torch.stack([radius * angle.cos(), radius * angle.sin(), height], -1)
    basis = sh_basis(3, directions)
    gram = 4 * math.pi * basis.T @ basis / points
    torch.testing.assert_close(gram, torch.eye(16, dtype=torch.float64), atol=1e-3, rtol=0)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("frames", [1, 3])
def test_compiled_matches_float64(degree: int, frames: int):
    generator = torch.Generator().manual_seed(degree)
    directions = torch.randn(3, 700, 3, generator=generator)
    coefficients = torch.randn(frames, 700, 16, 3, generator=generator)
    visible = torch.rand(3, 700, generator=generator) > 0.2
    weights = torch.randn(3, 700, 3, generator=generator)
    results = []
    for dtype in (torch.float32, torch.float64):
        leaves = [x.to(dtype, copy=True).requires_grad_() for x in (directions, coefficients)]
        colors = evaluate_sh(degree, *leaves, visible)
        gradients = torch.autograd.grad(
            (colors * weights.to(dtype)).sum(), leaves, allow_unused=True
        )
        # Degree 0 does not look at the directions at all.
        gradients = [torch.zeros_like(x) if g is None else g for g, x in zip(gradients, leaves)]
        results.append([colors.detach(), *gradients])
    for found, expected in zip(*results):
        torch.testing.assert_close(found.double(), expected.double(), atol=2e-5, rtol=2e-5)
    assert not results[0][2][:, :, num_bases(degree) :].any()
    assert not results[0][0][~visible].any()


def test_gradcheck_of_the_plain_form():
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(2, 3, 3, generator=generator, dtype=torch.float64)
    coefficients = torch.randn(2, 3, 16, 3, generator=generator, dtype=torch.float64)
    leaves = directions.requires_grad_(), coefficients.requires_grad_()
    assert torch.autograd.gradcheck(lambda d, c: evaluate_sh(3, d, c), leaves)
