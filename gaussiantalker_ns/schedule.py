"""The two training stages (Sec. 4.4.1) and how rates fall inside each: functions of the step."""

from dataclasses import dataclass
from enum import Enum


class Stage(Enum):
    """What is trained at a step."""

    CANONICAL = "canonical"
    """The mean shape of the head, without any deformation (Eq. 15)."""
    DEFORMATION = "deformation"
    """The whole network (Eq. 16)."""


def stage_at(step: int, canonical_steps: int) -> Stage:
    """Name the stage of a step, counted from 0; without canonical steps all is deformation."""
    return Stage.CANONICAL if step < canonical_steps else Stage.DEFORMATION


def exponential_decay(step: int, start: int, num_steps: int, final_factor: float = 0.1) -> float:
    """Factor on a rate that falls exponentially from 1 at `start` to `final_factor`, and stays.

    Before `start` the factor is 1. Halfway it is the geometric mean: (5, 0, 10, 0.01) -> 0.1.
    """
    if num_steps <= 0:
        return 1.0
    progress = min(max((step - start) / num_steps, 0.0), 1.0)
    return float(final_factor**progress)


@dataclass(frozen=True)
class StageDecay:
    """Rate of one parameter group over both stages, relative to its base rate."""

    canonical_steps: int
    """Steps of the canonical stage; 0 for single-stage training."""
    deformation_steps: int
    """Steps of the deformation stage."""
    canonical_factor: float = 1.0
    """Factor at the start of the canonical stage; 0 holds the group still there."""
    deformation_factor: float = 1.0
    """Factor at the start of the deformation stage."""
    canonical_final: float = 0.1
    """What is left at the end of the canonical stage, of the factor at its start."""
    deformation_final: float = 0.1
    """What is left at the end of the deformation stage, of the factor at its start."""

    def factor(self, step: int) -> float:
        """Factor on the base rate at a step, as a Python float: others break checkpoints."""
        if stage_at(step, self.canonical_steps) is Stage.CANONICAL:
            decay = exponential_decay(step, 0, self.canonical_steps, self.canonical_final)
            return self.canonical_factor * decay
        start, length, final = self.canonical_steps, self.deformation_steps, self.deformation_final
        return self.deformation_factor * exponential_decay(step, start, length, final)
