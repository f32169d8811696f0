"""`gaussiantalker batch`: many videos from a table, on this machine or on a cluster."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from gaussiantalker_ns.batch.job import BatchJob
    from gaussiantalker_ns.batch.table import BadRow

MOST_LINES = 20
"""Rows that a dry run shows one by one; it counts all."""


@dataclass
class Config:
    """Make a video for every row of a table: of a video or talker, and of what is to be said.

    Videos become data sets, are trained and packed once for all rows that share them; talkers are
    driven and measured. What is finished is not done again: the same command goes on after an
    interruption. A row that fails is shown with its reason, and the others go on.
    """

    table: tyro.conf.Positional[str]
    """CSV file with a header: a path, or a URL that fsspec opens. Columns: video or talker, audio
    or text; name, voice, consent; options such as process.size, train.steps, drive.pose."""
    output_dir: str
    """Folder or URL of the results: videos, talkers, report.html."""
    ray: str | None = None
    """Work with Ray (extra `ray`): `local` starts it here; `auto` or an address joins a running
    cluster, whose machines must see paths of the table and of OUTPUT_DIR under the same names."""
    num_workers: int = 0
    """Tasks side by side on this machine; 0 takes as many as cores and memory allow."""
    threads: int = 1
    """CPU threads of each task."""
    part_seconds: float = 60.0
    """Longer videos are rendered by several workers, so many seconds each; they have no seam."""
    evaluate: bool = True
    """Measure every talker on held-out frames, and every video."""
    require_consent: bool = False
    """Refuse rows without a statement of the person's consent (column `consent`, or the talker)."""
    check: bool = False
    """Look at everything that the rows name, tell what is wrong, and make nothing."""
    dry_run: bool = False
    """Show what would be done, and do nothing."""
    overwrite: bool = False
    """Replace videos whose row or files have changed since; without it such a row is refused."""

    def job(self) -> "BatchJob":
        """The work.

        Raises:
            ValueError: If the options do not make sense.
        """
        from gaussiantalker_ns.batch.job import BatchJob, BatchOptions

        options = BatchOptions(
            num_workers=self.num_workers,
            threads=self.threads,
            ray=self.ray,
            part_seconds=self.part_seconds,
            evaluate=self.evaluate,
            require_consent=self.require_consent,
            overwrite=self.overwrite,
        )
        return BatchJob(self.table, self.output_dir, options)


def run(config: Config) -> int:
    """Check, plan or do the work; the exit status tells whether every row is in order.

    Raises:
        FileNotFoundError: There is no table.
        InUseError: Another command works in the place of the results.
        ValueError: Something cannot be used; the message says what to do.
    """
    console = Console()
    job = config.job()
    if config.check:
        bad = job.check()
        tell_bad(console, bad)
        console.print("Nothing was made." if bad else "Every row can be done; nothing was made.")
        return 1 if bad else 0
    if config.dry_run:
        return dry_run(console, job)
    return work(console, job)


def dry_run(console: Console, job: "BatchJob") -> int:
    """Show what would be done."""
    from gaussiantalker_ns.batch.plan import STAGES
    from gaussiantalker_ns.batch.table import BadRow

    bad, num_rows, num_done = [], 0, 0
    names: dict[str, set[str]] = {stage: set() for stage in STAGES}
    for item in job.dry_run():
        num_rows += 1
        if isinstance(item, BadRow):
            bad.append(item)
            continue
        planned, missing = item
        num_done += not missing
        new = [work for work in missing if work.name not in names[work.stage]]
        for work in new:
            names[work.stage].add(work.name)
        if missing and num_rows <= MOST_LINES:
            shared = "" if len(new) == len(missing) else " (the rest is shared with rows above)"
            stages = ", ".join(work.stage for work in new)
            console.print(Text(f"{planned.row.name}: {stages}{shared}"), soft_wrap=True)
    tell_bad(console, bad)
    counts = ", ".join(f"{len(found)} {stage}" for stage, found in names.items() if found)
    console.print(Text(f"{num_rows} rows, {num_done} finished. To do: {counts or 'nothing'}."))
    return 1 if bad else 0


def work(console: Console, job: "BatchJob") -> int:
    """Do the work behind a live table."""
    from rich.live import Live

    from gaussiantalker_ns.batch.report import NAME
    from gaussiantalker_ns.batch.status import Status, status_view

    status = Status()
    with Live(get_renderable=lambda: status_view(status), console=console, refresh_per_second=2):
        bad = job.run(status)
    tell_bad(console, bad)
    console.print(Text(f"Report: {job.store.address}/{NAME}"), soft_wrap=True)
    if bad:
        console.print("Start the command again to repeat what has failed.", style="yellow")
    return 1 if bad else 0


def tell_bad(console: Console, bad: "list[BadRow]") -> None:
    """Tell which rows cannot be done, or have failed."""
    for row in bad[:MOST_LINES]:
        text = Text(f"line {row.number}, {row.name}: {row.reason}", "red")
        console.print(text, soft_wrap=True)
    if len(bad) > MOST_LINES:
        console.print(f"and {len(bad) - MOST_LINES} more rows", style="red")
