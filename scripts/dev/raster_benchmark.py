"""`benchmark.py raster`: the CPU rasterizer against plain torch, both measured in turn."""

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gaussiantalker_ns.gaussians.raster_scene import RasterSettings, Scene
from gaussiantalker_ns.kernels.compile import set_num_threads
from gaussiantalker_ns.rendering.rasterize import max_alpha, rasterize
from gaussiantalker_ns.scripts.dev.torch_tiles import rasterize_in_tiles

HEAD_FRACTION = 0.8
"""Fraction of the Gaussians on the shell of the head; the rest fill hair and neck."""


@dataclass
class RasterConfig:
    """Time the rasterizer, forward and with the backward pass, on head-like scenes."""

    cases: tuple[tuple[int, int], ...] = (
        (10_000, 256),
        (30_000, 256),
        (10_000, 512),
        (30_000, 512),
    )
    """Number of Gaussians and edge of the picture in pixels, per row."""
    threads: tuple[int, ...] = (1, 2)
    """Numbers of threads; those beyond the CPU cores are left out."""
    repetitions: int = 15
    """Timed runs of the rasterizer per row; the best and the median count."""
    torch_repetitions: int = 2
    """Timed runs of plain torch per row; 0 leaves it out."""
    output: Path | None = None
    """JSON file to write the figures to."""


@dataclass
class Row:
    """Times of one scene, in milliseconds."""

    num_gaussians: int
    pixels: int
    threads: int
    forward: float
    forward_median: float
    both: float
    both_median: float
    torch_forward: float | None
    torch_both: float | None
    load: float
    """Load of the machine (one minute) after the row: other jobs inflate the times."""
    mean_alpha: float = field(default=0.0)

    @property
    def ratio(self) -> float | None:
        """Plain torch over ours, forward and backward."""
        return None if self.torch_both is None else self.torch_both / self.both


def head_scene(num_gaussians: int, pixels: int, seed: int = 0) -> tuple[Scene, Tensor]:
    """An ellipsoid shell of flat discs with a filled volume: the size of a trained head's splats.

    Returns:
        The scene with one camera, and colours [1, n, 3].
    """
    generator = torch.Generator().manual_seed(seed)
    shell = int(HEAD_FRACTION * num_gaussians)
    axes = torch.tensor([0.8, 1.1, 0.9])
    surface = F.normalize(torch.randn(shell, 3, generator=generator), dim=-1) * axes
    volume = 2 * torch.rand(num_gaussians - shell, 3, generator=generator) - 1
    means = torch.cat([surface, volume * torch.tensor([1.0, 1.2, 0.9])])
    spacing = 0.85 * (4 * torch.pi * 0.87 / shell) ** 0.5
    std = torch.exp(0.3 * torch.randn(num_gaussians, 3, generator=generator))
    view = torch.eye(4)[None].clone()
    view[:, 2, 3] = 6.0
    focal = 2.4 * pixels
    K = torch.tensor([[[focal, 0, pixels / 2], [0, focal, pixels / 2], [0, 0, 1.0]]])
    scene = Scene(
        means[None],
        torch.randn(1, num_gaussians, 4, generator=generator),
        (spacing * std * torch.tensor([1.0, 1.0, 0.25]))[None],
        0.1 + 0.8 * torch.rand(1, num_gaussians, generator=generator),
        view,
        K,
    )
    return scene, torch.rand(1, num_gaussians, 3, generator=generator)


def _time(draw: Callable[[], tuple[Tensor, Tensor]], count: int) -> list[tuple[float, float]]:
    """Milliseconds of forward, and of forward and backward, of each run."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        picture, alpha = draw()
        middle = time.perf_counter()
        torch.autograd.backward(
            [picture, alpha], [torch.ones_like(picture), torch.ones_like(alpha)]
        )
        end = time.perf_counter()
        times.append(((middle - start) * 1e3, (end - start) * 1e3))
    return times


def measure(num_gaussians: int, pixels: int, threads: int, config: RasterConfig) -> Row:
    """Time one scene: ours, plain torch, ours again, so that both see the same load."""
    scene, colors = head_scene(num_gaussians, pixels)
    for leaf in (scene.means, scene.quats, scene.scales, scene.opacities, colors):
        leaf.requires_grad_()
    settings = RasterSettings(pixels, pixels, 0.01, 1e10, 0.0, 0.3, False, max_alpha())

    def ours() -> tuple[Tensor, Tensor]:
        picture, alpha, _ = rasterize(
            scene.means, scene.quats, scene.scales, scene.opacities, colors, scene.viewmats,
            scene.Ks, pixels, pixels,
        )  # fmt: skip
        return picture, alpha

    def plain() -> tuple[Tensor, Tensor]:
        return rasterize_in_tiles(scene, colors[0], settings)

    mean_alpha = ours()[1].mean().item()
    half = max(1, config.repetitions // 2)
    times = _time(ours, half)
    torch_times = _time(plain, config.torch_repetitions)
    times = sorted(times + _time(ours, max(1, config.repetitions - half)))
    both = sorted(t[1] for t in times)
    return Row(
        num_gaussians,
        pixels,
        threads,
        times[0][0],
        times[len(times) // 2][0],
        both[0],
        both[len(both) // 2],
        min((t[0] for t in torch_times), default=None),
        min((t[1] for t in torch_times), default=None),
        os.getloadavg()[0],
        mean_alpha,
    )


def run_raster(config: RasterConfig) -> None:
    """Measure every case, print the table, write the JSON file."""
    cores = os.cpu_count() or 1
    rows = []
    for threads in config.threads:
        if threads > cores:
            continue
        set_num_threads(threads)
        rows += [measure(n, pixels, threads, config) for n, pixels in config.cases]
    table = Table(title=f"Rasterizer, ms, best (median), {cores} cores, {platform.machine()}")
    headers = ("Gaussians", "pixels", "threads", "forward", "forward + backward")
    for header in (*headers, "plain torch", "ratio", "load"):
        table.add_column(header, justify="right")
    for row in rows:
        table.add_row(
            str(row.num_gaussians),
            str(row.pixels),
            str(row.threads),
            f"{row.forward:.1f} ({row.forward_median:.1f})",
            f"{row.both:.1f} ({row.both_median:.1f})",
            "" if row.torch_both is None else f"{row.torch_both:.0f}",
            "" if row.ratio is None else f"{row.ratio:.0f}x",
            f"{row.load:.1f}",
        )
    Console(width=100).print(table)
    if config.output is not None:
        figures = [{**asdict(row), "ratio": row.ratio} for row in rows]
        config.output.write_text(json.dumps(figures, indent=2) + "\n")
