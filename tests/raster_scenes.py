"""Small random scenes for the rasterizer's tests, and the comparison with the float64 reference."""

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from gaussiantalker_ns.rendering import torch_backend
from gaussiantalker_ns.rendering.rasterize import rasterize

NAMES = ("means", "quats", "scales", "opacities", "colors", "viewmats", "Ks")


@dataclass
class RasterScene:
    """Arguments of one call of `rasterize`."""

    tensors: dict[str, Tensor]
    width: int = 77
    height: int = 61
    options: dict[str, Any] = field(default_factory=dict)

    def with_tensors(self, **tensors: Tensor) -> "RasterScene":
        return replace(self, tensors={**self.tensors, **tensors})

    def double(self) -> "RasterScene":
        return replace(self, tensors={k: v.detach().double() for k, v in self.tensors.items()})

    def draw(self, backend: str, **options: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
        arguments = dict(self.tensors)
        positional = [arguments.pop(name) for name in NAMES]
        options = {**self.options, **arguments, **options}
        # Without the tests' type checks, which would come before the errors that users see.
        return inspect.unwrap(rasterize)(
            *positional, self.width, self.height, backend=backend, **options
        )


def look_at_head(angle: float, distance: float = 6.0) -> Tensor:
    """View matrix of a camera on a circle around the origin."""
    c, s, down, level = math.cos(angle), math.sin(angle), 0.1, math.sqrt(1 - 0.1**2)
    view = torch.eye(4)
    view[:3, :3] = torch.tensor(
        [[c, 0.0, -s], [down * s, level, down * c], [level * s, -down, level * c]]
    )
    view[2, 3] = distance
    return view


def random_scene(n: int = 200, b: int = 1, per_frame: bool = False, seed: int = 0) -> RasterScene:
    """Gaussians of about the size of a head's, seen by b cameras; `per_frame` gives b sets."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    lead = (b, n) if per_frame else (n,)
    K = torch.tensor([[150.0, 0.0, 39.0], [0.0, 155.0, 30.0], [0.0, 0.0, 1.0]])
    return RasterScene(
        {
            "means": randn(*lead, 3) * torch.tensor([0.8, 0.7, 0.8]),
            "quats": randn(*lead, 4),
            "scales": 0.12 * torch.exp(0.5 * randn(*lead, 3)),
            "opacities": 0.1 + 0.8 * rand(*lead),
            "colors": rand(*lead, 3),
            "viewmats": torch.stack([look_at_head(0.3 * i - 0.2) for i in range(b)]),
            "Ks": K.expand(b, 3, 3).clone(),
        }
    )


@contextmanager
def scaled_thresholds(factor: float) -> Iterator[None]:
    """Move the reference's thresholds a little."""
    alpha, transmittance = torch_backend.MIN_ALPHA, torch_backend.MIN_TRANSMITTANCE
    torch_backend.MIN_ALPHA = alpha * factor
    torch_backend.MIN_TRANSMITTANCE = transmittance * factor
    try:
        yield
    finally:
        torch_backend.MIN_ALPHA = alpha
        torch_backend.MIN_TRANSMITTANCE = transmittance


def clear_cut_pixels(scene: RasterScene) -> Tensor:
    """Mask [b, h, wd, 1] of pixels where no threshold is so close that float32 may miss it."""
    with torch.no_grad():
        images = []
        for factor in (1 - 3e-5, 1.0, 1 + 3e-5):
            with scaled_thresholds(factor):
                images.append(scene.double().draw("torch")[0])
    change = torch.stack([(image - images[1]).abs() for image in images]).amax(0)
    return (change < 1e-9).all(-1, keepdim=True)


def draw_with_gradients(
    scene: RasterScene, backend: str, mask: Tensor, absgrad: bool = False
) -> tuple[Tensor, Tensor, dict[str, Tensor], dict[str, Any]]:
    """Draw, and send random gradients back through the pixels of the mask.

    Returns:
        Picture, alpha, gradients by name (with `means2d`, and `absgrad` if asked for), info.
    """
    leaves = {k: v.detach().clone().requires_grad_(k != "Ks") for k, v in scene.tensors.items()}
    picture, alpha, info = replace(scene, tensors=leaves).draw(backend, absgrad=absgrad)
    if info["means2d"].requires_grad:
        info["means2d"].retain_grad()
    generator = torch.Generator().manual_seed(7)
    weights = [torch.randn(x.shape, generator=generator).to(x) for x in (picture, alpha)]
    (picture * weights[0] * mask).sum().add((alpha * weights[1] * mask).sum()).backward()
    gradients = {k: v.grad for k, v in leaves.items() if v.grad is not None}
    gradients["means2d"] = info["means2d"].grad
    if absgrad:
        gradients["absgrad"] = info["means2d"].absgrad
    return picture.detach(), alpha.detach(), gradients, info


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what is expected."""
    difference = (found.double() - expected.double()).norm().item()
    return difference / max(expected.double().norm().item(), 1e-12)
