"""Colours from spherical harmonics of degree 0 to 3, in the order and signs of gsplat.

On the CPU a compiled kernel does it; on other devices, or in float64, plain torch.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

MAX_DEGREE = 3


def num_bases(degree: int) -> int:
    """How many basis functions a degree has. Degree 3 has 16."""
    return (degree + 1) ** 2


def sh_basis(degree: int, directions: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape s"]:
    """Values of the real spherical harmonics in the given directions (of any length but zero).

    Example: degree 0 gives 0.2820948 everywhere.
    """
    x, y, z = F.normalize(directions, dim=-1).unbind(-1)
    values = [torch.full_like(x, 0.2820947917738781)]
    if degree >= 1:
        values += [-0.48860251190292 * y, 0.48860251190292 * z, -0.48860251190292 * x]
    xx, yy, zz = x * x, y * y, z * z
    if degree >= 2:
        values += [
            1.092548430592079 * x * y,
            -1.092548430592079 * y * z,
            0.9461746957575601 * zz - 0.3153915652525201,
            -1.092548430592079 * x * z,
            0.5462742152960395 * (xx - yy),
        ]
    if degree >= 3:
        values += [
            -0.5900435899266435 * y * (3 * xx - yy),
            2.890611442640554 * x * y * z,
            y * (0.4570457994644658 - 2.285228997322329 * zz),
            z * (1.865881662950577 * zz - 1.119528997770346),
            x * (0.4570457994644658 - 2.285228997322329 * zz),
            1.445305721320277 * z * (xx - yy),
            -0.5900435899266435 * x * (xx - 3 * yy),
        ]
    return torch.stack(values, -1)


def check_coefficients(degree: int, coefficients: Float[Tensor, "_ n s 3"]) -> None:
    """Refuse a degree that does not exist, or that there are too few coefficients for.

    Raises:
        ValueError: Degree or coefficients.
    """
    if not 0 <= degree <= MAX_DEGREE:
        raise ValueError(f"sh_degree is {degree}; expected 0 to {MAX_DEGREE}.")
    if coefficients.shape[2] < num_bases(degree):
        raise ValueError(
            f"There are {coefficients.shape[2]} SH coefficients per Gaussian; expected at least"
            f" {num_bases(degree)} for sh_degree {degree}. Lower the degree or add coefficients."
        )


def evaluate_sh(
    degree: int,
    directions: Float[Tensor, "b n 3"],
    coefficients: Float[Tensor, "_ n s 3"],
    visible: Bool[Tensor, "b n"] | None = None,
) -> Float[Tensor, "b n 3"]:
    """Sum of the bases up to a degree, weighted by per-frame coefficients.

    Args:
        degree: 0 to 3; bases beyond it are left out (and get no gradient).
        directions: From the camera's centre to the Gaussian's, of any length but zero.
        coefficients: Leading axis b, or 1 when the frames share them.
        visible: Where False the result is zero and nothing is computed.

    Returns:
        Colours before gsplat's shift by 0.5 and clamping at zero.
    """
    check_coefficients(degree, coefficients)
    if coefficients.device.type == "cpu" and coefficients.dtype == torch.float32:
        from gaussiantalker_ns.kernels.spherical_harmonics import evaluate_sh_compiled

        return evaluate_sh_compiled(degree, directions, coefficients, visible)
    bases = sh_basis(degree, directions)
    colors = (bases[..., None] * coefficients[:, :, : num_bases(degree)]).sum(-2)
    return colors if visible is None else torch.where(visible[..., None], colors, 0.0)
