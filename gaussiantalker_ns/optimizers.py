"""Optimisers and rates of every parameter group, in the terms of Nerfstudio's trainer."""

from dataclasses import dataclass, field

import torch
from nerfstudio.engine.optimizers import OptimizerConfig, Optimizers
from nerfstudio.engine.schedulers import Scheduler, SchedulerConfig
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from gaussiantalker_ns.schedule import StageDecay


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


def bind_schedules(optimizers: Optimizers, canonical_steps: int, num_steps: int) -> None:
    """Tell all schedules how long the stages are and set the rates of the present step.

    Args:
        optimizers: The trainer's optimisers, possibly just loaded from a checkpoint.
        canonical_steps: Length of the canonical stage.
        num_steps: Length of both stages together.
    """
    for name, scheduler in optimizers.schedulers.items():
        if not isinstance(scheduler, LambdaLR) or not isinstance(
            scheduler.lr_lambdas[0], StageRate
        ):
            continue
        rate = scheduler.lr_lambdas[0]
        rate.canonical_steps = canonical_steps
        rate.deformation_steps = max(num_steps - canonical_steps, 0)
        for group, base in zip(optimizers.optimizers[name].param_groups, scheduler.base_lrs):
            group["lr"] = base * rate(scheduler.last_epoch)
