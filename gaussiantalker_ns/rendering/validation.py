"""Validation of the arguments of `rasterize`, found before any kernel sees it."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gaussiantalker_ns.gaussians.raster_scene import RasterSettings, Scene


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))


def check_tensors(tensors: Mapping[str, Any], float64_allowed: bool) -> None:
    """Refuse anything but floating-point tensors of one type on one device.

    Args:
        tensors: Name -> tensor.
        float64_allowed: Whether the backend takes other types than float32.
    """
    first_name, first = next(iter(tensors.items()))
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"`{name}` is a {type(tensor).__name__}; expected a torch.Tensor.")
        allowed = (torch.float32, torch.float64) if float64_allowed else (torch.float32,)
        if tensor.dtype not in allowed:
            raise ValueError(
                f"`{name}` is {tensor.dtype}; expected torch.float32. Convert it with `.float()`,"
                ' or use backend="torch" for float64.'
            )
        if (tensor.dtype, tensor.device) != (first.dtype, first.device):
            raise ValueError(
                f"`{name}` is {tensor.dtype} on {tensor.device}, but `{first_name}` is"
                f" {first.dtype} on {first.device}; expected one type on one device."
            )


def batched(name: str, tensor: Tensor, b: int, n: int | None, tail: tuple[int, ...]) -> Tensor:
    """Bring a per-Gaussian tensor to [b or 1, n, *tail].

    Args:
        name: For the message.
        tensor: [n, *tail] or [b, n, *tail].
        b: Number of cameras.
        n: Number of Gaussians; None takes what is there.
        tail: Trailing sizes; -1 is any size above 0.
    """
    wanted = ", ".join(["n" if n is None else str(n), *("*" if k < 0 else str(k) for k in tail)])
    fits = tensor.dim() in (1 + len(tail), 2 + len(tail)) and all(
        k in (-1, s) and s > 0 for k, s in zip(tail, tensor.shape[-len(tail) :] if tail else ())
    )
    if fits and tensor.dim() == 1 + len(tail):
        tensor = tensor[None]
    if not fits or tensor.shape[0] not in (1, b) or n not in (None, tensor.shape[1]):
        raise ValueError(
            f"`{name}` has the shape {_shape(tensor)}; expected [{wanted}] or [{b}, {wanted}]"
            f" for {b} cameras."
        )
    return tensor.contiguous()


def check_cameras(viewmats: Tensor, Ks: Tensor) -> None:
    """Refuse cameras of the wrong shape; on the CPU also values that are no cameras."""
    b = viewmats.shape[0] if viewmats.dim() else 0
    if b == 0 or viewmats.shape != (b, 4, 4) or Ks.shape != (b, 3, 3):
        raise ValueError(
            f"`viewmats` has the shape {_shape(viewmats)} and `Ks` {_shape(Ks)}; expected"
            " [b, 4, 4] and [b, 3, 3] with b >= 1 cameras."
        )
    if viewmats.device.type == "cpu":
        if not (torch.isfinite(viewmats).all() and torch.isfinite(Ks).all()):
            raise ValueError("`viewmats` or `Ks` holds a value that is not finite.")
        if not (Ks.diagonal(dim1=1, dim2=2)[:, :2] > 0).all():
            raise ValueError("`Ks` holds a focal length that is not positive; expected pixels.")


def check_size(width: Any, height: Any) -> None:
    """Refuse sizes that make no picture."""
    for name, value in (("width", width), ("height", height)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"`{name}` is {value!r}; expected a positive whole number of pixels.")


def check_settings(settings: RasterSettings) -> None:
    """Refuse limits that make no picture."""
    if not settings.near_plane < settings.far_plane:
        raise ValueError(
            f"`near_plane` is {settings.near_plane} and `far_plane` {settings.far_plane};"
            " expected near_plane < far_plane."
        )
    for name in ("eps2d", "radius_clip"):
        value = getattr(settings, name)
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"`{name}` is {value}; expected a finite number, 0 or larger.")


def check_finite(name: str, tensor: Tensor) -> None:
    """Refuse NaN and infinities."""
    # The sum is the cheap test; it may overflow, so that only then every value is looked at.
    if not math.isfinite(tensor.detach().sum().item()) and not torch.isfinite(tensor).all():
        raise ValueError(f"`{name}` holds a value that is not finite.")


def check_gaussians(scene: Scene) -> None:
    """Refuse parameters of Gaussians that are out of range."""
    for name in ("means", "quats", "scales"):
        check_finite(name, getattr(scene, name))
    if (scene.quats.detach().abs().sum(-1) == 0).any():
        raise ValueError("`quats` holds a quaternion of length zero.")
    if (scene.scales < 0).any():
        raise ValueError(
            "`scales` holds a negative value; expected lengths, after the exponential."
        )
    if not ((scene.opacities >= 0) & (scene.opacities <= 1)).all():
        raise ValueError(
            "`opacities` holds a value outside [0, 1]; expected values after the sigmoid."
        )
