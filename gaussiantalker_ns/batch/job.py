"""One `batch`: plans the rows of a table, has the scheduler do what is missing, and reports."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from gaussiantalker_ns.batch.check import check_rows
from gaussiantalker_ns.batch.inputs import base_of, fetched, find_input, forget_listings
from gaussiantalker_ns.batch.perform import STAGE_FUNCTIONS, Order, StageFunction, perform
from gaussiantalker_ns.batch.plan import (
    RECORDS,
    DriveWork,
    MeasureWork,
    Planned,
    Planner,
    Work,
)
from gaussiantalker_ns.batch.report import write_report
from gaussiantalker_ns.batch.stages import Settings, Split
from gaussiantalker_ns.batch.status import Status
from gaussiantalker_ns.batch.store import Store, open_store
from gaussiantalker_ns.batch.table import BadRow, read_rows
from gaussiantalker_ns.scheduler.processes import Processes
from gaussiantalker_ns.scheduler.ray_cluster import RayWorkers
from gaussiantalker_ns.scheduler.run import Workers, run_tasks
from gaussiantalker_ns.scheduler.tasks import Failure, Finished, Started, Task, TaskQueue

ATTEMPTS = 3
"""How often a task is begun if machines or processes are lost meanwhile."""

ON_GPU = ("train", "evaluate", "drive", "part", "join")
"""Kinds of tasks that take a GPU where there is one."""

ISOLATED = ("process", "train", "evaluate")
"""Kinds of tasks that leave much behind in their process, which ends with them."""

WORKER_BYTES = 2 * 2**30
"""Memory that a worker may take; a training of the CPU's preset takes 1.6 GiB."""

PART_STEP_S = 20
"""Parts of long videos are multiples of so many seconds, the length of a segment."""


@dataclass(frozen=True)
class BatchOptions:
    """How the work is done; what is made does not depend on it."""

    num_workers: int = 0
    """Tasks side by side on this machine; 0 takes as many as cores and memory allow."""
    threads: int = 1
    """CPU threads of each task."""
    ray: str | None = None
    """Address of Ray, if it does the work."""
    part_seconds: float = 60.0
    """Longer videos are rendered by several workers, so many seconds each."""
    evaluate: bool = True
    """Whether talkers and videos are measured."""
    require_consent: bool = False
    """Whether nobody is filmed or animated without a statement of consent."""
    overwrite: bool = False
    """Whether videos are replaced whose files or options have changed."""

    def __post_init__(self) -> None:
        limits = ("--num-workers", self.num_workers, 0), ("--threads", self.threads, 1)
        for option, value, least in limits:
            if value < least:
                raise ValueError(f"{option} is {value}; expected at least {least}.")
        if not self.part_seconds >= PART_STEP_S:
            raise ValueError(
                f"--part-seconds is {self.part_seconds}; expected at least {PART_STEP_S}, the"
                " length of the segments that a video is made of."
            )

    def settings(self) -> Settings:
        """What the workers are told."""
        from gaussiantalker_ns.inference.drive_job import SEGMENT_FRAMES

        num_segments = max(int(self.part_seconds / PART_STEP_S), 1)
        return Settings(self.threads, num_segments * SEGMENT_FRAMES, self.require_consent)

    def workers(self) -> Workers:
        """Who does the work.

        Raises:
            ValueError: Ray is wanted, and is not installed or does not start.
        """
        variables = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        environment = {name: str(self.threads) for name in variables}
        environment["OMP_WAIT_POLICY"] = "passive"
        num_workers = self.num_workers or default_workers(self.threads)
        if self.ray is not None:
            return RayWorkers(num_workers * self.threads, self.ray, environment)
        import torch

        return Processes(num_workers, torch.cuda.device_count(), environment)


def default_workers(threads: int) -> int:
    """As many tasks as this machine's cores and free memory allow."""
    by_cores = (os.cpu_count() or 1) // threads
    by_memory = psutil.virtual_memory().available // WORKER_BYTES
    return max(min(by_cores, int(by_memory)), 1)


