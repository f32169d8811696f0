"""Workers of a Ray cluster, or of a Ray that is started on this machine for the command."""

import importlib
import os
import time
from typing import Any

from gaussiantalker_ns.scheduler.tasks import Failure, Lost, Task, one_line, performed

LOCAL_RAY = "local"
"""In place of an address: start Ray on this machine for as long as the command runs."""

RESOURCES_S = 5.0
"""How long it is believed how many cores the cluster has."""

TASKS_A_CORE = 2
"""Tasks that are handed to Ray for each core: a cluster that grows by what waits can do so."""


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


def call(environment: dict[str, str], function: Any, arguments: tuple[Any, ...]) -> Any:
    """Do a task in a worker of Ray, whose variables are those of its machine."""
    os.environ.update(environment)
    return performed(function, arguments)


class RayWorkers:
    """The machines of a cluster; Ray chooses the one for each task."""

    def __init__(
        self, num_workers: int, address: str, environment: dict[str, str] | None = None
    ) -> None:
        """Start Ray, or join a cluster.

        Args:
            num_workers: Tasks side by side if Ray is started here; a cluster's own cores say how
                many it takes.
            address: `LOCAL_RAY`, `auto`, or the address of a cluster.
            environment: Variables that are set before a task is done.

        Raises:
            ValueError: Ray is not installed or does not start.
        """
        self._ray = start_ray(num_workers, address)
        # Whoever runs the tasks counts the attempts.
        self._shared = self._ray.remote(max_retries=0)(call)
        self._isolated = self._ray.remote(max_retries=0, max_calls=1)(call)
        self._environment = environment or {}
        self._running: dict[Any, Task] = {}
        self._resources: dict[str, float] = {}
        self._asked_at = 0.0

    def _resource(self, name: str) -> float:
        """How many cores ("CPU") or GPUs the cluster has."""
        if not self._resources or time.monotonic() > self._asked_at + RESOURCES_S:
            self._resources = self._ray.cluster_resources()
            self._asked_at = time.monotonic()
        return self._resources.get(name, 0.0)

    def has_room(self, task: Task) -> bool:
        """Whether Ray should be given one more task."""
        del task
        return len(self._running) < max(TASKS_A_CORE * self._resource("CPU"), 1)

    @property
    def are_busy(self) -> bool:
        """Whether any task was given to Ray."""
        return bool(self._running)

    def submit(self, task: Task) -> None:
        """Give a task to Ray."""
        has_gpus = self._resource("GPU") >= 1
        num_gpus = 1 if task.on_gpu and has_gpus else 0
        environment = self._environment
        isolated = task.isolated
        if has_gpus and not num_gpus:
            # It is not to see the GPUs of others; torch would remember that for the next task.
            environment, isolated = {**environment, "CUDA_VISIBLE_DEVICES": ""}, True
        remote = self._isolated if isolated else self._shared
        asking = remote.options(num_cpus=task.num_cpus, num_gpus=num_gpus, name=task.key)
        reference = asking.remote(environment, task.function, task.arguments)
        self._running[reference] = task

    def wait(self) -> tuple[Task, Any]:
        """Wait for any task."""
        (ready, *_), _ = self._ray.wait(list(self._running), num_returns=1)
        task = self._running.pop(ready)
        try:
            return task, self._ray.get(ready)
        # The function could not be imported there, for example.
        except self._ray.exceptions.RayTaskError as error:
            return task, Failure(one_line(error))
        except self._ray.exceptions.RayError as error:
            return task, Lost(one_line(error))

    def close(self) -> None:
        """End what is running, and leave the cluster."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._running.clear()
        self._ray.shutdown()
