"""One training from beginning to end in this process, as `ns-train` does it."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.utils import writer


def set_seeds(seed: int) -> None:
    """Seed Python, NumPy and torch, as Nerfstudio's own training script does."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def forget_writers() -> None:
    """Empty Nerfstudio's list of log writers, into all of which every run would write."""
    writer.EVENT_WRITERS.clear()
    writer.EVENT_STORAGE.clear()


def train_to_end(
    config: TrainerConfig, seed: int, watch: Callable[[Any], None] | None = None
) -> Trainer:
    """Train a run and return its trainer.

    Args:
        config: Complete configuration; the run's folder gets its config.yml and checkpoints.
        seed: Seed of everything that is drawn at random.
        watch: Called with the trainer before the first step, for example to add callbacks.

    Raises:
        InUseError: Another training works in the run's folder.
    """
    set_seeds(seed)
    forget_writers()
    config.save_config()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    if watch is not None:
        watch(trainer)
    trainer.train()
    forget_writers()
    return trainer
