"""Functions that tests have done by workers; they leave marks in a folder."""

import os
import signal
import time
import uuid
from pathlib import Path


def mark(folder: Path, name: str) -> str:
    """Leave a file that says that this was done, and return who did it."""
    path = folder / f"{name}.{uuid.uuid4().hex[:8]}"
    partial = folder / f".partial-{path.name}"
    partial.write_text(str(os.getpid()))
    partial.rename(path)
    return f"{name} by {os.getpid()}"


def marks(folder: Path, name: str) -> int:
    """How often something was done."""
    return len(list(folder.glob(f"{name}.*")))


def fail(message: str) -> None:
    """Raise an error."""
    raise ValueError(f"{message}\nand a second line")


def die(folder: Path, name: str, survivors: int) -> str:
    """Kill this process, until so many have died before."""
    mark(folder, name)
    if marks(folder, name) <= survivors:
        os.kill(os.getpid(), signal.SIGKILL)
    return name


def variable(name: str) -> str | None:
    """A variable of the process's environment."""
    return os.environ.get(name)


def sleep(folder: Path, seconds: float) -> None:
    """Sleep, and leave marks before and after."""
    mark(folder, "asleep")
    time.sleep(seconds)
    mark(folder, "awake")
