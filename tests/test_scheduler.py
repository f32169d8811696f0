"""The scheduler: order, failures, lost workers, tasks that come later; here and in processes."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from scheduled_work import die, fail, mark, marks, sleep, variable

from gaussiantalker_ns.scheduler.processes import Processes
from gaussiantalker_ns.scheduler.run import ThisProcess, Workers, run_tasks
from gaussiantalker_ns.scheduler.tasks import Failure, Finished, Started, Task, TaskQueue


def queue_of(*tasks: Task) -> TaskQueue:
    queue = TaskQueue()
    for task in tasks:
        queue.add(task)
    return queue


def outcomes_of(queue: TaskQueue, workers: Workers) -> dict[str, Any]:
    """Key -> outcome, in the order in which tasks ended."""
    return {
        event.task.key: event.outcome
        for event in run_tasks(queue, workers)
        if isinstance(event, Finished)
    }


def test_tasks_wait_for_what_they_need_and_begun_chains_come_first():
    queue = queue_of(
        Task("a", len, ("a",)),
        Task("b", len, ("bb",)),
        Task("a2", len, ("aaa",), needs=("a",)),
        Task("both", len, ("bbbb",), needs=("a2", "b")),
    )
    found = outcomes_of(queue, ThisProcess())
    assert found == {"a": 1, "a2": 3, "b": 2, "both": 4}
    assert list(found) == ["a", "a2", "b", "both"]


def test_a_failure_takes_with_it_what_needs_it_and_nothing_else():
    queue = queue_of(
        Task("train", fail, ("no face",)),
        Task("pack", len, ("x",), needs=("train",)),
        Task("drive", len, ("x",), needs=("pack", "train")),
        Task("other", len, ("xx",)),
    )
    found = outcomes_of(queue, ThisProcess())
    assert found["train"] == Failure("ValueError: no face")
    assert found["pack"] == found["drive"] == Failure("needs train: ValueError: no face")
    assert found["other"] == 2


def test_tasks_may_be_added_by_what_comes_out():
    queue = queue_of(Task("parts", len, ("abc",)))
    found = {}
    for event in run_tasks(queue, ThisProcess()):
        if isinstance(event, Started):
            continue
        found[event.task.key] = event.outcome
        if event.task.key == "parts":
            keys = [f"part {k}" for k in range(event.outcome)]
            for key in keys:
                queue.add(Task(key, len, (key,)), first=True)
            queue.add(Task("join", len, ("",), needs=tuple(keys)), first=True)
    assert list(found) == ["parts", "part 2", "part 1", "part 0", "join"]


def test_keys_are_unique_and_needs_are_known():
    queue = queue_of(Task("a", len, ("a",)))
    with pytest.raises(AssertionError, match="added before"):
        queue.add(Task("a", len, ("a",)))
    with pytest.raises(AssertionError, match="nobody does"):
        queue.add(Task("b", len, ("b",), needs=("c",)))


def test_a_lost_worker_is_replaced_and_its_task_begun_again(tmp_path: Path):
    queue = queue_of(
        Task("dies once", die, (tmp_path, "once", 1), attempts=3),
        Task("dies always", die, (tmp_path, "always", 9), attempts=2),
        Task("needs it", len, ("x",), needs=("dies always",)),
        Task("lives", mark, (tmp_path, "lives")),
    )
    found = outcomes_of(queue, Processes(1))
    assert found["dies once"] == "once" and marks(tmp_path, "once") == 2
    assert found["dies always"] == Failure("The worker process was lost (SIGKILL)")
    assert marks(tmp_path, "always") == 2
    assert found["needs it"].reason.startswith("needs dies always: The worker process")
    assert str(found["lives"]).startswith("lives by") and str(os.getpid()) not in found["lives"]


def test_processes_have_their_variables_and_isolated_tasks_a_process_each(tmp_path: Path):
    tasks = [Task(f"alone {k}", mark, (tmp_path, "alone"), isolated=True) for k in range(2)]
    tasks += [Task(f"shared {k}", mark, (tmp_path, "shared")) for k in range(2)]
    tasks += [Task("variable", variable, ("NUMBA_NUM_THREADS",))]
    found = outcomes_of(queue_of(*tasks), Processes(1, environment={"NUMBA_NUM_THREADS": "1"}))
    assert found["alone 0"] != found["alone 1"] and found["shared 0"] == found["shared 1"]
    assert found["variable"] == "1"


def test_one_gpu_goes_to_one_task_at_a_time(tmp_path: Path):
    tasks = [Task(f"gpu {k}", variable, ("CUDA_VISIBLE_DEVICES",), on_gpu=True) for k in range(2)]
    tasks += [Task(f"cpu {k}", variable, ("CUDA_VISIBLE_DEVICES",)) for k in range(2)]
    workers = Processes(1, num_gpus=1)
    running, most = 0, 0
    found = {}
    for event in run_tasks(queue_of(*tasks), workers):
        if event.task.on_gpu:
            running += 1 if isinstance(event, Started) else -1
            most = max(most, running)
        if isinstance(event, Finished):
            found[event.task.key] = event.outcome
    assert most == 1
    assert found == {"gpu 0": "0", "gpu 1": "0", "cpu 0": "", "cpu 1": ""}


def test_leaving_the_loop_ends_the_workers(tmp_path: Path):
    events = run_tasks(queue_of(Task("long", sleep, (tmp_path, 600.0))), Processes(1))
    assert isinstance(next(events), Started)
    pid = started(tmp_path)
    assert isinstance(events, Iterator)
    events.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert not psutil.pid_exists(pid) and not marks(tmp_path, "awake")


ORPHANING = """
import sys
sys.path[:0] = [{tests!r}]
from pathlib import Path
from scheduled_work import sleep
from gaussiantalker_ns.scheduler.processes import Processes
from gaussiantalker_ns.scheduler.run import run_tasks
from gaussiantalker_ns.scheduler.tasks import Task, TaskQueue
if __name__ == "__main__":
    queue = TaskQueue()
    queue.add(Task("long", sleep, (Path({folder!r}), 600.0)))
    list(run_tasks(queue, Processes(1)))
"""


def test_workers_end_with_a_program_that_is_killed(tmp_path: Path):
    script = tmp_path / "orphaning.py"
    script.write_text(ORPHANING.format(tests=str(Path(__file__).parent), folder=str(tmp_path)))
    program = subprocess.Popen([sys.executable, str(script)], cwd=Path(__file__).parents[1])
    pid = started(tmp_path)
    program.kill()
    program.wait()
    deadline = time.monotonic() + 60
    while psutil.pid_exists(pid):
        assert time.monotonic() < deadline, "the worker goes on"
        time.sleep(0.05)


def started(folder: Path) -> int:
    """The process that sleeps, once it does."""
    deadline = time.monotonic() + 60
    while not marks(folder, "asleep"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (mark_of_it,) = folder.glob("asleep.*")
    return int(mark_of_it.read_text())
