"""Where the time of a training step goes, and what the compiled forms are worth, in one run.

`python -m gaussiantalker_ns.scripts.dev.profile_training --data data/me` prints the two tables of
docs/benchmarks.md: the fractions of the parts of a step in both stages, and the time of networks
and structural similarity in their compiled and in their plain torch forms.
"""

import copy
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from nerfstudio.engine.callbacks import TrainingCallbackLocation as Location
from nerfstudio.utils.rich_utils import CONSOLE
from rich.table import Table
from torch.profiler import ProfilerActivity, profile, record_function

from gaussiantalker_ns import losses
from gaussiantalker_ns.config import gaussiantalker_cpu
from gaussiantalker_ns.fields.deformation import deform
from gaussiantalker_ns.losses.photometric import ssim_map

PARTS = {
    "data loading": ("data loading",),
    "rasterizer": ("_Composite", "_Project", "_EvaluateSH"),
    "attention and heads": ("FusedDeformation",),
    "tri-plane": ("TriPlaneLookup",),
    "structural similarity": ("MeanSSIM",),
    "optimisers": ("Optimizer", "aten::_fused_adam_"),
}
"""Part of a step -> beginnings of the profiler's names; everything else is small tensor work."""


@dataclass
class ProfileTraining:
    """Measure training steps of `gaussiantalker-cpu` on a data set."""

    data: Path
    """Folder of the data set."""
    num_steps: int = 40
    """Steps that are timed in each stage, at least 5."""
    num_threads: int | None = 2
    """CPU threads."""

    def main(self) -> None:
        """Print the tables."""
        for stage in ("canonical", "deformation"):
            trainer = self.build(stage)
            self.report_stage(stage, trainer)
        self.report_forms(trainer)

    def build(self, stage: str) -> Any:
        """A trainer in one of the stages."""
        config: Any = copy.deepcopy(gaussiantalker_cpu.config)
        config.data = config.pipeline.datamanager.data = self.data
        config.output_dir = Path(tempfile.mkdtemp(prefix="gaussiantalker-profile-"))
        config.machine.device_type, config.vis, config.timestamp = "cpu", "tensorboard", "profile"
        config.logging.local_writer.enable = False
        config.pipeline.num_threads = self.num_threads
        if stage == "deformation":
            config.pipeline.canonical_steps = 0
        trainer = config.setup(local_rank=0, world_size=1)
        trainer.setup()
        return trainer

    def report_stage(self, stage: str, trainer: Any) -> None:
        """Time steps without the profiler, then find out their parts with it."""
        for number in range(10):
            train_step(trainer, number)
        durations = []
        cpu = time.process_time()
        for number in range(10, 10 + self.num_steps):
            start = time.perf_counter()
            train_step(trainer, number)
            durations.append(time.perf_counter() - start)
        cpu = (time.process_time() - cpu) / self.num_steps
        batch = trainer.pipeline.datamanager.batch_size
        median = float(np.median(durations))
        CONSOLE.print(
            f"{stage}: {1 / median:.1f} steps/s = {batch / median:.1f} frames/s "
            f"(median of {self.num_steps}, {self.num_threads} threads, "
            f"{1e3 * cpu:.0f} ms CPU a step, load {os.getloadavg()[0]:.1f})"
        )
        with profile(activities=[ProfilerActivity.CPU]) as recorded:
            for number in range(100, 100 + min(self.num_steps, 20)):
                train_step(trainer, number)
        CONSOLE.print(shares(stage, recorded.key_averages()))

    def report_forms(self, trainer: Any) -> None:
        """Compare the compiled and folded forms with plain torch, forward and backward."""
        model = trainer.pipeline.model
        head, frames = model.head.train(), model.bank.condition(torch.arange(4))
        table = Table("part, 4 frames, forward and backward", "ours ms", "torch ms", "ratio")

        def networks(lookup: str, attention: str) -> Callable[[], torch.Tensor]:
            def run() -> torch.Tensor:
                head.triplane.config.form = lookup
                for layer in head.fusion.layers:
                    layer.form = attention
                tokens = head.tokens(frames)
                if attention == "folded":
                    deltas = deform(head.fusion, head.deformation, head.features(), tokens)
                else:
                    deltas = head.deformation(head.fusion(head.features(), tokens))
                return sum((d.square().mean() for d in deltas.present()), torch.zeros(()))

            return run

        crops = torch.rand(2, 4, 176, 160, 3)
        render = crops[0].requires_grad_()
        total = [0.0, 0.0]
        for name, ours, plain in (
            (
                "tri-plane, tokens, attention, heads",
                networks("numba", "folded"),
                networks("torch", "plain"),
            ),
            (
                "structural similarity",
                lambda: losses.ssim(render, crops[1]),
                lambda: ssim_map(render, crops[1]).mean(),
            ),
        ):
            times = [timed_backward(run) for run in (ours, plain)]
            total = [a + b for a, b in zip(total, times)]
            table.add_row(name, *(f"{1e3 * t:.1f}" for t in times), f"{times[1] / times[0]:.1f}")
        table.add_row("together", *(f"{1e3 * t:.1f}" for t in total), f"{total[1] / total[0]:.1f}")
        CONSOLE.print(table)


def train_step(trainer: Any, number: int) -> None:
    """One iteration of Nerfstudio's training loop, with the loading of data named."""
    manager = trainer.pipeline.datamanager
    if "next_train" not in vars(manager):
        original = manager.next_train

        def next_train(step: int) -> Any:
            with record_function("data loading"):
                return original(step)

        manager.next_train = next_train
    trainer.pipeline.train()
    for callback in trainer.callbacks:
        callback.run_callback_at_location(number, Location.BEFORE_TRAIN_ITERATION)
    trainer.train_iteration(number)
    for callback in trainer.callbacks:
        callback.run_callback_at_location(number, Location.AFTER_TRAIN_ITERATION)


def shares(stage: str, events: Any) -> Table:
    """Sum the profiler's own times over the parts of a step."""
    sums = dict.fromkeys((*PARTS, "other tensor work"), 0.0)
    for event in events:
        part = next(
            (part for part, names in PARTS.items() if event.key.startswith(names)),
            "other tensor work",
        )
        sums[part] += event.self_cpu_time_total
    total = sum(sums.values())
    table = Table(f"part of a {stage} step", "share")
    for part, value in sorted(sums.items(), key=lambda item: -item[1]):
        table.add_row(part, f"{100 * value / total:.1f} %")
    return table


def timed_backward(run: Callable[[], torch.Tensor], repeats: int = 7) -> float:
    """Median seconds of a forward and a backward pass."""
    durations = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run().backward()
        durations.append(time.perf_counter() - start)
    return float(np.median(durations[1:]))


if __name__ == "__main__":
    tyro.cli(ProfileTraining).main()
