"""Gaussians and their offsets: the bundles of tensors that fields make and rasterizers draw."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass
class GaussianDeltas:
    """Offsets of b frames, added to the canonical Gaussians before activation (Eq. 9).

    None leaves an attribute as it is.
    """

    means: Float[Tensor, "b n 3"] | None = None
    """Offsets of position in scene units (decimetres)."""
    log_scales: Float[Tensor, "b n 3"] | None = None
    """Offsets of the logarithm of the scales."""
    quats: Float[Tensor, "b n 4"] | None = None
    """Offsets of the unnormalised wxyz quaternions."""
    opacity_logits: Float[Tensor, "b n"] | None = None
    """Offsets of the opacity before the sigmoid."""
    sh: Float[Tensor, "b n s 3"] | None = None
    """Offsets of the first s spherical harmonics coefficients."""

    def present(self) -> Iterator[Tensor]:
        """Iterate over the offsets that exist."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                yield value


@dataclass
class Gaussians:
    """Canonical or deformed Gaussians before activation, with or without a leading batch axis."""

    means: Float[Tensor, "*b n 3"]
    """Centres in head space, scene units (decimetres)."""
    log_scales: Float[Tensor, "*b n 3"]
    """Logarithms of the standard deviations along the Gaussian's own axes."""
    quats: Float[Tensor, "*b n 4"]
    """Rotations as wxyz quaternions, not normalised."""
    opacity_logits: Float[Tensor, "*b n"]
    """Opacities before the sigmoid."""
    sh: Float[Tensor, "*b n s 3"]
    """Spherical harmonics coefficients of the colour, the constant one first."""

    def __len__(self) -> int:
        return self.means.shape[-2]

    @property
    def scales(self) -> Float[Tensor, "*b n 3"]:
        """Standard deviations in scene units."""
        return self.log_scales.exp()

    @property
    def opacities(self) -> Float[Tensor, "*b n"]:
        """Opacities in [0, 1]."""
        return self.opacity_logits.sigmoid()

    def deformed(self, deltas: GaussianDeltas) -> "Gaussians":
        """Add the offsets of b frames (Eq. 9); attributes without offsets are expanded views.

        Offsets of fewer spherical harmonics than the Gaussians have change the first ones.
        """
        assert self.means.ndim == 2, "only canonical Gaussians, without a batch axis, are deformed"
        batch = {len(delta) for delta in deltas.present()}
        if not batch:
            return self
        (size,) = batch
        moved = {}
        for field in fields(self):
            canonical, delta = getattr(self, field.name), getattr(deltas, field.name)
            if delta is None:
                moved[field.name] = canonical.expand(size, *canonical.shape)
            elif field.name == "sh" and delta.shape[-2] < canonical.shape[-2]:
                low, high = canonical.tensor_split([delta.shape[-2]], dim=-2)
                moved["sh"] = torch.cat([low + delta, high.expand(size, *high.shape)], dim=-2)
            else:
                moved[field.name] = canonical + delta
        return replace(self, **moved)
