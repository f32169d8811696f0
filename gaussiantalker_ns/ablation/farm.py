"""Runs one after another in this process, in several processes, or on a Ray cluster."""

import importlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any

from gaussiantalker_ns.ablation.plan import Run
from gaussiantalker_ns.ablation.training import Failure, Outcome, one_line, perform

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
