"""Tasks and the order in which they can be done."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Task:
    """A call that a worker makes."""

    key: str
    """Its name, which no other task has."""
    function: Callable[..., Any] = field(repr=False)
    """A function of a module, which other processes can import; it returns what can be pickled."""
    arguments: tuple[Any, ...] = field(default=(), repr=False)
    """What it is called with."""
    needs: tuple[str, ...] = ()
    """Keys of the tasks that have to succeed before."""
    num_cpus: int = 1
    """Cores that it takes on a cluster."""
    on_gpu: bool = False
    """Whether it takes a GPU for itself, where there is one."""
    attempts: int = 1
    """How often it is begun if workers are lost meanwhile, >= 1; what it raises is final."""
    isolated: bool = False
    """Whether its process ends with it, so that the next task finds a fresh one."""


@dataclass(frozen=True)
class Failure:
    """Why a task has no result."""

    reason: str
    """One line for a table."""


BLOCKED = "needs "
"""What the reason of a task begins with that was never begun, as another one has failed."""


@dataclass(frozen=True)
class Lost:
    """The worker of a task is gone: killed, or its machine is."""

    reason: str


@dataclass(frozen=True)
class Started:
    """A worker was given a task."""

    task: Task
    attempt: int
    """1, or more if workers were lost."""


@dataclass(frozen=True)
class Finished:
    """A task has come to an end."""

    task: Task
    outcome: Any
    """What its function returned, or a `Failure`."""


def one_line(error: BaseException) -> str:
    """The kind and the first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def performed(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """What a function returns; an error that it raises becomes a `Failure`."""
    try:
        return function(*arguments)
    # The other tasks go on, whatever broke this one.
    except Exception as error:
        return Failure(one_line(error))


class TaskQueue:
    """Tasks that wait, by what they wait for; tasks may be added while others are done.

    Tasks that become ready because of another one come before those that were ready from the start:
    what is begun is brought to its end.
    """

    def __init__(self) -> None:
        # Those that take a GPU come first, as fewer workers may do them.
        self._ready: dict[bool, deque[Task]] = {True: deque(), False: deque()}
        self._waiting: dict[str, tuple[Task, set[str]]] = {}
        self._needed_by: dict[str, list[str]] = {}
        self._outcomes: dict[str, str | None] = {}

    def __contains__(self, key: object) -> bool:
        return key in self._outcomes or key in self._needed_by

    def __len__(self) -> int:
        """Tasks that are not at their end."""
        return len(self._needed_by)

    def add(self, task: Task, first: bool = False) -> None:
        """Add a task; those that it needs were added before.

        Args:
            task: The task.
            first: Whether it comes before all that are ready, as it continues what is begun.
        """
        assert task.key not in self, f"{task.key} was added before"
        unknown = [key for key in task.needs if key not in self]
        assert not unknown, f"{task.key} needs {unknown}, which nobody does"
        self._needed_by[task.key] = []
        missing = {key for key in task.needs if self._outcomes.get(key, "") is not None}
        for key in missing:
            self._needed_by[key].append(task.key)
        if missing:
            self._waiting[task.key] = task, missing
        elif first:
            self._ready[task.on_gpu].appendleft(task)
        else:
            self._ready[task.on_gpu].append(task)

    def next_ready(self, has_room: Callable[[Task], bool]) -> Task | None:
        """Take a task that can be done now; None if there is none, or no room for any.

        Args:
            has_room: Whether a worker is free for a task.
        """
        for tasks in self._ready.values():
            if tasks and has_room(tasks[0]):
                return tasks.popleft()
        return None

    def put_back(self, task: Task) -> None:
        """Make a task ready again whose worker was lost."""
        self._ready[task.on_gpu].appendleft(task)

    def succeed(self, task: Task) -> None:
        """Tell that a task has succeeded."""
        self._outcomes[task.key] = None
        # The last one that is put first is begun first.
        for key in reversed(self._needed_by.pop(task.key)):
            if key not in self._waiting:
                continue
            waiting, missing = self._waiting[key]
            missing.discard(task.key)
            if not missing:
                del self._waiting[key]
                self._ready[waiting.on_gpu].appendleft(waiting)

    def fail(self, task: Task, reason: str) -> Iterator[tuple[Task, str]]:
        """Tell that a task has failed; yields those that cannot be done therefore, with reasons."""
        self._outcomes[task.key] = reason
        for key in self._needed_by.pop(task.key):
            if key in self._waiting:
                blocked, _ = self._waiting.pop(key)
                because = reason if reason.startswith(BLOCKED) else f"{BLOCKED}{task.key}: {reason}"
                yield blocked, because
                yield from self.fail(blocked, because)
