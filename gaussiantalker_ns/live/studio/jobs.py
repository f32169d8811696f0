"""Jobs: commands that run beside the server, outlive it, and are found again by their files."""

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import psutil

from gaussiantalker_ns.folder_lock import LOCK_NAME, read_record
from gaussiantalker_ns.live.studio.run_job import (
    ERRORS,
    LOG,
    PATIENCE_S,
    SPEC,
    STATUS,
    end_tree,
    read_json,
    write_json,
)

State = Literal["none", "running", "done", "failed", "stopped", "interrupted"]
"""`stopped` was wanted; `interrupted` is a job that ended without a word, as by a power cut."""

NICENESS = 5
"""Jobs let a live head go first."""


class BusyError(Exception):
    """Something runs already; the message says what, and what to do."""


@dataclass(frozen=True)
class Step:
    """One command of a job."""

    name: str
    """What the page calls it."""
    argv: tuple[str, ...]
    """Program and arguments; no shell sees them."""


@dataclass(frozen=True)
class JobState:
    """Where a job is."""

    state: State
    step: str | None = None
    """Name of the command that runs, or ran last."""
    message: str | None = None
    """Why it failed."""
    started: float | None = None
    """When it began, in seconds since 1970."""
    ended: float | None = None

    @property
    def can_resume(self) -> bool:
        """Whether giving its commands again makes sense."""
        return self.state in ("failed", "stopped", "interrupted")


class Job:
    """One folder with one job, of this server or of one before it."""

    _children: dict[Path, subprocess.Popen[bytes]] = {}
    """What this process has started: a job needs a moment before it owns its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def exists(self) -> bool:
        """Whether anything was ever to be run here."""
        return (self.folder / SPEC).is_file()

    def is_running(self) -> bool:
        """Whether its process is alive, whoever has started it."""
        child = self._children.get(self.folder)
        if child is not None:
            if child.poll() is None:
                return True
            del self._children[self.folder]
        return self._owner_pid() is not None

    def _owner_pid(self) -> int | None:
        owner, _ = read_record(self.folder / LOCK_NAME)
        return owner.pid if owner is not None and owner.is_running() else None

    def state(self) -> JobState:
        """Where it is, by the files and the living processes alone."""
        if not self.exists:
            return JobState("none")
        # Before the status is read: a job that ends in between has written it by then.
        running = self.is_running()
        status = read_json(self.folder / STATUS)
        state: State = status.get("state", "running")
        if running:
            state = "running"
        elif state == "running":
            state = "interrupted"
        return JobState(
            state,
            status.get("step"),
            status.get("message") if state == "failed" else None,
            status.get("started"),
            status.get("ended"),
        )

    def start(self, steps: Sequence[Step]) -> None:
        """Run commands in a process that does not end with this one.

        Raises:
            BusyError: It runs already.
        """
        if self.is_running():
            raise BusyError("This is running already; wait until it is done, or stop it.")
        self.folder.mkdir(parents=True, exist_ok=True)
        spec = {"nice": NICENESS, "steps": [asdict(step) for step in steps]}
        for name in (LOG, ERRORS):
            (self.folder / name).unlink(missing_ok=True)
        old = read_json(self.folder / STATUS)
        if old and old.get("state") != "running":
            (self.folder / STATUS).unlink()
        write_json(self.folder / SPEC, spec)
        command = [sys.executable, "-m", "gaussiantalker_ns.live.studio.run_job"]
        with (self.folder / LOG).open("ab") as log:
            self._children[self.folder] = subprocess.Popen(
                [*command, str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A server that is stopped with Ctrl-C does not take its jobs along.
                start_new_session=True,
            )

    def stop(self) -> None:
        """Have it end, within a few seconds and without waiting for that."""
        child = self._children.get(self.folder)
        deadline = time.monotonic() + PATIENCE_S
        # A process that has just begun does not listen yet.
        while (pid := self._owner_pid()) is None and child is not None and child.poll() is None:
            if time.monotonic() > deadline:
                pid = child.pid
                break
            time.sleep(0.05)
        if pid is None:
            return
        process = psutil.Process(pid)
        # Its own process ends the command and notes that; this one is for a case where it cannot.
        threading.Thread(target=end_tree, args=(process, 3 * PATIENCE_S), daemon=True).start()

    def end(self) -> None:
        """Have it end, and wait for that: its folder is about to go."""
        pid = self._owner_pid()
        child = self._children.pop(self.folder, None)
        if pid is None and child is not None and child.poll() is None:
            pid = child.pid
        if pid is not None and psutil.pid_exists(pid):
            end_tree(psutil.Process(pid), 2 * PATIENCE_S)
        if child is not None:
            child.wait()
