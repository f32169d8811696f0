"""F_deform: offsets of the Gaussian attributes from the audio-aware feature (Eq. 14, 4.3.3)."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gaussiantalker_ns.conditions import GaussianDeltas


@dataclass
class DeformationHeadsConfig:
    """Which attributes are deformed, and the size of the network that does it."""

    _target: type = field(default_factory=lambda: DeformationHeads)
    """Class to build."""
    position: bool = True
    """Predict offsets of position (Table 4 switches attributes off)."""
    scale: bool = True
    """Predict offsets of scale."""
    rotation: bool = True
    """Predict offsets of rotation."""
    sh: bool = True
    """Predict offsets of the spherical harmonics."""
    opacity: bool = True
    """Predict offsets of opacity."""
    hidden_width: int = 128
    """Width of the hidden layer, the public code's."""
    output_gain: float = 0.1
    """Factor on the output layer's initial weights, so that the offsets start near zero."""

    def setup(self, width: int, num_sh_bases: int) -> "DeformationHeads":
        """Build the heads over features of length `width`; degree 3 has 16 bases, degree 1 four."""
        return self._target(self, width, num_sh_bases)


class DeformationHeads(nn.Module):
    """One hidden layer and one output layer for all offsets.

    Differs from GaussianTalker: five networks with a hidden layer each cost twice as much on a CPU.
    """

    def __init__(self, config: DeformationHeadsConfig, width: int, num_sh_bases: int) -> None:
        super().__init__()
        self.config = config
        sizes = {
            "position": 3,
            "scale": 3,
            "rotation": 4,
            "opacity": 1,
            "sh": 3 * num_sh_bases,
        }
        self.deformed = tuple(name for name in sizes if getattr(config, name))
        self.sizes = [sizes[name] for name in self.deformed]
        if not self.deformed:
            return
        self.hidden = nn.Linear(width, config.hidden_width)
        self.output = nn.Linear(config.hidden_width, sum(self.sizes))
        with torch.no_grad():
            self.output.weight *= config.output_gain
            self.output.bias.zero_()

    def forward(self, h: Float[Tensor, "b n d"]) -> GaussianDeltas:
        """Predict the offsets of b frames, before activation."""
        if not self.deformed:
            return GaussianDeltas()
        return self.split(self.output(torch.relu(self.hidden(h))))

    def split(self, values: Float[Tensor, "b n m"]) -> GaussianDeltas:
        """Give the columns of the output layer their names."""
        found = dict(zip(self.deformed, values.split(self.sizes, dim=-1)))
        return GaussianDeltas(
            means=found.get("position"),
            log_scales=found.get("scale"),
            quats=found.get("rotation"),
            opacity_logits=found["opacity"].squeeze(-1) if "opacity" in found else None,
            sh=found["sh"].unflatten(-1, (-1, 3)) if "sh" in found else None,
        )
