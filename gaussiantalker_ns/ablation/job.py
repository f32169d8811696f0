"""One `ablate`: trains the runs that are missing and writes tables and figures after each."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gaussiantalker_ns.ablation import figures, report, runner
from gaussiantalker_ns.ablation.runner import LOG_NAME, Outcome
from gaussiantalker_ns.ablation.study import Run, Study, plan
from gaussiantalker_ns.files import write_text
from gaussiantalker_ns.folder_lock import OwnerLock
from gaussiantalker_ns.losses.perceptual import load_lpips
from gaussiantalker_ns.scheduler.processes import Processes
from gaussiantalker_ns.scheduler.ray_cluster import RayWorkers
from gaussiantalker_ns.scheduler.run import ThisProcess, Workers
from gaussiantalker_ns.scheduler.tasks import Failure


@dataclass(frozen=True)
class StudyReport:
    """What a study has come to."""

    markdown: str
    """The tables."""
    paths: list[Path]
    """The files that were written."""
    failures: str
    """What to say about the runs that failed; empty if none did."""


@dataclass
class AblateJob:
    """The runs of a study that some tables need.

    Raises:
        ValueError: A number is below 1.
    """

    study: Study
    """What all runs have in common."""
    tables: Sequence[str]
    """Keys of `tables.TABLES`."""
    rows: Sequence[str] = ()
    """Names of the rows to train; none means all rows of the tables."""
    num_seeds: int = 3
    """Runs of each row, >= 1."""
    num_workers: int = 1
    """Runs side by side, >= 1."""
    ray: str | None = None
    """Address of Ray, if it trains the runs."""
    overwrite: bool = False
    """Whether the rows are trained again where they are finished."""
    outcomes: dict[tuple[str, int], Outcome] = field(default_factory=dict)
    """Name and seed of a run -> what came of it, as far as is known."""

    def __post_init__(self) -> None:
        for option, value in (("--seeds", self.num_seeds), ("--num-workers", self.num_workers)):
            if value < 1:
                raise ValueError(f"{option} is {value}; expected at least 1. Correct the option.")

    def run(self, told: Callable[[str], None]) -> StudyReport:
        """Train what is missing, as the owner of the study's folder.

        Args:
            told: Called with a line before the first and after every run.

        Raises:
            FileNotFoundError: Weights that the runs need cannot be had.
            InUseError: Another command works in the folder.
            ValueError: A name is no row, or the folder holds runs of another study.
        """
        with OwnerLock.of_folder(self.study.output_dir):
            self.train_missing(told)
            return self.write_report()

    def train_missing(self, told: Callable[[str], None]) -> None:
        """Find the results that the tables can show, and train what is not finished."""
        threads = 1 if self.num_workers > 1 or self.ray is not None else None
        every = plan(self.study, self.tables, (), self.num_seeds, threads)
        wanted = plan(self.study, self.tables, self.rows, self.num_seeds, threads)
        again = {(run.name, run.seed) for run in wanted} if self.overwrite else set()
        for run in every:
            result = None if (run.name, run.seed) in again else runner.read_result(run)
            if result is not None:
                self.outcomes[run.name, run.seed] = result
        missing = [run for run in wanted if (run.name, run.seed) not in self.outcomes]
        names = ", ".join(f"{run.name} ({run.seed})" for run in missing)
        done = f"{len(wanted)} runs, {len(wanted) - len(missing)} of them finished already"
        told(f"{done}. To train: {names or 'none'}")
        if missing and self.ray is None:
            fetch_weights(missing[0])
        start = time.perf_counter()
        for number, (run, outcome) in enumerate(self.perform(missing), start=1):
            self.outcomes[run.name, run.seed] = outcome
            state = f"failed: {outcome.reason}" if isinstance(outcome, Failure) else "finished"
            minutes = (time.perf_counter() - start) / 60
            message = f"{number} of {len(missing)}, {minutes:.1f} min: {run.name}, seed {run.seed}"
            told(f"{message}, {state}")
            self.write_report()

    def perform(self, runs: Sequence[Run]) -> Iterator[tuple[Run, Outcome]]:
        """Train runs in this process, in several, or with Ray."""
        if not runs:
            return iter(())
        return runner.perform_all(runs, self.workers())

    def workers(self) -> Workers:
        """Who trains the runs.

        Raises:
            ValueError: Ray is wanted, and is not installed or does not start.
        """
        if self.ray is not None:
            return RayWorkers(self.num_workers, self.ray)
        return Processes(self.num_workers) if self.num_workers > 1 else ThisProcess()

    def write_report(self) -> StudyReport:
        """Write tables and figures of what is known."""
        study, tables, outcomes = self.study, self.tables, self.outcomes
        text = report.markdown(study, tables, outcomes)
        folder = study.output_dir
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"ablation.{ending}" for ending in ("md", "json", "csv", "png")]
        write_text(paths[0], text)
        write_text(paths[1], report.json_text(study, tables, outcomes))
        write_text(paths[2], report.csv_text(study, tables, outcomes))
        figures.save(figures.row_figure(study, tables, outcomes), paths[3])
        if "6" in tables:
            paths.append(folder / "stages.png")
            figures.save(figures.stage_figure(study, outcomes), paths[-1])
        return StudyReport(text, paths, self.failures())

    def failures(self) -> str:
        """Which runs failed, and what to do; empty if none did."""
        failed = [key for key, outcome in self.outcomes.items() if isinstance(outcome, Failure)]
        if not failed:
            return ""
        names = ", ".join(f"{name} (seed {seed})" for name, seed in failed)
        return (
            f"{len(failed)} of {len(self.outcomes)} runs failed: {names}. Each has a {LOG_NAME} in"
            f" its folder under {self.study.output_dir / 'runs'}; start the command again to repeat"
            " them."
        )


def fetch_weights(run: Run) -> None:
    """Fetch what the perceptual term of a run, and so of all, needs; once, and before the first.

    Raises:
        FileNotFoundError: It cannot be had.
    """
    objective = getattr(run.config.pipeline, "model").objective  # noqa: B009
    network = objective.perceptual_loss.network
    if objective.perceptual <= 0 or network == "ms-ssim":
        return
    try:
        load_lpips(network)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}, or add --perceptual-network ms-ssim.") from error
