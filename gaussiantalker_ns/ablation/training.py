"""One run of the study: train with Nerfstudio's trainer, measure, and keep the figures."""

import json
import random
import shutil
import time
import traceback
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.utils import writer

from gaussiantalker_ns.ablation.plan import Run
from gaussiantalker_ns.audio.read import read_audio
from gaussiantalker_ns.datamanager import FullFrames
from gaussiantalker_ns.dataparsers.layout import DatasetLayout
from gaussiantalker_ns.evaluation.held_out import rendered_pairs
from gaussiantalker_ns.evaluation.session import Evaluation, Observers, evaluate_pairs
from gaussiantalker_ns.files import write_text
from gaussiantalker_ns.pipeline import GaussianTalkerPipeline

LOG_NAME = "log.txt"
"""What a run printed, in its folder."""


@dataclass
class CurvePoint:
    """The held-out frames after some steps."""

    step: int
    """Steps done, of both stages."""
    cpu_seconds: float
    """CPU time of the training up to here, in all threads, without that of measuring."""
    wall_seconds: float
    """The same by the clock, which other work on the machine lengthens."""
    metrics: dict[str, float]
    """The figures of `gaussiantalker evaluate`, by the keys of `evaluation.catalogue`."""
    not_measured: dict[str, str] = field(default_factory=dict)
    """Figures that cannot be had here, with what they need."""


@dataclass
class Result:
    """What a finished run leaves behind."""

    identity: dict[str, Any]
    """As planned."""
    curve: list[CurvePoint]
    """In the order of steps; the last point is the end of the training."""
    num_parameters: dict[str, int]
    """Parameter group -> trained numbers."""

    @property
    def final(self) -> CurvePoint:
        """The measurement at the end."""
        return self.curve[-1]


@dataclass(frozen=True)
class Failure:
    """Why a run has no result."""

    reason: str
    """One line for the table."""


Outcome = Result | Failure


@dataclass
class CurveRecorder:
    """Measures a pipeline on the way, and stops the training's clocks meanwhile."""

    pipeline: GaussianTalkerPipeline
    points: list[CurvePoint] = field(default_factory=list)
    cpu_start: float = field(default_factory=time.process_time)
    wall_start: float = field(default_factory=time.perf_counter)

    def measure(self, step: int) -> None:
        """Add a point after a step, counted from 0."""
        cpu, wall = time.process_time(), time.perf_counter()
        found = held_out_figures(self.pipeline)
        seconds = cpu - self.cpu_start, wall - self.wall_start
        self.points.append(CurvePoint(step + 1, *seconds, found.metrics, found.not_measured))
        self.cpu_start += time.process_time() - cpu
        self.wall_start += time.perf_counter() - wall


def held_out_figures(pipeline: GaussianTalkerPipeline) -> Evaluation:
    """Measure the held-out frames as `gaussiantalker evaluate` does, in the middle of a training.

    Measures whose weights are not on this machine are left out, and named.
    """
    sound = DatasetLayout(Path(pipeline.datamanager.get_datapath())).audio
    samples = read_audio(sound) if sound.is_file() else None
    frames = FullFrames(pipeline.datamanager.eval_dataset, pipeline.device)
    pipeline.eval()
    # The networks that measure draw random weights before they load theirs; the training, which
    # goes on afterwards, must not see whether it was measured.
    with torch.random.fork_rng([pipeline.device] if pipeline.device.type == "cuda" else []):
        observers = Observers.find(pipeline.device)
        pairs = rendered_pairs(pipeline.model, frames)
        found = evaluate_pairs(pairs, observers, samples=samples)
    pipeline.train()
    return found


def set_seeds(seed: int) -> None:
    """Seed Python, NumPy and torch, as Nerfstudio's own training script does."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def forget_writers() -> None:
    """Empty Nerfstudio's list of log writers, into all of which every run would write."""
    writer.EVENT_WRITERS.clear()
    writer.EVENT_STORAGE.clear()


def train(run: Run) -> Result:
    """Train one run in this process and measure it."""
    set_seeds(run.seed)
    forget_writers()
    run.config.save_config()
    trainer = run.config.setup(local_rank=0, world_size=1)
    trainer.setup()
    pipeline = trainer.pipeline
    recorder = CurveRecorder(pipeline)
    steps = tuple(step - 1 for step in run.measured_at)
    trainer.callbacks.append(
        TrainingCallback(
            [TrainingCallbackLocation.AFTER_TRAIN_ITERATION], recorder.measure, iters=steps
        )
    )
    trainer.train()
    forget_writers()
    groups = pipeline.model.get_param_groups()
    sizes = {name: sum(p.numel() for p in parameters) for name, parameters in groups.items()}
    return Result(run.identity, recorder.points, sizes)


def write_result(path: Path, result: Result) -> None:
    """Write the figures; the file is whole or absent."""
    write_text(path, json.dumps(asdict(result), indent=1, allow_nan=False) + "\n")


def read_result(run: Run) -> Result | None:
    """The figures of a finished run; None if it is not finished.

    Raises:
        ValueError: If the folder holds a run with other settings.
    """
    if not run.result_path.is_file():
        return None
    stored = json.loads(run.result_path.read_text())
    found, wanted = stored["identity"], run.identity
    other = [key for key in wanted if found.get(key) != wanted[key]]
    if other:
        was = ", ".join(f"{key} {found.get(key)}" for key in other)
        now = ", ".join(f"{key} {wanted[key]}" for key in other)
        raise ValueError(
            f"{run.result_path} was made with {was}; expected {now}. Choose another --output-dir,"
            " or add --overwrite to train again."
        )
    curve = [CurvePoint(**point) for point in stored["curve"]]
    return Result(found, curve, stored["num_parameters"])


def perform(run: Run) -> Outcome:
    """Train a run from the beginning into its own folder; what goes wrong is returned.

    What is left of an earlier attempt is removed first. All that is printed goes to `LOG_NAME`.
    """
    shutil.rmtree(run.folder, ignore_errors=True)
    run.folder.mkdir(parents=True)
    with (run.folder / LOG_NAME).open("w") as log, redirect_stdout(log):
        try:
            result = train(run)
        # A study of many hours goes on with the other rows, whatever broke this one.
        except Exception as error:
            traceback.print_exc(file=log)
            return Failure(one_line(error))
    write_result(run.result_path, result)
    return result


def one_line(error: BaseException) -> str:
    """The kind and the first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
