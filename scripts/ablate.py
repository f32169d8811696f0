"""`gaussiantalker ablate`: train and compare the rows of the paper's ablation tables."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.text import Text

from gaussiantalker_ns.files import write_text
from gaussiantalker_ns.folder_lock import OwnerLock

if TYPE_CHECKING:
    from gaussiantalker_ns.ablation.runner import Outcome
    from gaussiantalker_ns.ablation.study import Run, Study

TableName = Literal["3", "4", "5", "6", "fusion"]


@dataclass
class Config:
    """Train the rows of the paper's Tables 3 to 6 with fixed seeds and print them in its form.

    Every run keeps its own folder under OUTPUT_DIR/runs and a result.json when it is finished; the
    same command started again trains only what is missing. The run without changes is trained once
    for all tables.
    """

    data: Path
    """The data set's folder."""
    table: tuple[TableName, ...]
    """Tables to fill: attributes on the tri-plane (3), deformed attributes (4), conditions (5),
    stages (6), and attention against concatenation and multiplication (fusion)."""
    rows: tuple[str, ...] = ()
    """Train only these rows, such as `without-viewpoint`; `reference` is the run without changes.
    The tables show whatever is finished."""
    seeds: int = 3
    """Runs of each row, >= 1, with seeds 42, 43, ..."""
    preset: Literal["cpu", "paper", "lite"] = "cpu"
    """Method whose parts are changed: gaussiantalker-cpu, gaussiantalker or gaussiantalker-lite."""
    canonical_steps: int | None = None
    """Steps of the canonical stage; by default the preset's."""
    num_steps: int | None = None
    """Steps of both stages together; by default the preset's."""
    perceptual_network: Literal["alex", "vgg", "ms-ssim"] | None = None
    """What the perceptual term compares with, by default the preset's: LPIPS in `paper` and `lite`,
    none in `cpu`. `ms-ssim` needs no weights."""
    num_workers: int = 1
    """Runs side by side, in processes with one CPU thread each."""
    ray: str | None = None
    """Train with Ray (extra `ray`): `local` starts it here with NUM_WORKERS workers; `auto` or an
    address joins a running cluster, whose machines must see the data set and the output folder
    under the same paths."""
    output_dir: Path = Path("ablation")
    """Where runs, tables and figures go."""
    overwrite: bool = False
    """Train again what is finished already."""

    def study(self) -> "Study":
        """What all runs have in common.

        Raises:
            ValueError: If the options do not make sense.
            FileNotFoundError: If there is no data set.
        """
        from gaussiantalker_ns.ablation.study import PRESETS, Study
        from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
        from gaussiantalker_ns.inference.provenance import dataset_sha256

        preset = PRESETS[self.preset]
        canonical_steps = getattr(preset.pipeline, "canonical_steps")  # noqa: B009
        if self.canonical_steps is not None:
            canonical_steps = self.canonical_steps
        num_steps = preset.max_num_iterations if self.num_steps is None else self.num_steps
        for option, value in (("--seeds", self.seeds), ("--num-workers", self.num_workers)):
            if value < 1:
                raise ValueError(f"{option} is {value}; expected at least 1. Correct the option.")
        if not 0 <= canonical_steps < num_steps:
            raise ValueError(
                f"The canonical stage has {canonical_steps} of {num_steps} steps; expected at least"
                " 0 and fewer than all. Change --canonical-steps or --num-steps (both stages)."
            )
        layout = DatasetLayout(self.data)
        transforms = layout.transforms("train")
        if not transforms.is_file():
            raise FileNotFoundError(
                f"There is no {transforms}; expected a data set made by `gaussiantalker process`."
                " Correct --data."
            )
        return Study(
            data=self.data.resolve(),
            output_dir=self.output_dir.resolve(),
            preset=self.preset,
            canonical_steps=canonical_steps,
            num_steps=num_steps,
            data_sha256=dataset_sha256(layout),
            perceptual_network=self.perceptual_network,
        )


def outcomes_of(config: Config, runs: "list[Run]") -> "Iterator[tuple[Run, Outcome]]":
    """Train runs in this process, in several, or with Ray."""
    from gaussiantalker_ns.ablation import runner

    if config.ray is not None and runs:
        return runner.perform_with_ray(runs, config.num_workers, config.ray)
    if config.num_workers > 1:
        return runner.perform_in_processes(runs, config.num_workers)
    return runner.perform_here(runs)


