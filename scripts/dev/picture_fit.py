"""`benchmark.py fit`: Gaussians paint a picture, densified by gsplat's own strategy on the CPU.

Shows that `means2d`, its gradients and the radii are what gsplat's strategies expect.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.image
import torch
from gsplat.strategy import DefaultStrategy
from jaxtyping import Float
from rich.console import Console
from torch import Tensor, nn

from gaussiantalker_ns.rendering.rasterize import rasterize

LEARNING_RATES = {"means": 4e-3, "scales": 1e-2, "quats": 5e-3, "opacities": 3e-2, "colors": 2e-2}


@dataclass
class FitConfig:
    """Fit Gaussians to a drawn picture and write target and result side by side."""

    output: Path = Path("picture_fit.png")
    """PNG file to write."""
    num_gaussians: int = 200
    """Gaussians at the start."""
    steps: int = 1500
    """Training steps."""
    pixels: int = 128
    """Edge of the picture."""


@dataclass
class FitResult:
    """What came of a fit."""

    target: Float[Tensor, "h wd 3"]
    """The picture that was to be painted."""
    picture: Float[Tensor, "h wd 3"]
    """What the Gaussians paint."""
    counts: list[int] = field(default_factory=list)
    """Number of Gaussians after every step."""
    psnr: list[float] = field(default_factory=list)
    """Peak signal-to-noise ratio at every step."""
    num_cloned: int = 0
    """Gaussians that the strategy cloned."""
    num_split: int = 0
    """Gaussians that it split."""
    num_pruned: int = 0
    """Gaussians that it removed."""


class CountingStrategy(DefaultStrategy):
    """gsplat's strategy, which also counts what it does."""

    result: FitResult

    def _grow_gs(self, params: Any, optimizers: Any, state: Any, step: int) -> tuple[int, int]:
        cloned, split = super()._grow_gs(params, optimizers, state, step)
        self.result.num_cloned += cloned
        self.result.num_split += split
        return cloned, split

    def _prune_gs(self, params: Any, optimizers: Any, state: Any, step: int) -> int:
        pruned = super()._prune_gs(params, optimizers, state, step)
        self.result.num_pruned += pruned
        return pruned


def drawn_picture(pixels: int) -> Float[Tensor, "h wd 3"]:
    """Soft background, discs, a ring, stripes and a chequered corner: coarse and fine detail."""
    y, x = torch.meshgrid(*[(torch.arange(pixels) + 0.5) / pixels] * 2, indexing="ij")
    picture = torch.stack([0.2 + 0.5 * x, 0.4 + 0.3 * y, 0.8 - 0.4 * x * y], -1)

    def paint(inside: Tensor, *color: float) -> None:
        # Edges are one pixel soft, as in a photograph.
        weight = (inside * pixels + 0.5).clamp(0, 1)[..., None]
        picture.copy_((1 - weight) * picture + weight * torch.tensor(color))

    def distance(cx: float, cy: float) -> Tensor:
        return ((x - cx) ** 2 + (y - cy) ** 2).sqrt()

    paint(0.30 - distance(0.45, 0.55), 0.93, 0.75, 0.62)
    for cx in (0.34, 0.56):
        paint(0.055 - distance(cx, 0.47), 1.0, 1.0, 1.0)
        paint(0.025 - distance(cx, 0.47), 0.1, 0.2, 0.3)
    paint(0.02 - (distance(0.45, 0.60) - 0.12).abs() - (0.62 - y).clamp_min(0), 0.7, 0.15, 0.2)
    stripes = torch.minimum(0.02 - ((x - 0.5 * y) % 0.08 - 0.04).abs(), 0.16 - y)
    paint(stripes, 0.15, 0.35, 0.25)
    chequer = ((x * 16).floor() + (y * 16).floor()) % 2 == 0
    paint(torch.where(chequer & (x > 0.8) & (y > 0.75), 1.0, -1.0), 0.95, 0.85, 0.2)
    return picture


def _parameters(count: int) -> nn.ParameterDict:
    generator = torch.Generator().manual_seed(0)
    means = 2 * torch.rand(count, 3, generator=generator) - 1
    means[:, 2] *= 0.1
    return nn.ParameterDict(
        {
            "means": means,
            "scales": torch.full((count, 3), -2.5),
            "quats": torch.randn(count, 4, generator=generator),
            "opacities": torch.zeros(count),
            "colors": torch.zeros(count, 3),
        }
    )


def fit(config: FitConfig) -> FitResult:
    """Fit the picture; the strategy clones, splits and prunes as it sees fit."""
    torch.manual_seed(0)
    size = config.pixels
    target = drawn_picture(size)
    parameters = _parameters(config.num_gaussians)
    optimizers: dict[str, torch.optim.Optimizer] = {
        name: torch.optim.Adam([parameters[name]], lr=rate, eps=1e-15)
        for name, rate in LEARNING_RATES.items()
    }
    strategy = CountingStrategy(
        prune_opa=0.02,
        grow_grad2d=4e-4,
        grow_scale3d=0.03,
        prune_scale3d=1.0,
        refine_start_iter=100,
        refine_stop_iter=int(0.7 * config.steps),
        reset_every=10**9,
    )
    state = strategy.initialize_state(scene_scale=1.0)
    view = torch.eye(4)[None].clone()
    view[:, 2, 3] = 4.0
    K = torch.tensor([[[2.0 * size, 0, size / 2], [0, 2.0 * size, size / 2], [0, 0, 1.0]]])
    result = strategy.result = FitResult(target, target)
    for step in range(1, config.steps + 1):
        pictures, _, info = rasterize(
            parameters["means"],
            parameters["quats"],
            parameters["scales"].exp(),
            parameters["opacities"].sigmoid(),
            parameters["colors"].sigmoid(),
            view,
            K,
            size,
            size,
        )
        strategy.step_pre_backward(parameters, optimizers, state, step, info)
        error = pictures[0] - target
        (error.abs().mean() + error.square().mean()).backward()
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        strategy.step_post_backward(parameters, optimizers, state, step, info)
        result.psnr.append(-10 * error.detach().square().mean().log10().item())
        result.counts.append(len(parameters["means"]))
        result.picture = pictures[0].detach().clamp(0, 1)
    return result


def run_fit(config: FitConfig) -> None:
    """Fit, report, and write target and result beside each other."""
    result = fit(config)
    side_by_side = torch.cat([result.target, result.picture], 1)
    matplotlib.image.imsave(config.output, side_by_side.numpy())
    Console().print(
        f"{config.num_gaussians} Gaussians became {result.counts[-1]}, at most"
        f" {max(result.counts)}; {result.num_cloned} cloned, {result.num_split} split,"
        f" {result.num_pruned} pruned; PSNR {result.psnr[0]:.1f} -> {result.psnr[-1]:.1f} dB;"
        f" wrote {config.output}"
    )
