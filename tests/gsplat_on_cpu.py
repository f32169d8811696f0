"""gsplat's CUDA kernels in plain torch, behind gsplat's own wrappers and gradients.

Projection, harmonics, tiles and offsets are gsplat's own reference code; compositing is written out
here, tile by tile and pixel by pixel in the order of the sorted intersections. As on a GPU, what
belongs to Gaussians that are not drawn is left unset: here it is not a number.
"""

import functools
from typing import Any

import torch
from gsplat.cuda import _torch_impl
from torch import Tensor

NOT_SET = float("nan")
MIN_ALPHA, MAX_ALPHA, MIN_TRANSMITTANCE = 1 / 255, 0.999, 1e-4


def _inputs(*tensors: Tensor) -> list[Tensor]:
    """Leaves for the gradients, after the checks of `GSPLAT_CHECK_INPUT`."""
    for tensor in tensors:
        assert tensor.is_contiguous() and tensor.dtype == torch.float32
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]


def _projected(means, quats, scales, viewmats, Ks, width, height, *limits) -> tuple[Tensor, ...]:
    covars, _ = _torch_impl._quat_scale_to_covar_preci(quats, scales, compute_preci=False)
    assert covars is not None
    found = _torch_impl._fully_fused_projection(means, covars, viewmats, Ks, width, height, *limits)
    return found[:4]


def fully_fused_projection_fwd(
    means, covars, quats, scales, viewmats, Ks, width, height, eps2d, near, far, clip, *unused
) -> tuple[Any, ...]:
    leaves = _inputs(means, quats, scales, viewmats)
    with torch.no_grad():
        radii, *values = _projected(*leaves, Ks, width, height, eps2d, near, far)
        radii = torch.where(radii > clip, radii, 0)
        for value in values:
            value[radii == 0] = NOT_SET
    return radii, *(value.contiguous() for value in values), None


def fully_fused_projection_bwd(
    means, covars, quats, scales, viewmats, Ks, width, height, eps2d, camera_model,
    radii, conics, compensations, v_means2d, v_depths, v_conics, v_compensations, wants_viewmats,
) -> tuple[Any, ...]:  # fmt: skip
    leaves = _inputs(means, quats, scales, viewmats)
    with torch.enable_grad():
        _, *values = _projected(*leaves, Ks, width, height, eps2d)
    drawn = radii > 0
    incoming = [
        torch.where(drawn.reshape(*drawn.shape, *[1] * (v.dim() - 2)), v, 0.0)
        for v in (v_means2d, v_depths, v_conics)
    ]
    v_means, v_quats, v_scales, v_viewmats = torch.autograd.grad(values, leaves, incoming)
    return v_means, None, v_quats, v_scales, v_viewmats if wants_viewmats else None


def quat_scale_to_covar_preci_fwd(quats, scales, covar, preci, triu) -> tuple[Any, None]:
    assert covar and not preci and not triu
    leaves = _inputs(quats, scales)
    with torch.no_grad():
        return _torch_impl._quat_scale_to_covar_preci(*leaves, True, False)[0], None


def quat_scale_to_covar_preci_bwd(quats, scales, v_covars, v_precis, triu) -> tuple[Any, ...]:
    leaves = _inputs(quats, scales)
    with torch.enable_grad():
        covars, _ = _torch_impl._quat_scale_to_covar_preci(*leaves, True, False)
    assert covars is not None and v_covars.is_contiguous() and v_precis is None
    return torch.autograd.grad(covars, leaves, v_covars)


def proj_fwd(means, covars, Ks, width, height, camera_model) -> tuple[Tensor, ...]:
    leaves = _inputs(means, covars, Ks)
    with torch.no_grad():
        means2d, covars2d = _torch_impl._persp_proj(*leaves, width, height)
    return means2d.contiguous(), covars2d.contiguous()


def proj_bwd(
    means, covars, Ks, width, height, camera_model, v_means2d, v_covars2d
) -> tuple[Tensor, ...]:
    leaves = _inputs(means, covars)
    assert v_means2d.is_contiguous() and v_covars2d.is_contiguous()
    with torch.enable_grad():
        found = _torch_impl._persp_proj(*leaves, Ks, width, height)
    return torch.autograd.grad(found, leaves, [v_means2d, v_covars2d])


def compute_sh_fwd(degree: int, dirs: Tensor, coeffs: Tensor, masks: Tensor | None) -> Tensor:
    leaves = _inputs(dirs, coeffs)
    with torch.no_grad():
        colors = _torch_impl._spherical_harmonics(degree, *leaves)
    return colors if masks is None else torch.where(masks[..., None], colors, NOT_SET)


