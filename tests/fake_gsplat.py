"""gsplat's kernels without numbers, for torch's fake CUDA mode: what they check, and shapes."""

from collections.abc import Callable
from typing import Any

import torch
from host_waits import tell_of_wait
from torch import Tensor

NUM_INTERSECTIONS = 100


def on_gpu(*tensors: Any) -> None:
    """What the kernels check: `GSPLAT_CHECK_INPUT` in gsplat's bindings."""
    for tensor in tensors:
        if tensor is not None:
            assert tensor.device.type == "cuda" and tensor.is_contiguous()


def project(means, covars, quats, scales, viewmats, Ks, *settings) -> tuple[Any, ...]:
    on_gpu(means, covars, quats, scales, viewmats, Ks)
    assert {x.dtype for x in (means, quats, scales, viewmats, Ks)} == {torch.float32}
    shape = (len(viewmats), len(means))
    radii = torch.empty(shape, dtype=torch.int32, device="cuda")
    return radii, means.new_empty(*shape, 2), means.new_empty(shape), means.new_empty(*shape, 3), 0


def covariances(quats, scales, covar, preci, triu) -> tuple[Any, None]:
    on_gpu(quats, scales)
    assert covar and not preci and not triu
    return quats.new_empty(len(quats), 3, 3), None


def proj(means, covars, Ks, *settings) -> tuple[Tensor, Tensor]:
    on_gpu(means, covars, Ks)
    assert {x.dtype for x in (means, covars, Ks)} == {torch.float32}
    return means.new_empty(*means.shape[:2], 2), means.new_empty(*means.shape[:2], 2, 2)


def harmonics(degree, dirs, coeffs, masks) -> Tensor:
    on_gpu(dirs, coeffs, masks)
    return torch.empty_like(dirs)


def find_tiles(means2d, radii, depths, camera_ids, gaussian_ids, *settings) -> tuple[Any, ...]:
    on_gpu(means2d, radii, depths)
    tell_of_wait("gsplat's number of intersections")
    assert radii.dtype == torch.int32
    ids = torch.empty(NUM_INTERSECTIONS, dtype=torch.int64, device="cuda")
    return torch.empty_like(radii), ids, ids.int()


def encode_offsets(ids: Tensor, num_cameras: int, columns: int, rows: int) -> Tensor:
    on_gpu(ids)
    return torch.empty(num_cameras, rows, columns, dtype=torch.int32, device="cuda")


def draw(means2d, conics, colors, opacities, backgrounds, masks, width, height, *rest) -> Any:
    on_gpu(means2d, conics, colors, opacities, backgrounds, rest[1], rest[2])
    size = (len(means2d), height, width)
    pictures = colors.new_empty(*size, colors.shape[-1])
    return pictures, colors.new_empty(*size, 1), torch.empty(size, device="cuda")


KERNELS: dict[str, Callable[..., Any]] = {
    "fully_fused_projection_fwd": project,
    "quat_scale_to_covar_preci_fwd": covariances,
    "proj_fwd": proj,
    "compute_sh_fwd": harmonics,
    "isect_tiles": find_tiles,
    "isect_offset_encode": encode_offsets,
    "rasterize_to_pixels_fwd": draw,
}
