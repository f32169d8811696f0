"""The first canonical Gaussians: round, and as large as the gaps between the initial points."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy.spatial import KDTree
from torch import Tensor

SH_C0 = 0.28209479177387814
"""Value of the constant spherical harmonics basis function."""

NEIGHBOURS = 3
"""Nearest neighbours whose distances give a Gaussian its first size."""

SMALLEST_SCALE = 1e-3
"""Least first size in scene units (a tenth of a millimetre): doubled points have distance zero."""


def neighbour_scales(positions: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Root mean square distance of each point to its nearest neighbours, in scene units."""
    cloud = positions.detach().cpu().numpy()
    wanted = min(NEIGHBOURS + 1, len(cloud))
    distances, _ = KDTree(cloud).query(cloud, k=wanted)
    squared = np.atleast_2d(distances)[:, 1:] ** 2
    if squared.shape[1] == 0:
        return torch.full((len(cloud),), 0.1)
    rms = np.sqrt(squared.mean(axis=1))
    # The upper limit keeps lone points from covering the face.
    limit = max(4.0 * float(np.median(rms)), SMALLEST_SCALE)
    return torch.from_numpy(np.clip(rms, SMALLEST_SCALE, limit).astype(np.float32))


def gaussian_parameters(
    positions: Float[Tensor, "n 3"], colors: UInt8[Tensor, "n 3"], sh_degree: int, opacity: float
) -> dict[str, Tensor]:
    """Build the six free tensors of round Gaussians (names of Splatfacto; all before activation).

    Args:
        positions: Centres in scene units.
        colors: RGB, 0 to 255.
        sh_degree: Degree of the spherical harmonics; 0 holds one colour.
        opacity: First opacity in (0, 1).
    """
    count = len(positions)
    quats = torch.zeros(count, 4)
    quats[:, 0] = 1.0
    return {
        "means": positions.clone(),
        "scales": neighbour_scales(positions).log()[:, None].repeat(1, 3),
        "quats": quats,
        "features_dc": (colors.float() / 255.0 - 0.5) / SH_C0,
        "features_rest": torch.zeros(count, (sh_degree + 1) ** 2 - 1, 3),
        "opacities": torch.full((count, 1), float(np.log(opacity / (1.0 - opacity)))),
    }
