"""The scheduler's loop: ready tasks go to free workers until none is left."""

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from gaussiantalker_ns.scheduler.tasks import (
    Failure,
    Finished,
    Lost,
    Started,
    Task,
    TaskQueue,
    performed,
)


@runtime_checkable
class Workers(Protocol):
    """Those who do tasks."""

    def has_room(self, task: Task) -> bool:
        """Whether a task could be begun now."""
        ...

    @property
    def are_busy(self) -> bool:
        """Whether any task is being done."""
        ...

    def submit(self, task: Task) -> None:
        """Begin a task for which there is room."""
        ...

    def wait(self) -> tuple[Task, Any]:
        """Wait for any task; returns it with its outcome, a `Failure`, or `Lost`."""
        ...

    def close(self) -> None:
        """End the workers, and what they are doing."""
        ...


class ThisProcess:
    """Does one task at a time in this process."""

    def __init__(self) -> None:
        self._task: Task | None = None

    def has_room(self, task: Task) -> bool:
        """Whether nothing is being done."""
        del task
        return self._task is None

    @property
    def are_busy(self) -> bool:
        """Whether a task was begun."""
        return self._task is not None

    def submit(self, task: Task) -> None:
        """Take a task, which is done by `wait`."""
        self._task = task

    def wait(self) -> tuple[Task, Any]:
        """Do the task."""
        task = self._task
        assert task is not None, "nothing was begun"
        outcome = performed(task.function, task.arguments)
        self._task = None
        return task, outcome

    def close(self) -> None:
        """There is nothing to end."""


def run_tasks(queue: TaskQueue, workers: Workers) -> Iterator[Started | Finished]:
    """Do all tasks of a queue and tell when each begins and ends.

    A task whose worker is lost is begun again as often as it allows. One that fails takes those
    with it that need it; the others go on. Whoever iterates may add tasks to the queue after any
    event. The workers are closed at the end, or when the iteration is left.
    """
    attempts: dict[str, int] = {}
    try:
        while True:
            while (task := queue.next_ready(workers.has_room)) is not None:
                attempts[task.key] = attempts.get(task.key, 0) + 1
                workers.submit(task)
                yield Started(task, attempts[task.key])
            if not workers.are_busy:
                return
            task, outcome = workers.wait()
            if isinstance(outcome, Lost):
                if attempts[task.key] < task.attempts:
                    queue.put_back(task)
                    continue
                outcome = Failure(outcome.reason)
            del attempts[task.key]
            if isinstance(outcome, Failure):
                blocked = list(queue.fail(task, outcome.reason))
                yield Finished(task, outcome)
                for other, reason in blocked:
                    yield Finished(other, Failure(reason))
            else:
                queue.succeed(task)
                yield Finished(task, outcome)
    finally:
        workers.close()
