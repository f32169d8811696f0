"""A rasterizer in plain torch, tile by tile: what one would write without a compiler.

The benchmark's yardstick. Same pictures as `rendering.rasterize`, gradients by autograd.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from gaussiantalker_ns.rendering.scene import RasterSettings, Scene
from gaussiantalker_ns.rendering.torch_reference import MIN_ALPHA, MIN_TRANSMITTANCE, project

TILE_SIZE = 16
"""Edge of a tile in pixels."""


def _draw_tile(
    pixels: Float[Tensor, "m 2"],
    means2d: Float[Tensor, "n 2"],
    conics: Float[Tensor, "n 3"],
    opacities: Float[Tensor, " n"],
    colors: Float[Tensor, "n 3"],
    max_alpha: float,
) -> tuple[Float[Tensor, "m 3"], Float[Tensor, " m"]]:
    """Colours and alphas of a tile's pixels, from the Gaussians over it, nearest first."""
    dx, dy = (means2d[:, None] - pixels).unbind(-1)
    A, B, C = conics[..., None].unbind(1)
    sigma = 0.5 * (A * dx * dx + C * dy * dy) + B * dx * dy
    alpha = (opacities[:, None] * torch.exp(-sigma)).clamp_max(max_alpha)
    alpha = torch.where(alpha >= MIN_ALPHA, alpha, 0.0)
    after = torch.cumprod(1 - alpha, 0)
    before = torch.cat([torch.ones_like(after[:1]), after[:-1]])
    weights = torch.where(after > MIN_TRANSMITTANCE, alpha * before, 0.0)
    return weights.T @ colors, weights.sum(0)


def rasterize_in_tiles(
    scene: Scene, colors: Float[Tensor, "n 3"], settings: RasterSettings
) -> tuple[Float[Tensor, "h wd 3"], Float[Tensor, "h wd"]]:
    """Draw one camera's picture and alpha."""
    means2d, depths, radii, conics = (x[0] for x in project(scene, settings))
    visible = torch.nonzero(radii[:, 0] > 0)[:, 0]
    order = visible[torch.argsort(depths.detach()[visible], stable=True)]
    low = (means2d.detach()[order] - radii[order]) / TILE_SIZE
    high = (means2d.detach()[order] + radii[order]) / TILE_SIZE
    means2d, conics = means2d[order], conics[order]
    opacities, colors = scene.opacities[0, order], colors[order]
    width, height = settings.width, settings.height
    rows = []
    for row in range(0, height, TILE_SIZE):
        in_row = (low[:, 1] < row / TILE_SIZE + 1) & (high[:, 1] > row / TILE_SIZE)
        near = torch.nonzero(in_row)[:, 0]
        tiles = []
        for column in range(0, width, TILE_SIZE):
            in_column = low[near, 0] < column / TILE_SIZE + 1
            in_column &= high[near, 0] > column / TILE_SIZE
            over = near[in_column]
            size = min(TILE_SIZE, height - row), min(TILE_SIZE, width - column)
            y, x = torch.meshgrid(*(torch.arange(k) + 0.5 for k in size), indexing="ij")
            pixels = torch.stack([x + column, y + row], -1).reshape(-1, 2)
            picture, alpha = _draw_tile(
                pixels,
                means2d[over],
                conics[over],
                opacities[over],
                colors[over],
                settings.max_alpha,
            )
            tiles.append(torch.cat([picture, alpha[:, None]], -1).reshape(*size, 4))
        rows.append(torch.cat(tiles, 1))
    picture = torch.cat(rows)
    return picture[..., :3], picture[..., 3]
