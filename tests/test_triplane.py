"""The tri-plane (Eq. 7): worked example, compiled kernel against grid_sample, gradients."""

import pytest
import torch
from torch import Tensor, nn

from gaussiantalker_ns.fields.triplane import LookupForm, TriPlane, TriPlaneConfig
from gaussiantalker_ns.kernels.compile import num_threads, set_num_threads

BOUNDS = torch.tensor([[-1.0, -1.2, -0.8], [1.0, 1.3, 0.9]])

# Rounding of float32 in sums of a dozen terms.
TOLERANCE = 1e-6


def build(form: LookupForm, channels: int = 8, resolutions: tuple[int, ...] = (8, 13)) -> TriPlane:
    torch.manual_seed(0)
    return TriPlaneConfig(form=form, channels=channels, resolutions=resolutions).setup(BOUNDS)


def points(count: int, reach: float = 1.5) -> Tensor:
    """Points inside and around the box."""
    generator = torch.Generator().manual_seed(1)
    return (2 * torch.rand(count, 3, generator=generator) - 1) * reach


@pytest.mark.parametrize("form", ["numba", "torch"])
def test_worked_example(form: LookupForm) -> None:
    """Planes of 2 x 2 texels over the unit cube, read at x = 1/4, y = 1/2, z = 1.

    xy holds [[0, 4], [8, 12]] (rows y, columns x): (1 + 9) / 2 = 5. yz holds [[1, 1], [2, 4]]
    (rows z, columns y): (2 + 4) / 2 = 3. zx holds [[7, 2], [7, 6]] (rows x, columns z): at z = 1,
    3/4 * 2 + 1/4 * 6 = 3. The product is 45.
    """
    config = TriPlaneConfig(resolutions=(2,), channels=8, form=form)
    triplane = config.setup(torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))
    texels = [[[0.0, 4.0], [8.0, 12.0]], [[1.0, 1.0], [2.0, 4.0]], [[7.0, 2.0], [7.0, 6.0]]]
    triplane.planes[0].data = torch.tensor(texels)[..., None].repeat(1, 1, 1, 8)
    assert triplane(torch.tensor([[0.25, 0.5, 1.0]])).tolist() == [pytest.approx([45.0] * 8)]


def test_compiled_kernel_equals_grid_sample() -> None:
    cotangent = torch.randn(400, 16, generator=torch.Generator().manual_seed(2))
    results = {}
    for form in ("numba", "torch"):
        triplane = build(form)
        positions = points(400).requires_grad_()
        features = triplane(positions)
        features.backward(cotangent)
        assert positions.grad is not None
        grads = [plane.grad for plane in triplane.planes if plane.grad is not None]
        results[form] = [features.detach(), positions.grad, *grads]
    assert len(results["numba"]) == 4
    for ours, reference in zip(results["numba"], results["torch"]):
        assert torch.allclose(
            ours, reference, rtol=TOLERANCE, atol=TOLERANCE * reference.abs().max()
        )


def test_gradient_of_planes_alone() -> None:
    triplane = build("numba")
    positions = points(50)
    triplane(positions).sum().backward()
    alone = [plane.grad for plane in triplane.planes]
    triplane.zero_grad()
    triplane(positions.requires_grad_()).sum().backward()
    for first, second in zip(alone, triplane.planes):
        assert first is not None and second.grad is not None
        assert torch.equal(first, second.grad)


def test_outside_the_box_the_border_is_repeated_without_gradient() -> None:
    low, high = BOUNDS
    for form in ("numba", "torch"):
        triplane = build(form)
        outside = (high + 1)[None].clone().requires_grad_()
        features = triplane(outside)
        assert torch.allclose(features, triplane(high[None]))
        features.sum().backward()
        assert outside.grad is not None and not outside.grad.any()


def test_runs_are_bit_identical() -> None:
    def gradients() -> list[Tensor]:
        triplane = build("numba")
        positions = points(300).requires_grad_()
        triplane(positions).square().sum().backward()
        found = [p.grad for p in triplane.planes] + [positions.grad]
        return [grad for grad in found if grad is not None]

    before = num_threads()
    many = gradients()
    try:
        set_num_threads(1)
        one = gradients()
    finally:
        set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(one, many))


def test_gradcheck_of_the_reference() -> None:
    triplane = build("torch", channels=2, resolutions=(4,)).double()
    positions = points(6, reach=0.7).double().requires_grad_()
    assert torch.autograd.gradcheck(triplane, (positions,))


def test_permuting_points_permutes_features_and_no_points_give_none() -> None:
    triplane = build("auto")
    positions = points(20)
    order = torch.randperm(20)
    assert torch.equal(triplane(positions)[order], triplane(positions[order]))
    assert triplane(torch.zeros(0, 3)).shape == (0, triplane.out_dim)


def test_double_precision_takes_the_reference() -> None:
    assert build("auto").double()(points(3).double()).dtype == torch.float64


def test_odd_numbers_of_channels_take_the_reference() -> None:
    assert build("auto", channels=3)(points(4)).shape == (4, 6)
    with pytest.raises(ValueError, match="channels is 3; expected a multiple of 8"):
        TriPlaneConfig(form="numba", channels=3)


def test_features_tell_positions_apart_after_normalisation() -> None:
    """The raw product hardly varies; the normalised feature varies with unit standard deviation."""
    triplane = TriPlaneConfig().setup(BOUNDS)
    features = triplane(points(500, reach=0.7)).detach()
    assert triplane.out_dim == 64
    assert float(features.std(dim=0).mean()) < 0.05
    assert float(nn.functional.layer_norm(features, (64,), eps=1e-6).std(dim=0).mean()) > 0.5


def test_bounds_are_stored_and_checked() -> None:
    assert torch.equal(build("auto").state_dict()["bounds"], BOUNDS)
    with pytest.raises(ValueError, match="expected the lowest corner first"):
        TriPlaneConfig().setup(BOUNDS.flip(0))
