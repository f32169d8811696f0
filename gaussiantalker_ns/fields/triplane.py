"""The multi-resolution tri-plane (Eq. 7, Sec. 4.2.1): features of canonical positions."""

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

LookupForm = Literal["auto", "numba", "torch"]

VECTOR_LANES = 8
"""Channels that the compiled lookup handles at a time."""


@dataclass
class TriPlaneConfig:
    """Sizes of the tri-plane; the defaults are the paper's."""

    _target: type = field(default_factory=lambda: TriPlane)
    """Class to build."""
    resolutions: tuple[int, ...] = (64, 128)
    """Cells along an edge of the planes, one number per level, each at least 2."""
    channels: int = 32
    """Channels of every plane; the feature has this many per level."""
    init_range: tuple[float, float] = (0.1, 0.5)
    """Planes start uniformly inside this range: positive, so that products keep their sign."""
    form: LookupForm = "auto"
    """How features are looked up: compiled on CPU, grid_sample elsewhere, or always one of them."""

    def __post_init__(self) -> None:
        """Check what a user can get wrong."""
        if self.form == "numba" and self.channels % VECTOR_LANES:
            raise ValueError(
                f"TriPlaneConfig.channels is {self.channels}; expected a multiple of {VECTOR_LANES}"
                " for form 'numba'. Round it up, or set the form to 'auto'."
            )

    def setup(self, bounds: Float[Tensor, "2 3"]) -> "TriPlane":
        """Build the tri-plane."""
        return self._target(self, bounds)


class TriPlane(nn.Module):
    """Planes xy, yz, zx per level: product inside a level, concatenation over levels.

    The product of three samples is small (0.03 at initialisation) and varies over positions by half
    of that; whoever consumes the feature normalises it first (`SpatialAudioAttention`,
    `CanonicalField`).
    """

    bounds: Float[Tensor, "2 3"]

    def __init__(self, config: TriPlaneConfig, bounds: Float[Tensor, "2 3"]) -> None:
        """Build planes over a box.

        Args:
            config: Sizes.
            bounds: Lowest and highest corner of the box in scene units; outside, the border is
                repeated.
        """
        super().__init__()
        if not bool((bounds[1] > bounds[0]).all()):
            raise ValueError(
                f"The tri-plane got bounds {bounds.tolist()}; expected the lowest corner first and"
                " a box that is not flat. Check the initial points of the data set."
            )
        self.config = config
        self.register_buffer("bounds", bounds.detach().clone().float())
        self.planes = nn.ParameterList(
            nn.Parameter(torch.empty(3, r, r, config.channels).uniform_(*config.init_range))
            for r in config.resolutions
        )

    @property
    def out_dim(self) -> int:
        """Length of the feature."""
        return self.config.channels * len(self.config.resolutions)

    def forward(self, positions: Float[Tensor, "n 3"]) -> Float[Tensor, "n f"]:
        """Look up the features f(mu) of positions in scene units (Eq. 7)."""
        low, high = self.bounds
        unit = (positions - low) / (high - low)
        form = self.config.form
        if form == "auto":
            on_cpu = unit.device.type == "cpu" and unit.dtype == torch.float32
            form = "numba" if on_cpu and self.config.channels % VECTOR_LANES == 0 else "torch"
        if form == "numba":
            # Numba takes half a second to import, which a GPU user need not wait for.
            from gaussiantalker_ns.kernels.triplane import TriPlaneLookup

            features = TriPlaneLookup.apply(unit, *self.planes)
            assert isinstance(features, Tensor)
            return features
        return torch.cat([grid_sample_level(unit, plane) for plane in self.planes], dim=-1)


def grid_sample_level(
    unit: Float[Tensor, "n 3"], planes: Float[Tensor, "3 r r c"]
) -> Float[Tensor, "n c"]:
    """Multiply the bilinear samples of one level's planes xy, yz and zx at points in [0, 1]."""
    x, y, z = (2 * unit - 1).unbind(-1)
    grid = torch.stack([torch.stack([x, y], -1), torch.stack([y, z], -1), torch.stack([z, x], -1)])
    samples = F.grid_sample(
        planes.permute(0, 3, 1, 2), grid[:, None], padding_mode="border", align_corners=True
    )
    xy, yz, zx = samples[:, :, 0].unbind(0)
    return (xy * yz * zx).T
