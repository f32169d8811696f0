"""The plan of the study: the runs that the wanted tables need, and the trainer's configuration
of each."""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nerfstudio.engine.trainer import TrainerConfig

from gaussiantalker_ns.ablation.tables import TABLES, Row
from gaussiantalker_ns.config import gaussiantalker, gaussiantalker_cpu, gaussiantalker_lite
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.inference.provenance import dataset_sha256

PRESETS: dict[str, TrainerConfig] = {
    "cpu": gaussiantalker_cpu.config,
    "paper": gaussiantalker.config,
    "lite": gaussiantalker_lite.config,
}
"""Name on the command line -> method whose parts the rows change."""

FIRST_SEED = 42
"""Nerfstudio's default, so that the reference of the first seed is what `ns-train` trains."""

CURVE_FRACTIONS = (0.1, 0.2, 0.5, 1.0)
"""When a learning curve is measured, in parts of the deformation stage; the paper's Table 6 has
500, 1000 and 5000 iterations, that is .1, .2 and 1 of its length."""

REFERENCE = "reference"
"""Name of the run in which nothing is changed; the rows of several tables share it."""


@dataclass(frozen=True)
class Study:
    """What all runs have in common."""

    data: Path
    """Folder of the data set, absolute."""
    output_dir: Path
    """Folder of all results, absolute."""
    preset: str
    """Key of `PRESETS`."""
    canonical_steps: int
    """Steps of the canonical stage, >= 0."""
    num_steps: int
    """Steps of both stages together; variants without a canonical stage take as many."""
    data_sha256: str
    """What the data set is (`inference.provenance.dataset_sha256`); its path may stay the same."""
    perceptual_network: str | None = None
    """What the perceptual term compares with; None takes the preset's."""

    def base_config(self) -> TrainerConfig:
        """The preset with the study's data, steps and folder, before any row changes it."""
        config: Any = copy.deepcopy(PRESETS[self.preset])
        config.data = config.pipeline.datamanager.data = self.data
        config.output_dir = self.output_dir / "runs"
        config.pipeline.canonical_steps = self.canonical_steps
        config.max_num_iterations = self.num_steps
        if self.perceptual_network is not None:
            config.pipeline.model.objective.perceptual_loss.network = self.perceptual_network
        # One checkpoint at the end; frames are measured by a callback, so the trainer need not.
        config.steps_per_save = self.num_steps
        config.steps_per_eval_batch = config.steps_per_eval_image = self.num_steps + 1
        config.steps_per_eval_all_images = self.num_steps + 1
        # Tensorboard keeps the losses; a viewer would wait for a visitor at the end.
        config.vis = "tensorboard"
        config.logging.local_writer.enable = False
        return config


def make_study(
    data: Path,
    output_dir: Path,
    preset: str,
    canonical_steps: int | None = None,
    num_steps: int | None = None,
    perceptual_network: str | None = None,
) -> Study:
    """Study of a data set; the steps that are not given are the preset's.

    Raises:
        ValueError: The canonical stage leaves no steps for the other one.
        FileNotFoundError: There is no data set.
    """
    config: Any = PRESETS[preset]
    if canonical_steps is None:
        canonical_steps = int(config.pipeline.canonical_steps)
    if num_steps is None:
        num_steps = int(config.max_num_iterations)
    if not 0 <= canonical_steps < num_steps:
        raise ValueError(
            f"The canonical stage has {canonical_steps} of {num_steps} steps; expected at least 0"
            " and fewer than all. Change --canonical-steps or --num-steps (both stages)."
        )
    layout = DatasetLayout(data)
    transforms = layout.transforms("train")
    if not transforms.is_file():
        raise FileNotFoundError(
            f"There is no {transforms}; expected a data set made by `gaussiantalker process`."
            " Correct --data."
        )
    return Study(
        data=data.resolve(),
        output_dir=output_dir.resolve(),
        preset=preset,
        canonical_steps=canonical_steps,
        num_steps=num_steps,
        data_sha256=dataset_sha256(layout),
        perceptual_network=perceptual_network,
    )


@dataclass(frozen=True)
class Run:
    """One training: a variant and a seed."""

    name: str
    """Name of the row, or `REFERENCE`."""
    seed: int
    """Seed of the initial points, the network and the order of the frames."""
    config: TrainerConfig
    """Complete configuration of the trainer."""
    identity: dict[str, Any]
    """What makes the result what it is, in terms of JSON; a finished run is reused if it agrees."""

    @property
    def folder(self) -> Path:
        """The run's folder, with config.yml and checkpoint, as `ns-train` leaves it."""
        return self.config.get_base_dir()

    @property
    def result_path(self) -> Path:
        """The values; this file exists if and only if the run is finished."""
        return self.folder / "result.json"

    @property
    def measured_at(self) -> tuple[int, ...]:
        """Numbers of steps after which the held-out frames are measured; the last is the end."""
        return tuple(self.identity["measured_at"])


