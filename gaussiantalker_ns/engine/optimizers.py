"""Optimisers and schedules: the two stages (Sec. 4.4.1) and the rate of every parameter group."""

from dataclasses import dataclass, field
from enum import Enum

import torch
from nerfstudio.engine.optimizers import OptimizerConfig
from nerfstudio.engine.schedulers import Scheduler, SchedulerConfig
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


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


@dataclass
class FusedAdamConfig(OptimizerConfig):
    """Adam in one kernel per step, on CPU and GPU."""

    _target: type = torch.optim.Adam
    """Class to build."""
    lr: float = 1e-3
    """Base rate; the schedule multiplies it."""
    eps: float = 1e-15
    """Term under the fraction: tiny, because gradients of Gaussians are."""
    fused: bool = True
    """Whether the step is one kernel; several times faster for small tensors."""


@dataclass
class StageDecaySchedulerConfig(SchedulerConfig):
    """A rate that falls exponentially inside each of the two stages.

    The pipeline tells it how long the stages are: neither length is known here, and a second copy
    of them would go stale when a user changes one on the command line.
    """

    _target: type = field(default_factory=lambda: StageDecayScheduler)
    """Class to build."""
    canonical_factor: float = 1.0
    """Factor on the base rate at the start of the canonical stage."""
    deformation_factor: float = 1.0
    """Factor on the base rate at the start of the deformation stage."""
    canonical_final: float = 0.1
    """What is left at the end of the canonical stage, of the factor at its start."""
    deformation_final: float = 0.1
    """What is left at the end of the deformation stage, of the factor at its start."""


class StageRate:
    """The factor on a base rate at a step. Its attributes are numbers, because they are pickled."""

    def __init__(self, config: StageDecaySchedulerConfig) -> None:
        self.canonical_factor = config.canonical_factor
        self.deformation_factor = config.deformation_factor
        self.canonical_final = config.canonical_final
        self.deformation_final = config.deformation_final
        self.canonical_steps = 0
        self.deformation_steps = 0

    def __call__(self, step: int) -> float:
        """Factor at a step, as a Python float: others break checkpoints."""
        return StageDecay(
            self.canonical_steps,
            self.deformation_steps,
            self.canonical_factor,
            self.deformation_factor,
            self.canonical_final,
            self.deformation_final,
        ).factor(step)


class StageDecayScheduler(Scheduler):
    """Builds the schedule for one optimiser."""

    config: StageDecaySchedulerConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def get_scheduler(self, optimizer: Optimizer, lr_init: float) -> LambdaLR:
        """Attach a `StageRate` to an optimiser; `lr_init` is already its base rate."""
        scheduler = LambdaLR(optimizer, StageRate(self.config))
        # Groups that rest in a stage never call their optimiser, about which torch would warn.
        optimizer._opt_called = True  # pyright: ignore[reportAttributeAccessIssue]
        return scheduler