@dataclass
class BatchJob:
    """The rows of a table, and the place of their results."""

    table: str
    """Path or URL of the CSV file."""
    output_dir: str
    """Path or URL of the results."""
    options: BatchOptions = field(default_factory=BatchOptions)
    functions: Mapping[str, StageFunction] = field(default_factory=lambda: STAGE_FUNCTIONS)
    """Kind of task -> what does it."""
    failures: dict[str, str] = field(default_factory=dict)
    """Name of a piece of work -> why it has failed in this run."""

    def __post_init__(self) -> None:
        self.store: Store = open_store(self.output_dir)
        self._measures: dict[str, MeasureWork] = {}
        self._older: dict[str, list[str]] = {}
        self._temporary = tempfile.TemporaryDirectory(prefix="gaussiantalker-batch-")

    def planner(self) -> Planner:
        """A planner that knows what is finished by now."""
        options = self.options
        return Planner(
            base_of(self.table),
            self.store.names(RECORDS),
            options.evaluate,
            options.require_consent,
            options.overwrite,
        )

    def plan(self, planner: Planner) -> Iterator[Planned | BadRow]:
        """Plan the rows one by one.

        Raises:
            FileNotFoundError: There is no table.
            ValueError: It has no header, or columns that are not known.
        """
        forget_listings()
        source = find_input("The table", self.table)
        return planner.plan(read_rows(fetched(source, Path(self._temporary.name))))

    def dry_run(self) -> Iterator[tuple[Planned, list[Work]] | BadRow]:
        """What would be done for every row; nothing is changed.

        Raises:
            FileNotFoundError: There is no table.
            ValueError: It has no header, or columns that are not known.
        """
        planner = self.planner()
        for planned in self.plan(planner):
            yield planned if isinstance(planned, BadRow) else (planned, planner.missing(planned))

    def run(self, status: Status, workers: Workers | None = None) -> list[BadRow]:
        """Do what is missing, as the owner of the results' place, and write the report.

        Args:
            status: Is kept up to date meanwhile.
            workers: Who does it; by default as the options say.

        Returns:
            The rows that have no video, with the reasons.

        Raises:
            FileNotFoundError: There is no table.
            InUseError: Another command works there.
            ValueError: The table has no header, or Ray does not start.
        """
        with self.store.lock():
            queue = self.queue_of_missing(status)
            if len(queue):
                self.do(queue, status, workers or self.options.workers())
            return self.report()

    def queue_of_missing(self, status: Status) -> TaskQueue:
        """The tasks that are to be done, each once."""
        planner, queue, settings = self.planner(), TaskQueue(), self.options.settings()
        seen: set[str] = set()
        for planned in self.plan(planner):
            status.num_rows += 1
            if isinstance(planned, BadRow):
                status.bad_rows += 1
                continue
            missing = {work.name for work in planner.missing(planned)}
            status.rows_done += planner.is_finished(planned.drive)
            if older := planner.older_records(planned.drive):
                self._older[planned.drive.name] = older
            for work in planned.works:
                if work.name in seen or not (work.name in missing or planner.is_finished(work)):
                    continue
                seen.add(work.name)
                if work.name not in missing:
                    status.before[work.stage] += 1
                elif isinstance(work, MeasureWork) and planned.drive.name in missing:
                    # A long video is finished by others than by whom it was begun.
                    self._measures[planned.drive.name] = work
                    status.total[work.stage] += 1
                else:
                    needs = tuple(name for name in planned.needs[work.name] if name in queue)
                    self._add(queue, status, self._order(work, settings, work.stage), needs)
        return queue

    def _order(
        self, work: Work, settings: Settings, kind: str, arguments: tuple[int, ...] = ()
    ) -> Order:
        return Order(work, self.store, settings, kind, arguments, self.functions)

    def _add(
        self,
        queue: TaskQueue,
        status: Status,
        order: Order,
        needs: tuple[str, ...] = (),
        first: bool = False,
        counted: bool = False,
    ) -> None:
        """Add a task to the queue and to the counts."""
        task = Task(
            order.name,
            perform,
            (order,),
            needs,
            num_cpus=order.settings.threads,
            on_gpu=order.kind in ON_GPU,
            attempts=ATTEMPTS,
            isolated=order.kind in ISOLATED,
        )
        queue.add(task, first)
        if not counted:
            status.total[order.kind] += 1

    def do(self, queue: TaskQueue, status: Status, workers: Workers) -> None:
        """Have tasks done, and add those that come up meanwhile."""
        for event in run_tasks(queue, workers):
            (order,) = event.task.arguments
            if isinstance(event, Started):
                status.begin(order.kind, order.name, event.attempt)
                continue
            assert isinstance(event, Finished), "there are two events"
            outcome = event.outcome
            failed = isinstance(outcome, Failure)
            status.end(order.kind, order.name, outcome.reason if failed else None)
            if failed:
                self.failures.setdefault(order.work.name, outcome.reason)
                measure = self._measures.pop(order.work.name, None)
                if measure is not None:
                    status.failed[measure.stage] += 1
            elif isinstance(outcome, Split):
                self._share_out(queue, status, order, outcome.num_frames)
            elif isinstance(order.work, DriveWork) and order.leaves_record:
                status.rows_done += 1
                for record in self._older.pop(order.work.name, ()):
                    self.store.remove(f"{RECORDS}/{record}")
                measure = self._measures.pop(order.work.name, None)
                if measure is not None:
                    measuring = self._order(measure, order.settings, measure.stage)
                    self._add(queue, status, measuring, first=True, counted=True)

    def _share_out(self, queue: TaskQueue, status: Status, order: Order, num_frames: int) -> None:
        """Add the parts of a long video, and the task that joins them."""
        step, work, settings = order.settings.part_frames, order.work, order.settings
        parts = []
        for first in range(0, num_frames, step):
            frames = first, min(first + step, num_frames)
            parts.append(self._order(work, settings, "part", frames))
        # The last one that is put first is begun first.
        for part in reversed(parts):
            self._add(queue, status, part, first=True)
        join = self._order(work, settings, "join", (num_frames,))
        self._add(queue, status, join, tuple(part.name for part in parts))

    def check(self, workers: Workers | None = None) -> list[BadRow]:
        """Look at every file that the rows name; nothing is changed.

        Returns:
            The rows that cannot be done, in the table's order, with the reasons.

        Raises:
            FileNotFoundError: There is no table.
            ValueError: The table has no header, or Ray does not start.
        """
        make = self.options.workers if workers is None else lambda: workers
        return check_rows(self.plan(self.planner()), make, self.options.require_consent)

    def report(self) -> list[BadRow]:
        """Write `report.html`; returns the rows without video."""
        return write_report(self.store, self.plan(self.planner()), self.failures, self.table)