def compute_sh_bwd(
    num_bases, degree, dirs, coeffs, masks, v_colors, wants_dirs
) -> tuple[Tensor, Tensor | None]:
    leaves = _inputs(dirs, coeffs)
    assert v_colors.is_contiguous() and num_bases == coeffs.shape[-2]
    if masks is not None:
        v_colors = torch.where(masks[..., None], v_colors, 0.0)
    with torch.enable_grad():
        colors = _torch_impl._spherical_harmonics(degree, *leaves)
    v_dirs, v_coeffs = torch.autograd.grad(colors, leaves, v_colors, allow_unused=True)
    if v_dirs is None:
        v_dirs = torch.zeros_like(dirs)
    return v_coeffs, v_dirs if wants_dirs else None


def isect_tiles(
    means2d, radii, depths, camera_ids, gaussian_ids, num_cameras, *settings
) -> tuple[Tensor, ...]:
    assert radii.dtype == torch.int32 and num_cameras == len(means2d)
    size, columns, rows, sort = settings[:4]
    return _torch_impl._isect_tiles(means2d, radii, depths, size, columns, rows, sort)


def isect_offset_encode(ids: Tensor, num_cameras: int, columns: int, rows: int) -> Tensor:
    return _torch_impl._isect_offset_encode(ids, num_cameras, columns, rows)


def _add_absolutes(sums: Tensor, chosen: Tensor, gradient: Tensor) -> None:
    sums.index_add_(0, chosen, gradient.abs().sum((0, 1)))


def _composited(
    means2d,
    conics,
    colors,
    opacities,
    backgrounds,
    width,
    height,
    size,
    offsets,
    ids,
    absolute=None,
) -> tuple[Tensor, Tensor]:
    """Pictures [c, h, wd, d] and alphas [c, h, wd, 1]."""
    cameras, rows, columns = offsets.shape
    starts = [*offsets.flatten().tolist(), len(ids)]
    pictures = colors.new_zeros(cameras, height, width, colors.shape[-1])
    alphas = colors.new_zeros(cameras, height, width, 1)
    for tile in range(cameras * rows * columns):
        camera, row, column = tile // (rows * columns), tile // columns % rows, tile % columns
        chosen = ids[starts[tile] : starts[tile + 1]].long()
        y = torch.arange(row * size, min((row + 1) * size, height))
        x = torch.arange(column * size, min((column + 1) * size, width))
        pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1) + 0.5
        centres = means2d.flatten(0, 1)[chosen].expand(*pixels.shape[:2], -1, -1)
        if absolute is not None and centres.requires_grad:
            centres.register_hook(functools.partial(_add_absolutes, absolute.view(-1, 2), chosen))
        dx, dy = (centres - pixels[:, :, None]).unbind(-1)
        A, B, C = conics.flatten(0, 1)[chosen].unbind(-1)
        sigma = 0.5 * (A * dx * dx + C * dy * dy) + B * dx * dy
        alpha = (opacities.flatten()[chosen] * torch.exp(-sigma)).clamp_max(MAX_ALPHA)
        alpha = torch.where(alpha >= MIN_ALPHA, alpha, 0.0)
        after = torch.cumprod(1 - alpha, -1)
        before = torch.cat([torch.ones_like(after[..., :1]), after[..., :-1]], -1)
        alpha = torch.where(after > MIN_TRANSMITTANCE, alpha, 0.0)
        weights = alpha * before
        rest = (1 - alpha).prod(-1, keepdim=True)
        place = camera, slice(int(y[0]), int(y[-1]) + 1), slice(int(x[0]), int(x[-1]) + 1)
        behind = 0.0 if backgrounds is None else rest * backgrounds[camera]
        pictures[place] = weights @ colors.flatten(0, 1)[chosen] + behind
        alphas[place] = 1 - rest
    return pictures, alphas


def rasterize_to_pixels_fwd(
    means2d, conics, colors, opacities, backgrounds, masks, *settings
) -> tuple[Tensor, ...]:
    leaves = _inputs(means2d, conics, colors, opacities)
    with torch.no_grad():
        pictures, alphas = _composited(*leaves, backgrounds, *settings, None)
    return pictures, alphas, torch.zeros(alphas.shape[:3], dtype=torch.int32)


def rasterize_to_pixels_bwd(
    means2d, conics, colors, opacities, backgrounds, masks, width, height, size, offsets, ids,
    alphas, last_ids, v_pictures, v_alphas, absgrad,
) -> tuple[Any, ...]:  # fmt: skip
    leaves = _inputs(means2d, conics, colors, opacities)
    absolute = torch.zeros_like(means2d) if absgrad else None
    with torch.enable_grad():
        found = _composited(*leaves, backgrounds, width, height, size, offsets, ids, absolute)
    gradients = torch.autograd.grad(found, leaves, [v_pictures, v_alphas])
    return absolute, *gradients


KERNELS = {
    kernel.__name__: kernel
    for kernel in (
        fully_fused_projection_fwd,
        fully_fused_projection_bwd,
        quat_scale_to_covar_preci_fwd,
        quat_scale_to_covar_preci_bwd,
        proj_fwd,
        proj_bwd,
        compute_sh_fwd,
        compute_sh_bwd,
        isect_tiles,
        isect_offset_encode,
        rasterize_to_pixels_fwd,
        rasterize_to_pixels_bwd,
    )
}
