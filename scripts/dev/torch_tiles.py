"""A rasterizer in plain torch, tile by tile: what one would write without a compiler.

The benchmark's yardstick. Same pictures as `rendering.rasterize`, gradients by autograd.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from gaussiantalker_ns.gaussians.raster_scene import RasterSettings, Scene
from gaussiantalker_ns.rendering.torch_backend import MIN_ALPHA, MIN_TRANSMITTANCE, project

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


@torch.no_grad()
def _tile_lists(
    means2d: Float[Tensor, "n 2"],
    radii: Tensor,
    depths: Float[Tensor, " n"],
    width: int,
    height: int,
) -> list[Tensor]:
    """The Gaussians whose box touches each tile, nearest first, tiles row by row."""
    visible = torch.nonzero(radii[:, 0] > 0)[:, 0]
    order = visible[torch.argsort(depths[visible], stable=True)]
    low = (means2d[order] - radii[order]) / TILE_SIZE
    high = (means2d[order] + radii[order]) / TILE_SIZE
    lists = []
    for row in range(-(-height // TILE_SIZE)):
        near = torch.nonzero((low[:, 1] < row + 1) & (high[:, 1] > row))[:, 0]
        left, right = low[near, 0], high[near, 0]
        for column in range(-(-width // TILE_SIZE)):
            lists.append(order[near[(left < column + 1) & (right > column)]])
    return lists


def rasterize_in_tiles(
    scene: Scene, colors: Float[Tensor, "n 3"], settings: RasterSettings
) -> tuple[Float[Tensor, "h wd 3"], Float[Tensor, "h wd"]]:
    """Draw one camera's picture and alpha."""
    means2d, depths, radii, conics = (x[0] for x in project(scene, settings))
    width, height = settings.width, settings.height
    lists = _tile_lists(means2d, radii, depths, width, height)
    # One gather for all tiles: one per tile would send each tile's gradient over all Gaussians.
    splats = torch.cat([means2d, conics, scene.opacities[0, :, None], colors], -1)
    tiles = splats[torch.cat(lists)].split([len(over) for over in lists])
    num_columns = -(-width // TILE_SIZE)
    rows = []
    for row in range(0, height, TILE_SIZE):
        drawn = []
        for column in range(0, width, TILE_SIZE):
            over = tiles[row // TILE_SIZE * num_columns + column // TILE_SIZE]
            size = min(TILE_SIZE, height - row), min(TILE_SIZE, width - column)
            y, x = torch.meshgrid(*(torch.arange(k) + 0.5 for k in size), indexing="ij")
            pixels = torch.stack([x + column, y + row], -1).reshape(-1, 2)
            picture, alpha = _draw_tile(
                pixels, over[:, :2], over[:, 2:5], over[:, 5], over[:, 6:], settings.max_alpha
            )
            drawn.append(torch.cat([picture, alpha[:, None]], -1).reshape(*size, 4))
        rows.append(torch.cat(drawn, 1))
    picture = torch.cat(rows)
    return picture[..., :3], picture[..., 3]
