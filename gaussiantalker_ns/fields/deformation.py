"""F_deform: offsets of the Gaussian attributes from the audio-aware feature (Eq. 14, 4.3.3)."""

from collections.abc import Sequence
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
    """Width of the hidden layers, the public code's."""
    joint: bool = False
    """One hidden layer for all offsets instead of one each: half the work, for CPUs."""
    output_gain: float = 0.1
    """Factor on the output layer's initial weights, so that the offsets start near zero."""

    def setup(self, width: int, num_sh_bases: int) -> "DeformationHeads":
        """Build the heads over features of length `width`; degree 3 has 16 bases, degree 1 four."""
        return self._target(self, width, num_sh_bases)


class DeformationHeads(nn.Module):
    """One network of two layers per attribute (the public code's sizes), or one for all of them.

    The hidden layers of the separate networks are the rows of one matrix, which is one product.
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
        if config.joint:
            self.hidden = nn.Linear(width, config.hidden_width)
            self.output = nn.Linear(config.hidden_width, sum(self.sizes))
            self.output.weight.data *= config.output_gain
            nn.init.zeros_(self.output.bias)
            return
        self.hidden = nn.Linear(width, len(self.deformed) * config.hidden_width)
        for rows in self.hidden.weight.data.chunk(len(self.deformed)):
            nn.init.xavier_uniform_(rows)
        self.outputs = nn.ModuleList()
        for size in self.sizes:
            output = nn.Linear(config.hidden_width, size)
            nn.init.xavier_uniform_(output.weight, config.output_gain)
            nn.init.zeros_(output.bias)
            self.outputs.append(output)

    def forward(self, h: Float[Tensor, "b n d"]) -> GaussianDeltas:
        """Predict the offsets of b frames, before activation."""
        if not self.deformed:
            return GaussianDeltas()
        if self.config.joint:
            return self.split(self.output(torch.relu(self.hidden(h))))
        # The public code's networks begin with a rectifier.
        hidden = torch.relu(self.hidden(torch.relu(h))).chunk(len(self.outputs), dim=-1)
        return self.named([output(part) for output, part in zip(self.outputs, hidden)])

    def split(self, values: Float[Tensor, "b n m"]) -> GaussianDeltas:
        """Give the columns of the joint output layer their names."""
        return self.named(values.split(self.sizes, dim=-1))

    def named(self, values: Sequence[Tensor]) -> GaussianDeltas:
        """Give the offsets `[b, n, size]`, in the order of `deformed`, their names and shapes."""
        found = dict(zip(self.deformed, values))
        return GaussianDeltas(
            means=found.get("position"),
            log_scales=found.get("scale"),
            quats=found.get("rotation"),
            opacity_logits=found["opacity"].squeeze(-1) if "opacity" in found else None,
            sh=found["sh"].unflatten(-1, (-1, 3)) if "sh" in found else None,
        )