def fetch_weights(run: "Run") -> None:
    """Fetch what the perceptual term of a run, and so of all, needs; once, and before the first.

    Raises:
        FileNotFoundError: It cannot be had.
    """
    from gaussiantalker_ns.losses.perceptual import load_lpips

    objective = getattr(run.config.pipeline, "model").objective  # noqa: B009
    network = objective.perceptual_loss.network
    if objective.perceptual <= 0 or network == "ms-ssim":
        return
    try:
        load_lpips(network)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}, or add --perceptual-network ms-ssim.") from error


def write_report(
    config: Config, study: "Study", outcomes: "dict[tuple[str, int], Outcome]"
) -> tuple[str, list[Path]]:
    """Write tables and figures; return the tables and all paths."""
    from gaussiantalker_ns.ablation import figures, report

    text = report.markdown(study, config.table, outcomes)
    folder = study.output_dir
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"ablation.{ending}" for ending in ("md", "json", "csv", "png")]
    write_text(paths[0], text)
    write_text(paths[1], report.json_text(study, config.table, outcomes))
    write_text(paths[2], report.csv_text(study, config.table, outcomes))
    figures.save(figures.row_figure(study, config.table, outcomes), paths[3])
    if "6" in config.table:
        paths.append(folder / "stages.png")
        figures.save(figures.stage_figure(study, outcomes), paths[-1])
    return text, paths


def train_missing(config: Config, study: "Study") -> "dict[tuple[str, int], Outcome]":
    """Train what is not finished and return every outcome that the tables can show."""
    from nerfstudio.utils.rich_utils import CONSOLE

    from gaussiantalker_ns.ablation.runner import Failure, read_result
    from gaussiantalker_ns.ablation.study import plan

    side_by_side = config.num_workers > 1 or config.ray is not None
    threads = 1 if side_by_side else None
    every = plan(study, config.table, (), config.seeds, threads)
    wanted = plan(study, config.table, config.rows, config.seeds, threads)
    outcomes: dict[tuple[str, int], Outcome] = {}
    again = {(run.name, run.seed) for run in wanted} if config.overwrite else set()
    for run in every:
        result = None if (run.name, run.seed) in again else read_result(run)
        if result is not None:
            outcomes[run.name, run.seed] = result
    missing = [run for run in wanted if (run.name, run.seed) not in outcomes]
    names = ", ".join(f"{run.name} ({run.seed})" for run in missing)
    done = f"{len(wanted)} runs, {len(wanted) - len(missing)} of them finished already"
    CONSOLE.print(Text(f"{done}. To train: {names or 'none'}"))
    if missing and config.ray is None:
        fetch_weights(missing[0])
    start = time.perf_counter()
    for number, (run, outcome) in enumerate(outcomes_of(config, missing), start=1):
        outcomes[run.name, run.seed] = outcome
        state = f"failed: {outcome.reason}" if isinstance(outcome, Failure) else "finished"
        minutes = (time.perf_counter() - start) / 60
        message = f"{number} of {len(missing)}, {minutes:.1f} min: {run.name}, seed {run.seed}"
        CONSOLE.print(Text(f"{message}, {state}"))
        write_report(config, study, outcomes)
    return outcomes


def run(config: Config) -> int:
    """Train what is missing, print the tables, and tell whether every run is there."""
    from nerfstudio.utils.rich_utils import CONSOLE

    from gaussiantalker_ns.ablation.runner import LOG_NAME, Failure

    study = config.study()
    with OwnerLock.of_folder(study.output_dir):
        outcomes = train_missing(config, study)
        text, paths = write_report(config, study, outcomes)
    CONSOLE.print(Text(text), soft_wrap=True)
    for path in paths:
        CONSOLE.print(Text(f"Wrote {path}"), soft_wrap=True)
    failed = [key for key, outcome in outcomes.items() if isinstance(outcome, Failure)]
    if failed:
        names = ", ".join(f"{name} (seed {seed})" for name, seed in failed)
        message = (
            f"{len(failed)} of {len(outcomes)} runs failed: {names}. Each has a {LOG_NAME} in its"
            f" folder under {study.output_dir / 'runs'}; start the command again to repeat them."
        )
        CONSOLE.print(Text(message, "bold red"))
    return 1 if failed else 0
