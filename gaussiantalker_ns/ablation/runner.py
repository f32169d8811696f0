"""Runs of the study: training and measuring one, and handing many to the scheduler."""

import json
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation

from gaussiantalker_ns.ablation.study import Run
from gaussiantalker_ns.audio.read import read_audio
from gaussiantalker_ns.data.datamanager import FullFrames
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.engine.training import train_to_end
from gaussiantalker_ns.evaluation.evaluator import Evaluation, Metrics, evaluate_pairs
from gaussiantalker_ns.evaluation.training_eval import rendered_pairs
from gaussiantalker_ns.files import remove_all_but, write_text
from gaussiantalker_ns.folder_lock import InUseError, OwnerLock
from gaussiantalker_ns.pipeline import GaussianTalkerPipeline
from gaussiantalker_ns.scheduler.run import Workers, run_tasks
from gaussiantalker_ns.scheduler.tasks import Failure, Finished, Task, TaskQueue, one_line

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
    """The values of `gaussiantalker evaluate`, by the keys of `metrics.registry`."""
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
        found = held_out_values(self.pipeline)
        seconds = cpu - self.cpu_start, wall - self.wall_start
        self.points.append(CurvePoint(step + 1, *seconds, found.metrics, found.not_measured))
        self.cpu_start += time.process_time() - cpu
        self.wall_start += time.perf_counter() - wall


def held_out_values(pipeline: GaussianTalkerPipeline) -> Evaluation:
    """Measure the held-out frames as `gaussiantalker evaluate` does, in the middle of a training.

    Measures whose weights are not on this machine are left out, and named.
    """
    audio = DatasetLayout(Path(pipeline.datamanager.get_datapath())).audio
    samples = read_audio(audio) if audio.is_file() else None
    frames = FullFrames(pipeline.datamanager.eval_dataset, pipeline.device)
    pipeline.eval()
    # The networks that measure draw random weights before they load theirs; the training, which
    # goes on afterwards, must not see whether it was measured.
    with torch.random.fork_rng([pipeline.device] if pipeline.device.type == "cuda" else []):
        metrics = Metrics.find(pipeline.device)
        pairs = rendered_pairs(pipeline.model, frames)
        found = evaluate_pairs(pairs, metrics, samples=samples)
    pipeline.train()
    return found


def train(run: Run) -> Result:
    """Train one run in this process and measure it."""
    recorders: list[CurveRecorder] = []

    def watch(trainer: Any) -> None:
        recorders.append(CurveRecorder(trainer.pipeline))
        steps = tuple(step - 1 for step in run.measured_at)
        after_step = [TrainingCallbackLocation.AFTER_TRAIN_ITERATION]
        measure = TrainingCallback(after_step, recorders[0].measure, iters=steps)
        trainer.callbacks.append(measure)

    trainer = train_to_end(run.config, run.seed, watch)
    groups = trainer.pipeline.model.get_param_groups()
    sizes = {name: sum(p.numel() for p in parameters) for name, parameters in groups.items()}
    return Result(run.identity, recorders[0].points, sizes)


def write_result(path: Path, result: Result) -> None:
    """Write the values; the file is whole or absent."""
    write_text(path, json.dumps(asdict(result), indent=1, allow_nan=False) + "\n")


def read_result(run: Run) -> Result | None:
    """The values of a finished run; None if it is not finished.

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
    try:
        with OwnerLock.of_folder(run.folder) as lock:
            remove_all_but(run.folder, lock.path)
    # For example by a worker whose study was killed.
    except InUseError as error:
        return Failure(one_line(error))
    run.folder.mkdir(parents=True, exist_ok=True)
    with (run.folder / LOG_NAME).open("w", encoding="utf-8") as log, redirect_stdout(log):
        try:
            result = train(run)
        # A study of many hours goes on with the other rows, whatever broke this one.
        except Exception as error:
            traceback.print_exc(file=log)
            return Failure(one_line(error))
    write_result(run.result_path, result)
    return result


def perform_all(runs: Sequence[Run], workers: Workers) -> Iterator[tuple[Run, Outcome]]:
    """Train the runs; outcomes come as they are ready.

    Folders are written by the workers, so several machines need a disk that they share.
    """
    queue = TaskQueue()
    by_key = {f"{run.name}, seed {run.seed}": run for run in runs}
    for key, run in by_key.items():
        on_gpu = run.config.machine.device_type == "cuda"
        # A run that killed its process would kill the next one as well: one attempt.
        queue.add(Task(key, perform, (run,), on_gpu=on_gpu, isolated=True))
    for event in run_tasks(queue, workers):
        if isinstance(event, Finished):
            yield by_key[event.task.key], event.outcome
