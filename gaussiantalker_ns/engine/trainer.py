"""Nerfstudio's trainer with checkpoints that are whole or absent, and schedules of its stages."""

import os
import shutil
from typing import Literal

import yaml
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.trainer import Trainer
from nerfstudio.utils.decorators import check_main_thread
from torch.optim.lr_scheduler import LambdaLR

from gaussiantalker_ns.engine.optimizers import StageRate
from gaussiantalker_ns.files import write_text
from gaussiantalker_ns.folder_lock import OwnerLock


class WholeCheckpointTrainer(Trainer):
    """The trainer of all our methods; only the way to the disk differs from the base class.

    Nerfstudio writes `step-*.ckpt` in place, so that a run killed meanwhile leaves half a file,
    which every later command takes for the newest checkpoint.

    While it trains it owns the run's folder; a second training into it is refused.
    """

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        """Become the owner of the run's folder and set up as the base class does.

        Raises:
            InUseError: Another training works in the folder.
        """
        self._lock = OwnerLock.of_folder(self.base_dir)
        # The processes of several GPUs train one run together.
        if self.local_rank == 0 and self.config.machine.machine_rank == 0:
            self._lock.acquire()
        # `ns-train` writes config.yml before it makes a trainer; one that is refused has done so,
        # too. Therefore it is written again with every checkpoint.
        self._config_text = yaml.dump(self.config)
        try:
            super().setup(test_mode)
        except BaseException:
            self._lock.release()
            raise

    def train(self) -> None:
        """Train to the end, then let others into the folder."""
        try:
            super().train()
        finally:
            self._lock.release()

    @check_main_thread
    def save_checkpoint(self, step: int) -> None:
        """Write a checkpoint beside the others' folder and move it in when it is complete."""
        folder = self.checkpoint_dir
        # Not inside the folder: Nerfstudio reads a step from every name in it.
        partial = folder.with_name(f".partial-{folder.name}")
        shutil.rmtree(partial, ignore_errors=True)
        self.checkpoint_dir = partial
        try:
            super().save_checkpoint(step)
        finally:
            self.checkpoint_dir = folder
        folder.mkdir(parents=True, exist_ok=True)
        write_text(self.base_dir / "config.yml", self._config_text)
        (written,) = partial.iterdir()
        kept = folder / written.name
        os.replace(written, kept)
        partial.rmdir()
        if self.config.save_only_latest_checkpoint:
            for older in folder.glob("*.ckpt"):
                if older != kept:
                    older.unlink()


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
