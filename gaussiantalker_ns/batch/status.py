"""How far a batch is: counts of every stage, what is running, and what has failed."""

import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Group
from rich.table import Table
from rich.text import Text

from gaussiantalker_ns.batch.plan import STAGES
from gaussiantalker_ns.scheduler.tasks import BLOCKED

MOST_RUNNING = 12
"""Running tasks that are listed; more are counted."""

MOST_FAILURES = 5
"""Failures that are listed; the report has all."""

KINDS = (*STAGES[:-1], "part", "join", STAGES[-1])
"""Kinds of tasks in order; the parts of long videos stand behind `drive`."""


@dataclass
class Status:
    """Counts of a batch; whoever runs it writes, whoever shows it reads."""

    total: Counter[str] = field(default_factory=Counter)
    """Kind -> tasks that are known, without those finished before."""
    before: Counter[str] = field(default_factory=Counter)
    """Stage -> pieces of work that were finished before."""
    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    running: dict[str, tuple[str, int, float]] = field(default_factory=dict)
    """Name of a task -> its kind, its attempt, and when it began."""
    num_rows: int = 0
    bad_rows: int = 0
    rows_done: int = 0
    """Rows whose video is there."""
    last_failures: deque[tuple[str, str]] = field(
        default_factory=lambda: deque(maxlen=MOST_FAILURES)
    )
    """Names and reasons."""
    started: float = field(default_factory=time.monotonic)

    def begin(self, kind: str, name: str, attempt: int) -> None:
        """A task is begun."""
        self.running[name] = kind, attempt, time.monotonic()

    def end(self, kind: str, name: str, reason: str | None) -> None:
        """A task has ended, well if there is no reason."""
        self.running.pop(name, None)
        if reason is None:
            self.done[kind] += 1
        else:
            self.failed[kind] += 1
        # What cannot be done because of another failure would hide those that can be mended.
        if reason is not None and not reason.startswith(BLOCKED):
            self.last_failures.append((name, reason))


def clock(seconds: float) -> str:
    """Hours, minutes and seconds: 3725 gives 1:02:05."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def counts_table(status: Status) -> Table:
    """One line for each stage."""
    table = Table(title=Text(headline(status)), title_justify="left")
    for heading in ("stage", "done before", "done", "running", "waiting", "failed"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    running = Counter(kind for kind, _, _ in list(status.running.values()))
    for kind in KINDS:
        total, before = status.total[kind], status.before[kind]
        if not total and not before:
            continue
        done, failed = status.done[kind], status.failed[kind]
        waiting = max(total - done - failed - running[kind], 0)
        cells = (before, done, running[kind], waiting, failed)
        style = "red" if failed else None
        table.add_row(kind, *(str(count) if count else "-" for count in cells), style=style)
    return table


def headline(status: Status) -> str:
    """The rows in one line."""
    bad = f", {status.bad_rows} of them cannot be done" if status.bad_rows else ""
    elapsed = clock(time.monotonic() - status.started)
    return f"{status.num_rows} rows{bad}; {status.rows_done} videos are there; {elapsed}"


def details(status: Status) -> Iterator[Text]:
    """What is running, and what has failed last."""
    tasks = list(status.running.items())
    for name, (_, attempt, started) in tasks[:MOST_RUNNING]:
        again = f" (attempt {attempt})" if attempt > 1 else ""
        yield Text(f"  {clock(time.monotonic() - started)}  {name}{again}", "cyan")
    if len(tasks) > MOST_RUNNING:
        yield Text(f"  and {len(tasks) - MOST_RUNNING} more", "cyan")
    for name, reason in list(status.last_failures):
        yield Text(f"  {name}: {reason}", "red")


def status_view(status: Status) -> Group:
    """Everything, for a live display."""
    return Group(counts_table(status), *details(status))
