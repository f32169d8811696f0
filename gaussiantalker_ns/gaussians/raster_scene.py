"""The scene that `rasterize` hands to a backend, and the limits that all backends keep to."""

from dataclasses import dataclass

from torch import Tensor

MIN_ALPHA = 1.0 / 255.0
"""Alpha below which a Gaussian leaves a pixel alone."""
MIN_TRANSMITTANCE = 1e-4
"""A pixel stops before the Gaussian that would bring its transmittance down to this."""
MAX_SIGMAS = 3.33
"""Limit of a Gaussian's extent in standard deviations, gsplat's rounding of sqrt(2 ln 255)."""


@dataclass(frozen=True)
class RasterSettings:
    """Everything about a call that is not a tensor; names and meanings are gsplat's."""

    width: int
    """Width of the pictures in pixels."""
    height: int
    """Height of the pictures in pixels."""
    near_plane: float
    """Smallest depth that is drawn."""
    far_plane: float
    """Largest depth that is drawn."""
    radius_clip: float
    """Gaussians whose extents are both at most this many pixels are left out."""
    eps2d: float
    """Added to both variances of a splat, in square pixels."""
    absgrad: bool
    """Whether the backward pass also sums absolute gradients of the picture positions."""
    max_alpha: float
    """Largest alpha of one Gaussian in one pixel."""


@dataclass(frozen=True)
class Scene:
    """Gaussians and cameras, all with a leading axis: the number of cameras, or 1 when shared."""

    means: Tensor
    """Centres [b or 1, n, 3]."""
    quats: Tensor
    """Quaternions wxyz [b or 1, n, 4], of any length but zero."""
    scales: Tensor
    """Standard deviations along the axes [b or 1, n, 3]."""
    opacities: Tensor
    """Opacities in [0, 1], [b or 1, n]."""
    viewmats: Tensor
    """World-to-camera matrices (OpenCV) [b, 4, 4]."""
    Ks: Tensor
    """Intrinsics in pixels [b, 3, 3]."""
