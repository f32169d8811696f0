"""One piece of work in a worker: once, alone in its folder, with a log and a record at its end."""

import json
import multiprocessing
import os
import platform
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gaussiantalker_ns.batch import stages
from gaussiantalker_ns.batch.plan import RECORDS, Work
from gaussiantalker_ns.batch.stages import Facts, Settings, Split
from gaussiantalker_ns.batch.store import Store, acquired_patiently
from gaussiantalker_ns.scheduler.tasks import Failure, one_line

LOGS = "logs"
"""Folder of what failed work has printed."""

MOST_REASON = 400
"""Characters of a reason that are kept."""

StageFunction = Callable[..., Facts | Split]

STAGE_FUNCTIONS: dict[str, StageFunction] = {
    "process": stages.process,
    "train": stages.train,
    "pack": stages.pack,
    "evaluate": stages.evaluate,
    "drive": stages.drive,
    "part": stages.drive_part,
    "join": stages.join,
    "measure": stages.measure,
}
"""Kind of task -> what does it."""


@dataclass(frozen=True)
class Order:
    """What a worker is told to do."""

    work: Work
    store: Store
    settings: Settings
    kind: str
    """Key of `STAGE_FUNCTIONS`."""
    arguments: tuple[int, ...] = ()
    """More that the function is told: the frames of a part."""
    functions: Mapping[str, StageFunction] = field(
        default_factory=lambda: STAGE_FUNCTIONS, hash=False
    )

    @property
    def name(self) -> str:
        """Name of the task, of its folder and its log."""
        part = f"-{self.arguments[0]:08d}" if self.kind == "part" else ""
        return f"{self.kind}{part}-{self.work.key}"

    @property
    def leaves_record(self) -> bool:
        """Whether the work is finished with it."""
        return self.kind != "part"


def perform(order: Order) -> Facts | Split | Failure:
    """Do what was ordered, unless somebody else has; what goes wrong is returned.

    A worker that is lost leaves its folder, in which the next one goes on. The record is the last
    thing that is written: work without one is done again.
    """
    store, record = order.store, f"{RECORDS}/{order.work.record}"
    folder = store.work_folder(order.name)
    lock = acquired_patiently(folder)
    try:
        if order.leaves_record and store.exists(record):
            return json.loads(store.read(record))
        started, cpu = time.time(), time.process_time()
        found = logged(order, folder)
        if isinstance(found, dict):
            took = {"seconds": time.time() - started, "cpu_seconds": time.process_time() - cpu}
            found = {**found, **took, "threads": order.settings.threads, "host": platform.node()}
        if isinstance(found, dict) and order.leaves_record:
            store.write(record, (json.dumps(found, indent=1) + "\n").encode())
        if not isinstance(found, Failure):
            for path in folder.iterdir():
                if path != lock.path:
                    remove(path)
        return found
    finally:
        lock.release()
        if folder.is_dir() and not os.listdir(folder):
            folder.rmdir()


def remove(path: Path) -> None:
    """Delete a file or folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def logged(order: Order, folder: Path) -> Facts | Split | Failure:
    """Do the work; all that it prints goes to a file, which is kept if it fails."""
    path = folder / "log.txt"
    with (
        path.open("w", encoding="utf-8") as log,
        redirect_stdout(log),
        redirect_stderr(log),
        native_output_to(log.fileno()),
    ):
        try:
            function = order.functions[order.kind]
            return function(order.work, order.store, folder, order.settings, *order.arguments)
        # The other rows go on, whatever broke this one.
        except Exception as error:
            traceback.print_exc(file=log)
            failure = Failure(reason_of(error))
    order.store.put(path, f"{LOGS}/{order.name}.txt")
    return failure


@contextmanager
def native_output_to(descriptor: int) -> Iterator[None]:
    """Send what libraries print past Python to a file, too, in a worker process.

    The process that shows the live table keeps its own output.
    """
    if multiprocessing.parent_process() is None:
        yield
        return
    standard = sys.__stdout__, sys.__stderr__
    kept = [os.dup(1), os.dup(2)]
    try:
        for number in (1, 2):
            os.dup2(descriptor, number)
        yield
    finally:
        for stream in standard:
            if stream is not None:
                stream.flush()
        for number, before in zip((1, 2), kept):
            os.dup2(before, number)
            os.close(before)


def reason_of(error: Exception) -> str:
    """What is wrong, in a line: the message alone of an error that a user can cause."""
    message = " ".join(str(error).split())
    if message and isinstance(error, ValueError | OSError):
        return message[:MOST_REASON]
    return one_line(error)[:MOST_REASON]


def record_of(store: Store, work: Work) -> dict[str, Any]:
    """What the record of finished work says."""
    return json.loads(store.read(f"{RECORDS}/{work.record}"))
