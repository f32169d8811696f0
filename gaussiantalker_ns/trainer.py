"""Nerfstudio's trainer with checkpoints that are either whole or not there."""

import os
import shutil

from nerfstudio.engine.trainer import Trainer
from nerfstudio.utils.decorators import check_main_thread


class WholeCheckpointTrainer(Trainer):
    """The trainer of all our methods; only the way to the disk differs from the base class.

    Nerfstudio writes `step-*.ckpt` in place, so that a run killed meanwhile leaves half a file,
    which every later command takes for the newest checkpoint.
    """

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
        (written,) = partial.iterdir()
        kept = folder / written.name
        os.replace(written, kept)
        partial.rmdir()
        if self.config.save_only_latest_checkpoint:
            for older in folder.glob("*.ckpt"):
                if older != kept:
                    older.unlink()
