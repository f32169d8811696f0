"""Runs one after another in this process, or side by side with Ray."""

import importlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

from gaussiantalker_ns.ablation.plan import Run
from gaussiantalker_ns.ablation.training import Failure, Outcome, one_line, perform


def perform_here(runs: Sequence[Run]) -> Iterator[tuple[Run, Outcome]]:
    """Train the runs one after another."""
    for run in runs:
        yield run, perform(run)


def import_ray() -> Any:
    """Load Ray, which is an extra.

    Raises:
        ValueError: If it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise ValueError(
            "Ray, which shares runs out over processes and machines, is not installed; expected it"
            " for --num-workers above 1 and for --ray-address. Install it with `pip install"
            ' "gaussiantalker-ns[ray]"`, or leave both options out.'
        ) from error


def perform_with_ray(
    runs: Sequence[Run], num_workers: int, address: str | None
) -> Iterator[tuple[Run, Outcome]]:
    """Train the runs in worker processes of Ray; outcomes come as they are ready.

    Args:
        runs: What to train. Folders are written by the workers, so several machines need a disk
            that they share.
        num_workers: Processes on this machine, one run at a time each.
        address: A running Ray cluster to use instead; then its own CPUs and GPUs say how many runs
            go side by side.
    """
    ray = import_ray()
    if address is None:
        # Nothing of a cluster that lives for one command need be reachable from outside.
        ray.init(
            num_cpus=num_workers,
            include_dashboard=False,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
        )
    else:
        ray.init(address=address, log_to_driver=False)
    try:
        yield from outcomes_of(ray, runs)
    finally:
        ray.shutdown()


def outcomes_of(ray: Any, runs: Sequence[Run]) -> Iterator[tuple[Run, Outcome]]:
    """Hand all runs to an initialised Ray and give back what comes, in the order of arrival."""

    def task(run: Run) -> Any:
        num_gpus = 1 if run.config.machine.device_type == "cuda" else 0
        # A run that killed its process would kill the next one as well.
        remote = ray.remote(num_cpus=1, num_gpus=num_gpus, max_retries=0)(perform)
        return remote.remote(run)

    waiting = {task(run): run for run in runs}
    while waiting:
        (ready, *_), _ = ray.wait(list(waiting), num_returns=1)
        run = waiting.pop(ready)
        try:
            outcome = ray.get(ready)
        except ray.exceptions.RayError as error:
            outcome = Failure(one_line(error))
        yield run, outcome
