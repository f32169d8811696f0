"""The CPU backend: the compiled kernels as two autograd functions, project and composite.

As in gsplat, the positions in the picture (`means2d`) are a node of the graph between the two, so
that densification can read their gradient.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gaussiantalker_ns.gaussians.raster_scene import RasterSettings, Scene
from gaussiantalker_ns.kernels import binning as bins
from gaussiantalker_ns.kernels import compile
from gaussiantalker_ns.kernels.project import BLOCK, DEFECTS, find_defect, project_forward
from gaussiantalker_ns.kernels.project_backward import project_backward
from gaussiantalker_ns.kernels.records import RECORD, TILE_HEIGHT, TILE_WIDTH
from gaussiantalker_ns.kernels.tiles import composite_forward
from gaussiantalker_ns.kernels.tiles_backward import NUM_MOMENTS, composite_backward, sum_slots


def _array(tensor: Tensor) -> np.ndarray:
    # A kernel that loads vectors must not meet the zero strides of an expanded tensor.
    return tensor.detach().contiguous().numpy()


def _shared(gradient: Tensor, like: Tensor) -> Tensor:
    """Sum a gradient over the cameras when they share the input."""
    return gradient.sum(0, keepdim=True) if like.shape[0] < gradient.shape[0] else gradient


def _raise_defect(found: np.ndarray, arrays: tuple[np.ndarray, ...]) -> None:
    camera, block = (int(x) for x in np.argwhere(found)[0])
    i = int(found[camera, block]) - 1
    places = [min(camera, array.shape[0] - 1) for array in arrays]
    defect = DEFECTS[find_defect(*arrays, *places, i)]
    raise ValueError(f"{defect} (frame {camera}, Gaussian {i}).")


class _Project(torch.autograd.Function):
    """Gaussians -> means2d, depths, factors of the covariance, and three without gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        viewmats: Tensor,
        Ks: Tensor,
        settings: RasterSettings,
    ) -> tuple[Tensor, ...]:
        b, n = viewmats.shape[0], means.shape[1]
        outputs = means.new_empty(b, n, 2), means.new_empty(b, n), means.new_empty(b, n, 3)
        radii = torch.empty(b, n, 2, dtype=torch.int32)
        # An entry of memory more keeps the address of an empty array valid.
        records = means.new_empty(b * n * RECORD + 1)
        boxes = torch.empty(b * n, dtype=torch.int64)
        arrays = tuple(_array(x) for x in (means, quats, scales, opacities))
        defects = np.zeros((b, -(-n // BLOCK)), np.int64)
        limits = (settings.near_plane, settings.far_plane, settings.radius_clip, settings.eps2d)
        project_forward(
            *arrays, _array(viewmats), _array(Ks), (settings.width, settings.height),
            tuple(float(x) for x in limits),
            *(_array(x) for x in (*outputs, radii, records, boxes)), defects,
        )  # fmt: skip
        if defects.any():
            _raise_defect(defects, arrays)
        ctx.save_for_backward(means, quats, scales, viewmats, Ks, radii)
        ctx.settings = settings
        ctx.mark_non_differentiable(radii, records, boxes)
        return *outputs, radii, records, boxes

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, v_means2d: Tensor, v_depths: Tensor, v_factors: Tensor, *_: Any
    ) -> tuple[Tensor | None, ...]:
        means, quats, scales, viewmats, Ks, radii = ctx.saved_tensors
        b, n = radii.shape[:2]
        outputs = [means.new_empty(b, n, x.shape[-1]) for x in (means, quats, scales)]
        v_views = np.zeros((b, -(-n // BLOCK), 12))
        project_backward(
            *(_array(x) for x in (means, quats, scales, viewmats, Ks)),
            (ctx.settings.width, ctx.settings.height), float(ctx.settings.eps2d), _array(radii),
            *(_array(x.contiguous()) for x in (v_means2d, v_depths, v_factors)),
            *(_array(x) for x in outputs), v_views,
        )  # fmt: skip
        v_means, v_quats, v_scales = (
            _shared(gradient, x) for gradient, x in zip(outputs, (means, quats, scales))
        )
        v_viewmats = None
        if ctx.needs_input_grad[4]:
            v_view = torch.from_numpy(v_views.sum(1)).to(means.dtype)
            v_viewmats = torch.zeros_like(viewmats)
            v_viewmats[:, :3, :3] = v_view[:, :9].view(b, 3, 3)
            v_viewmats[:, :3, 3] = v_view[:, 9:]
        return v_means, v_quats, v_scales, None, v_viewmats, None, None


@dataclass
class _Tiles:
    """What the binning hands to the compositing."""

    places: np.ndarray
    """Place of each Gaussian among its camera's visible ones, nearest first, int32 [b, n]."""
    slots: np.ndarray
    """First slot of each place in the order, int64 [b, n + 1]."""
    num_slots: int
    """Slots of all cameras."""
    counts: np.ndarray
    """Entries of each place, int32 [b, n]."""
    starts: np.ndarray
    """First entry of each tile's list, int64 [b * tiles + 1]."""
    entries: np.ndarray
    """Gaussian, slot and rows of each entry, int32 [entries, 3]."""


def _bin(
    depths: np.ndarray, radii: np.ndarray, records: np.ndarray, boxes: np.ndarray, size: Any
) -> _Tiles:
    b, n = depths.shape
    num_tiles = -(-size[0] // TILE_WIDTH) * -(-size[1] // TILE_HEIGHT)
    order, num_visible = np.empty((b, n), np.int32), np.empty(b, np.int64)
    bins.sort_by_depth(depths.view(np.uint32), radii, order, num_visible)
    slots, places = np.empty((b, n + 1), np.int64), np.empty((b, n), np.int32)
    num_slots = bins.reserve_slots(order, num_visible, boxes, slots, places)
    if num_slots > np.iinfo(np.int32).max:
        raise ValueError(
            f"{b * n} Gaussians cover {num_slots} tiles, more than 2^31; expected far fewer."
            " Use smaller scales or a smaller picture."
        )
    num_chunks = -(-4 * compile.num_threads() // b)
    histogram = np.zeros((b * num_chunks, num_tiles), np.int64)
    touched, counts = np.empty(num_slots, np.int64), np.empty((b, n), np.int32)
    bins.emit_entries(records, order, num_visible, slots, size, touched, counts, histogram)
    starts = np.empty(b * num_tiles + 1, np.int64)
    bins.start_lists(histogram, b, starts)
    entries = np.empty((starts[-1], 3), np.int32)
    bins.fill_lists(order, num_visible, slots, counts, touched, histogram, entries)
    return _Tiles(places, slots, num_slots, counts, starts, entries)


class _Composite(torch.autograd.Function):
    """Splats -> pictures and alphas."""

    @staticmethod
    def forward(
        ctx: Any,
        means2d: Tensor,
        factors: Tensor,
        opacities: Tensor,
        colors: Tensor,
        backgrounds: Tensor,
        plain: tuple[Tensor, ...],
        settings: RasterSettings,
    ) -> tuple[Tensor, Tensor]:
        b, _, d = colors.shape
        depths, radii, records, boxes = (_array(x) for x in plain)
        tiles = _bin(depths, radii, records, boxes, (settings.width, settings.height))
        images = colors.new_empty(b, settings.height, settings.width, d)
        alphas = colors.new_empty(b, settings.height, settings.width)
        stops = np.empty(tiles.starts.size - 1, np.int64)
        composite_forward(
            records, _array(colors).reshape(-1), tiles.entries, tiles.starts, stops,
            _array(backgrounds), (0,) * d, np.float32(settings.max_alpha),
            tuple(alphas.shape), _array(images).reshape(-1), _array(alphas).reshape(-1),
        )  # fmt: skip
        ctx.save_for_backward(means2d, factors, opacities, colors, images, alphas)
        ctx.records, ctx.tiles, ctx.stops, ctx.settings = records, tiles, stops, settings
        return images, alphas

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, v_images: Tensor, v_alphas: Tensor
    ) -> tuple[Tensor | None, ...]:
        means2d, factors, opacities, colors, images, alphas = ctx.saved_tensors
        tiles, settings = ctx.tiles, ctx.settings
        b, n, d = colors.shape
        absolutes = (0,) if settings.absgrad else ()
        partial = np.empty(tiles.num_slots * (NUM_MOMENTS + d), np.float32)
        v_images, v_alphas = v_images.contiguous(), v_alphas.contiguous()
        composite_backward(
            ctx.records, _array(colors).reshape(-1), tiles.entries, tiles.starts, ctx.stops,
            *(_array(x).reshape(-1) for x in (images, alphas, v_images, v_alphas)),
            (0,) * d, absolutes, np.float32(settings.max_alpha), tuple(alphas.shape), partial,
        )  # fmt: skip
        v_means2d, v_factors = means2d.new_empty(b, n, 2), means2d.new_empty(b, n, 3)
        v_opacities, v_colors = means2d.new_empty(b, n), means2d.new_empty(b, n, d)
        absgrad = means2d.new_empty((b, n, 2) if settings.absgrad else (0, 0, 2))
        sum_slots(
            ctx.records, _array(factors), tiles.places, tiles.slots, tiles.counts, partial,
            absolutes,
            *(_array(x) for x in (v_means2d, v_factors, v_opacities, v_colors, absgrad)),
        )  # fmt: skip
        if settings.absgrad:
            means2d.absgrad = absgrad
        v_backgrounds = None
        if ctx.needs_input_grad[4]:
            v_backgrounds = torch.einsum("bhwc,bhw->bc", v_images, 1 - alphas)
        v_opacities = _shared(v_opacities, opacities)
        return v_means2d, v_factors, v_opacities, v_colors, v_backgrounds, None, None


def project(scene: Scene, settings: RasterSettings) -> tuple[Tensor, ...]:
    """Project the Gaussians: means2d [b, n, 2], depths [b, n], radii [b, n, 2], and the rest."""
    means2d, depths, factors, radii, records, boxes = _Project.apply(
        scene.means, scene.quats, scene.scales, scene.opacities, scene.viewmats, scene.Ks, settings
    )
    return means2d, depths, radii, factors, records, boxes


def composite_splats(
    scene: Scene,
    projected: tuple[Tensor, ...],
    colors: Tensor,
    backgrounds: Tensor,
    settings: RasterSettings,
) -> tuple[Tensor, Tensor]:
    """Composite projected Gaussians: pictures [b, h, wd, D] and alphas [b, h, wd]."""
    means2d, depths, radii, factors, records, boxes = projected
    plain = (depths.detach(), radii, records, boxes)
    return _Composite.apply(means2d, factors, scene.opacities, colors, backgrounds, plain, settings)


def is_compiled() -> bool:
    """Whether compiled code of the largest kernel lies on disk."""
    return composite_backward.is_cached()