def read_setting(config: Any, path: str) -> Any:
    """The value at a path such as `pipeline.model.head.fusion`, through fields and dictionaries."""
    for name in path.split("."):
        config = config[name] if isinstance(config, dict) else getattr(config, name)
    return config


def write_setting(config: Any, path: str, value: Any) -> None:
    """Change the value at a path, which must exist."""
    parent, _, name = path.rpartition(".")
    owner = read_setting(config, parent)
    assert hasattr(owner, name), f"{type(owner).__name__} has no field {name}"
    setattr(owner, name, value)


def changed_settings(row: Row, base: TrainerConfig) -> dict[str, Any]:
    """The row's settings that differ from the preset's own; empty for the reference."""
    return {
        path: value for path, value in row.settings.items() if read_setting(base, path) != value
    }


def run_name(row: Row, base: TrainerConfig) -> str:
    """Name of the run behind a row under a preset."""
    return row.name if changed_settings(row, base) else REFERENCE


def measured_steps(study: Study, config: Any, with_curve: bool) -> list[int]:
    """Steps after which a run is measured.

    A curve has the same numbers of deformation steps for all variants, and, for those without
    canonical stage, also the same numbers of steps altogether.
    """
    if not with_curve:
        return [study.num_steps]
    length = study.num_steps - study.canonical_steps
    marks = {max(round(fraction * length), 1) for fraction in CURVE_FRACTIONS}
    starts = {study.canonical_steps, config.pipeline.canonical_steps}
    steps = {start + mark for start in starts for mark in marks} | {study.canonical_steps}
    return sorted(steps - {0})


def plan_run(study: Study, row: Row, seed: int, threads: int | None) -> Run:
    """Configure one run.

    Args:
        study: What all runs share.
        row: The variant.
        seed: Seed of everything random in it.
        threads: CPU threads; None takes all cores.
    """
    config: Any = study.base_config()
    settings = changed_settings(row, config)
    config.experiment_name = run_name(row, config)
    config.timestamp = f"seed-{seed}"
    config.machine.seed = config.pipeline.datamanager.train_cameras_sampling_seed = seed
    # Points have a seed of their own, which is 0 in `ns-train`.
    config.pipeline.datamanager.dataparser.seed = seed - FIRST_SEED
    config.pipeline.num_threads = threads
    for path, value in settings.items():
        write_setting(config, path, value)
    with_curve = row.curve is not None or not settings
    identity = {
        "run": config.experiment_name,
        "seed": seed,
        "preset": study.preset,
        "data": str(study.data),
        "data_sha256": study.data_sha256,
        "version": version("gaussiantalker-ns"),
        "canonical_steps": study.canonical_steps,
        "num_steps": study.num_steps,
        "perceptual_network": study.perceptual_network,
        "settings": settings,
        "measured_at": measured_steps(study, config, with_curve),
    }
    return Run(config.experiment_name, seed, config, json.loads(json.dumps(identity)))


def plan(
    study: Study,
    tables: Sequence[str],
    rows: Sequence[str],
    num_seeds: int,
    threads: int | None,
) -> list[Run]:
    """All runs that the tables need, each once, the reference first.

    Args:
        study: What all runs share.
        tables: Keys of `TABLES`.
        rows: Names of the rows wanted; none means all rows of the tables.
        num_seeds: Runs of each variant.
        threads: CPU threads of each run; None takes all cores.

    Raises:
        ValueError: If a name is not a row of the tables.
    """
    found = {row.name: row for table in tables for row in TABLES[table].rows}
    unknown = [name for name in rows if name not in found and name != REFERENCE]
    if unknown:
        raise ValueError(
            f"--rows names {', '.join(unknown)}; expected some of {', '.join(found)} (the rows of"
            f" --table {' '.join(tables)}). Correct the names, or add the table that has the row."
        )
    base = study.base_config()
    variants: dict[str, Row] = {}
    for row in found.values():
        name = run_name(row, base)
        if not rows or row.name in rows or name in rows:
            variants.setdefault(name, row)
    names = sorted(variants, key=lambda name: name != REFERENCE)
    seeds = range(FIRST_SEED, FIRST_SEED + num_seeds)
    return [plan_run(study, variants[name], seed, threads) for seed in seeds for name in names]
