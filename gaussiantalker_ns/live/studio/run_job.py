"""The process of a job: runs its commands one after the other and notes how each ends.

It is started in a session of its own and outlives the server, whose only link to it are the files
of the job's folder: `job.json` (what to run), the owner's record of `folder_lock` (who runs it),
`status.json` (where it is, and how it ended), `log.txt` and `errors.txt` (what was printed).
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from gaussiantalker_ns.folder_lock import OwnerLock

SPEC, STATUS, LOG, ERRORS = "job.json", "status.json", "log.txt", "errors.txt"
"""Names in the folder of a job."""

PATIENCE_S = 10.0
"""How long a command may take to end when it is told to."""

POLL_S = 0.25
"""How often a command and the wish to stop are looked at."""

MOST_MESSAGE = 600
"""Characters of a command's last words that are kept."""

TAIL_BYTES = 8192
"""Bytes at the end of the errors in which the last words are looked for."""

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
"""What steers terminals."""


def read_json(path: Path) -> dict[str, Any]:
    """A small JSON file of the studio; empty where there is none, or none that is whole."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a small JSON file whole or not at all.

    Not by `files.write_text`, whose module brings OpenCV: a job's process only waits.
    """
    partial = path.with_name(f".partial-{path.name}")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, path)


def last_words(errors: Path) -> str:
    """The last line that a command wrote to its errors, without what steers terminals."""
    if not errors.is_file():
        return ""
    with errors.open("rb") as file:
        file.seek(max(errors.stat().st_size - TAIL_BYTES, 0))
        text = ESCAPES.sub("", file.read().decode("utf-8", "replace"))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:MOST_MESSAGE] if lines else ""


def end_tree(process: psutil.Process, patience_s: float) -> None:
    """End a process and all that it has started: politely, then by force."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [*process.children(recursive=True), process]
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
        _, alive = psutil.wait_procs(family, timeout=patience_s)
        for one in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(alive, timeout=patience_s)


def end_orphan(status: Mapping[str, Any]) -> None:
    """End the command of a run whose own process was killed, so that two never work at once."""
    child = status.get("child")
    if status.get("state") != "running" or not isinstance(child, dict):
        return
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process = psutil.Process(int(child["pid"]))
        if process.create_time() == child["start"]:
            end_tree(process, PATIENCE_S)


class Job:
    """One run of a job's commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stopped = threading.Event()
        """Set when somebody wants it to stop."""
        self.status: dict[str, Any] = {"state": "running", "started": time.time()}

    def note(self, **facts: Any) -> None:
        """Add to the status on disk."""
        self.status.update(facts)
        write_json(self.folder / STATUS, self.status)

    def run(self) -> int:
        """Run all commands; returns 0 if all of them ended well."""
        end_orphan(read_json(self.folder / STATUS))
        spec = json.loads((self.folder / SPEC).read_text(encoding="utf-8"))
        if hasattr(os, "nice"):
            os.nice(spec["nice"])
        for step in spec["steps"]:
            if not self.run_step(step["name"], step["argv"]):
                return 1
        self.note(state="done", ended=time.time(), child=None)
        return 0

    def run_step(self, name: str, argv: Sequence[str]) -> bool:
        """Run one command to its end; returns whether it ended well."""
        errors = self.folder / ERRORS
        environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "NO_COLOR": "1"}
        with (self.folder / LOG).open("ab") as log, errors.open("wb") as error_file:
            child = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=error_file, env=environment
            )
            process = psutil.Process(child.pid)
            identity = {"pid": child.pid, "start": process.create_time()}
            self.note(step=name, step_started=time.time(), child=identity)
            self.wait_for(child, process)
        # First: how a command ended that was told to is not known for sure, as whoever waits for
        # its whole family may learn it instead.
        if self.stopped.is_set():
            self.note(state="stopped", ended=time.time(), child=None)
            return False
        if child.returncode == 0:
            return True
        message = last_words(errors) or f"It ended with status {child.returncode}."
        self.note(
            state="failed",
            ended=time.time(),
            child=None,
            returncode=child.returncode,
            message=message,
        )
        return False

    def wait_for(self, child: subprocess.Popen[bytes], process: psutil.Process) -> None:
        """Wait until a command ends, or end it when that is wanted."""
        while child.poll() is None:
            try:
                child.wait(POLL_S)
            except subprocess.TimeoutExpired:
                if self.stopped.is_set():
                    end_tree(process, PATIENCE_S)
                    child.wait()


def main(arguments: Sequence[str]) -> int:
    """Run the job of a folder, as its owner."""
    folder = Path(arguments[0])
    job = Job(folder)
    signal.signal(signal.SIGTERM, lambda *_: job.stopped.set())
    with OwnerLock.of_folder(folder):
        return job.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
