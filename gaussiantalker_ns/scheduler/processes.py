"""Workers that are processes of this machine; the death of one harms no task of another."""

import os
import pickle
import signal
import threading
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

from gaussiantalker_ns.scheduler.tasks import Failure, Lost, Task, one_line, performed

PATIENCE_S = 5.0
"""How long a process that is asked to end may take."""


def serve(connection: Connection, environment: dict[str, str]) -> None:
    """Do the tasks that come, in a process of its own, until there are no more."""
    # Ctrl-C reaches all processes of a terminal; the one that leads ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()
    os.environ.update(environment)
    while True:
        try:
            message = connection.recv_bytes()
        except EOFError:
            return
        connection.send_bytes(answer(message))


def end_with_parent() -> None:
    """End this process when the one that leads is gone: nobody would hear of what it does."""
    parent = parent_process()
    assert parent is not None, "it was started by another process"
    wait([parent.sentinel])
    os._exit(1)


def answer(message: bytes) -> bytes:
    """Do a pickled task and pickle its outcome, or why it has none."""
    try:
        function, arguments = pickle.loads(message)
        return pickle.dumps(performed(function, arguments))
    # A module that is not there, or a result that cannot be sent.
    except Exception as error:
        return pickle.dumps(Failure(one_line(error)))


@dataclass
class Worker:
    """One process; it is started with its first task, and again after it was lost."""

    environment: dict[str, str]
    has_gpu: bool
    task: Task | None = None
    process: Any = None
    connection: Connection | None = None

    def begin(self, task: Task) -> None:
        """Send a task."""
        if self.process is None:
            self.start()
        assert self.connection is not None, "the process has just been started"
        self.task = task
        self.connection.send_bytes(pickle.dumps((task.function, task.arguments)))

    def start(self) -> None:
        """Start the process."""
        # A forked process would inherit the threads of torch and Numba in an unknown state.
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, self.environment))
        self.process.start()
        # Else the pipe would not end with the process.
        theirs.close()

    def finish(self) -> tuple[Task, Any]:
        """Take the outcome of the task, which is there, or the process has ended."""
        task, connection = self.task, self.connection
        assert task is not None and connection is not None, "a task was begun"
        self.task = None
        try:
            outcome = pickle.loads(connection.recv_bytes())
        except (EOFError, ConnectionError):
            self.process.join()
            outcome = Lost(f"The worker process was lost ({ending(self.process.exitcode)})")
            self.stop()
            return task, outcome
        if task.isolated:
            self.stop()
        return task, outcome

    def stop(self) -> None:
        """End the process, whatever it does."""
        if self.process is None:
            return
        assert self.connection is not None, "it was started with the process"
        self.connection.close()
        if self.task is not None:
            self.process.terminate()
        self.process.join(PATIENCE_S)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        self.process.close()
        self.process = self.connection = self.task = None


def ending(exit_code: int) -> str:
    """How a process ended: -9 gives "SIGKILL", 1 gives "exit status 1"."""
    return signal.Signals(-exit_code).name if exit_code < 0 else f"exit status {exit_code}"


class Processes:
    """Processes side by side, each with one task at a time."""

    def __init__(
        self, num_workers: int, num_gpus: int = 0, environment: dict[str, str] | None = None
    ) -> None:
        """Prepare the workers.

        Args:
            num_workers: How many that see no GPU, >= 1.
            num_gpus: GPUs of this machine; each gets one more worker, for tasks that take a GPU. If
                there are none, nothing is hidden from anybody.
            environment: Variables that are set in the processes before anything is imported.
        """
        base, visible = environment or {}, "CUDA_VISIBLE_DEVICES"
        hidden = {**base, visible: ""} if num_gpus else base
        self._num_gpus = num_gpus
        self._workers = [Worker(hidden, has_gpu=False) for _ in range(num_workers)]
        self._workers += [
            Worker({**base, visible: str(index)}, has_gpu=True) for index in range(num_gpus)
        ]

    def _free(self, task: Task) -> Worker | None:
        """A worker for a task, if possible one whose process is there."""
        takes_gpu = task.on_gpu and self._num_gpus > 0
        free = [w for w in self._workers if w.task is None and w.has_gpu == takes_gpu]
        return min(free, key=lambda worker: worker.process is None, default=None)

    def has_room(self, task: Task) -> bool:
        """Whether a worker is free for a task."""
        return self._free(task) is not None

    @property
    def are_busy(self) -> bool:
        """Whether any worker has a task."""
        return any(worker.task is not None for worker in self._workers)

    def submit(self, task: Task) -> None:
        """Give a task to a free worker."""
        worker = self._free(task)
        assert worker is not None, "has_room was not asked"
        worker.begin(task)

    def wait(self) -> tuple[Task, Any]:
        """Wait for the first worker that is ready, or gone."""
        busy = [w for w in self._workers if w.task is not None]
        (ready, *_) = wait([w.connection for w in busy if w.connection is not None])
        return next(w for w in busy if w.connection is ready).finish()

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.stop()
