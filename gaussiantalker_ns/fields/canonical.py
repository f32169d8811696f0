"""F_can: attributes of the canonical Gaussians from the tri-plane feature (Eq. 8, Sec. 4.2.2)."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

CanonicalAttribute = Literal["scale", "rotation", "sh", "opacity"]


@dataclass
class CanonicalAttributes:
    """What F_can predicts, before activation; None for attributes that are free parameters."""

    log_scales: Float[Tensor, "n 3"] | None = None
    """Logarithms of the scales in scene units."""
    quats: Float[Tensor, "n 4"] | None = None
    """Rotations as wxyz quaternions, not normalised."""
    sh: Float[Tensor, "n s 3"] | None = None
    """Spherical harmonics coefficients."""
    opacity_logits: Float[Tensor, " n"] | None = None
    """Opacities before the sigmoid."""


@dataclass
class CanonicalFieldConfig:
    """Sizes of F_can."""

    _target: type = field(default_factory=lambda: CanonicalField)
    """Class to build."""
    canonical_attributes: tuple[CanonicalAttribute, ...] = ("scale", "rotation", "sh", "opacity")
    """Attributes read from the tri-plane, by default those of Eq. 8; the others are free parameters
    (Table 3). No method has this default, see `config.paper_pipeline`."""
    hidden_width: int = 128
    """Width of the hidden layers, the public code's."""

    def __post_init__(self) -> None:
        """Check what a user can get wrong."""
        unknown = set(self.canonical_attributes) - set(get_args(CanonicalAttribute))
        if unknown:
            raise ValueError(
                f"CanonicalFieldConfig.canonical_attributes names {sorted(unknown)}; expected some"
                f" of {list(get_args(CanonicalAttribute))}, or none. Correct the setting."
            )

    def setup(
        self,
        feature_dim: int,
        num_sh_bases: int,
        initial_log_scale: float = -3.0,
    ) -> "CanonicalField":
        """Build F_can.

        Args:
            feature_dim: Length of the tri-plane feature.
            num_sh_bases: Bases of the spherical harmonics: 16 for degree 3, 4 for degree 1.
            initial_log_scale: Logarithm of the usual scale in scene units.
        """
        return self._target(self, feature_dim, num_sh_bases, initial_log_scale)


class CanonicalField(nn.Module):
    """A trunk over the tri-plane feature and one network per attribute, of the public code's sizes.

    Opacities start at one half and spherical harmonics grey, each plus a small variation.
    # Differs from GaussianTalker: scales start at the gaps between the initial points and rotations
    # at the identity, instead of at exp(-2) and at no rotation at all.
    """

    OUTPUT_GAIN = 0.1
    """Gain of the output layers' initial weights."""

    def __init__(
        self,
        config: CanonicalFieldConfig,
        feature_dim: int,
        num_sh_bases: int,
        initial_log_scale: float,
    ) -> None:
        super().__init__()
        self.config = config
        starts = {
            "scale": [initial_log_scale] * 3,
            "rotation": [1.0, 0.0, 0.0, 0.0],
            "sh": [0.0] * (3 * num_sh_bases),
            "opacity": [0.0],
        }
        self.predicted = tuple(name for name in starts if name in config.canonical_attributes)
        if not self.predicted:
            return
        width = config.hidden_width
        self.trunk = nn.Sequential(
            nn.Linear(feature_dim, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.heads = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.Linear(width, width), nn.ReLU(), nn.Linear(width, len(starts[name]))
                )
                for name in self.predicted
            }
        )
        for linear in self.modules():
            if isinstance(linear, nn.Linear):
                nn.init.xavier_uniform_(linear.weight)
        for name, head in self.heads.items():
            output: Any = head[-1]  # type: ignore[index]
            nn.init.xavier_uniform_(output.weight, self.OUTPUT_GAIN)
            output.bias.data.copy_(torch.tensor(starts[name]))

    def forward(self, features: Float[Tensor, "n f"]) -> CanonicalAttributes:
        """Predict the attributes named in `canonical_attributes`."""
        if not self.predicted:
            return CanonicalAttributes()
        hidden = self.trunk(features)
        found = {name: head(hidden) for name, head in self.heads.items()}
        return CanonicalAttributes(
            log_scales=found.get("scale"),
            quats=found.get("rotation"),
            sh=found["sh"].unflatten(-1, (-1, 3)) if "sh" in found else None,
            opacity_logits=found["opacity"].squeeze(-1) if "opacity" in found else None,
        )
