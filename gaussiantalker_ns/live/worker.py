"""Worker processes: functions that look at strangers' files, apart from the server.

Decoders are large and written in C. What a file makes of one of them stays in a process that lives
for one call, with a bound on its time and memory; and what that process says is read as JSON and
plain numbers, never unpickled.
"""

import asyncio
import json
import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

MEMORY_BYTES = 4 * 2**30
"""Address space of a worker."""

MOST_WORKERS = 2
"""Workers at a time; further calls wait."""

GRACE_S = 2.0
"""How long a process may take to end after it was told to."""

REFUSALS = {
    kind.__name__: kind for kind in (ValueError, FileNotFoundError, FileExistsError, MemoryError)
}
"""Errors that are raised again in the server, with their sentence."""


class WorkerDiedError(RuntimeError):
    """A worker ended without an answer, or with an error that is no refusal."""


class WorkerProcesses:
    """Runs functions in processes of their own, a few at a time."""

    def __init__(self, most: int = MOST_WORKERS) -> None:
        self._free = asyncio.Semaphore(most)
        self._running: set[Any] = set()

    async def call(
        self, function: Callable[..., Any], *arguments: Any, timeout_s: float = 60.0
    ) -> Any:
        """Call a function of a module in a new process and return what it returns.

        Args:
            function: Importable by its name; it returns a NumPy array, or what JSON can hold.
            arguments: Its arguments, picklable.
            timeout_s: The process is killed after so long.

        Raises:
            TimeoutError: It took longer.
            ValueError, FileNotFoundError, FileExistsError, MemoryError: The function raised it.
            WorkerDiedError: The process died, or something else went wrong in it.
        """
        async with self._free:
            return await asyncio.to_thread(self._call, function, arguments, timeout_s)

    def _call(self, function: Callable[..., Any], arguments: tuple, timeout_s: float) -> Any:
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(
            target=_answer, args=(sender, function, arguments, timeout_s), daemon=True
        )
        self._running.add(process)
        try:
            process.start()
            sender.close()
            if not receiver.poll(timeout_s):
                raise TimeoutError(f"{function.__name__} took longer than {timeout_s:.0f} s.")
            return _read_answer(receiver, function.__name__)
        finally:
            receiver.close()
            _end(process)
            self._running.discard(process)

    def close(self) -> None:
        """Kill what still runs."""
        for process in list(self._running):
            process.kill()


def _end(process: Any) -> None:
    """Give a process that has answered a moment, then kill it."""
    if process.pid is None:
        return
    process.join(0.0 if process.exitcode is None else GRACE_S)
    if process.exitcode is None:
        process.kill()
        process.join()
    process.close()


def _read_answer(receiver: Connection, name: str) -> Any:
    try:
        said = json.loads(receiver.recv_bytes())
        if "error" in said:
            kind = REFUSALS.get(said["error"])
            if kind is None:
                raise WorkerDiedError(f"{name} failed: {said['error']}: {said['message']}")
            raise kind(said["message"])
        if "dtype" in said:
            values = np.frombuffer(receiver.recv_bytes(), np.dtype(said["dtype"]))
            return values.reshape(said["shape"])
        return said["value"]
    except (EOFError, OSError) as error:
        if type(error) in REFUSALS.values():
            raise
        raise WorkerDiedError(f"The process of {name} ended without an answer.") from error


def _answer(
    sender: Connection, function: Callable[..., Any], arguments: tuple, timeout_s: float
) -> None:
    """In the process: call the function and send what it returns."""
    _limit(timeout_s)
    try:
        value = function(*arguments)
    except Exception as error:
        said = {"error": type(error).__name__, "message": str(error)}
        sender.send_bytes(json.dumps(said).encode())
        return
    if isinstance(value, np.ndarray):
        said = {"dtype": value.dtype.str, "shape": value.shape}
        sender.send_bytes(json.dumps(said).encode())
        sender.send_bytes(np.ascontiguousarray(value).tobytes())
    else:
        sender.send_bytes(json.dumps({"value": value}).encode())


def _limit(timeout_s: float) -> None:
    """Bound this process where the system can."""
    if sys.platform == "win32":
        return
    import resource

    for kind, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, int(timeout_s * 4) + 1),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (most if hard < 0 else min(most, hard), hard))
