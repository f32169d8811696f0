"""Runs of the study: training and measuring one, and running many in processes or on Ray."""

import importlib
import json
import os
import random
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.utils import writer

from gaussiantalker_ns.ablation.study import Run
from gaussiantalker_ns.audio.read import read_audio
from gaussiantalker_ns.data.datamanager import FullFrames
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.evaluation.evaluator import Evaluation, Metrics, evaluate_pairs
from gaussiantalker_ns.evaluation.training_eval import rendered_pairs
from gaussiantalker_ns.files import remove_all_but, write_text
from gaussiantalker_ns.folder_lock import InUseError, OwnerLock
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
    after_step = [TrainingCallbackLocation.AFTER_TRAIN_ITERATION]
    trainer.callbacks.append(TrainingCallback(after_step, recorder.measure, iters=steps))
    trainer.train()
    forget_writers()
    groups = pipeline.model.get_param_groups()
    sizes = {name: sum(p.numel() for p in parameters) for name, parameters in groups.items()}
    return Result(run.identity, recorder.points, sizes)


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


def one_line(error: BaseException) -> str:
    """The kind and the first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


LOCAL_RAY = "local"
"""In place of an address: start Ray on this machine for as long as the command runs."""


def perform_here(runs: Sequence[Run]) -> Iterator[tuple[Run, Outcome]]:
    """Train the runs one after another."""
    for run in runs:
        yield run, perform(run)


def perform_in_processes(runs: Sequence[Run], num_workers: int) -> Iterator[tuple[Run, Outcome]]:
    """Train the runs, each in a process of its own; outcomes come as they are ready."""
    threads = ThreadPoolExecutor(num_workers)
    try:
        waiting = {threads.submit(perform_apart, run): run for run in runs}
        for done in as_completed(waiting):
            yield waiting[done], done.result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def perform_apart(run: Run) -> Outcome:
    """Train a run in a new process, whose death harms no other run."""
    # A forked process would inherit the threads of torch and Numba in an unknown state.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(perform, run).result()
        except BrokenProcessPool as error:
            return Failure(one_line(error))


def start_ray(num_workers: int, address: str) -> Any:
    """Load Ray, which is an extra, and start it or join a cluster.

    Raises:
        ValueError: If it is not installed or does not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == LOCAL_RAY:
        # Despite its name this is how Ray is told on any system to listen on 127.0.0.1 alone.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        ray = importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"--ray {address} needs Ray, which is not installed; expected the extra. Install it"
            ' with `pip install "gaussiantalker-ns[ray]"`, or use --num-workers alone.'
        ) from error
    local = {"num_cpus": num_workers, "include_dashboard": False}
    try:
        ray.init(address=address, log_to_driver=False, **(local if address == LOCAL_RAY else {}))
    # Ray raises plain exceptions of many kinds here.
    except Exception as error:
        raise ValueError(
            f"Ray did not start with the address {address} ({one_line(error)}); expected `local`,"
            " `auto` or the address of a running cluster. On a busy machine Ray gives up after 30"
            " s: try again, or use --num-workers alone."
        ) from error
    return ray


def perform_with_ray(
    runs: Sequence[Run], num_workers: int, address: str
) -> Iterator[tuple[Run, Outcome]]:
    """Train the runs in worker processes of Ray; outcomes come as they are ready.

    Args:
        runs: What to train. Folders are written by the workers, so several machines need a disk
            that they share.
        num_workers: Runs side by side if Ray is started here; a cluster's own CPUs and GPUs say
            how many it takes.
        address: `LOCAL_RAY`, `auto`, or the address of a cluster.
    """
    ray = start_ray(num_workers, address)

    def task(run: Run) -> Any:
        num_gpus = 1 if run.config.machine.device_type == "cuda" else 0
        # A run that killed its process would kill the next one as well.
        remote = ray.remote(num_cpus=1, num_gpus=num_gpus, max_retries=0)(perform)
        return remote.remote(run)

    try:
        waiting = {task(run): run for run in runs}
        while waiting:
            (ready, *_), _ = ray.wait(list(waiting), num_returns=1)
            run = waiting.pop(ready)
            try:
                outcome = ray.get(ready)
            except ray.exceptions.RayError as error:
                outcome = Failure(one_line(error))
            yield run, outcome
    finally:
        ray.shutdown()
