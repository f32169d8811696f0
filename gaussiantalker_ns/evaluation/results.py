"""A finished evaluation: its values with what the talker costs, and the files that it leaves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from gaussiantalker_ns.evaluation.cost import (
    load_average,
    size_values,
    speed_values,
    training_minutes,
)
from gaussiantalker_ns.evaluation.evaluator import Evaluation
from gaussiantalker_ns.evaluation.options import Config
from gaussiantalker_ns.evaluation.report.tables import reasons, rich_table
from gaussiantalker_ns.evaluation.report.writer import remove_images, write_tables
from gaussiantalker_ns.inference.checkpoint import LoadedCheckpoint
from gaussiantalker_ns.inference.trained_talker import TrainedTalker
from gaussiantalker_ns.metrics.registry import NotMeasured


@dataclass(frozen=True)
class Done:
    """A finished evaluation."""

    table: Table
    """The values, for the terminal."""
    reasons: list[str]
    """What was not measured, and why."""
    written: list[Path]
    """What to look at."""

    @classmethod
    def of(cls, result: Evaluation, titles: tuple[str, str], written: list[Path]) -> "Done":
        """The end of an evaluation of one sequence; `titles` name the run and its frames."""
        return cls(rich_table(result, ": ".join(titles)), reasons(result), written)


def add_cost(result: Evaluation, talker: TrainedTalker, about: dict[str, Any], speed: bool) -> None:
    """Add training time, size and, if wanted, speed, with how busy the machine was before it."""
    result.add(size_values(talker.model, talker.path))
    try:
        if not isinstance(talker, LoadedCheckpoint):
            raise NotMeasured("needs the run: a talker file does not say how long it was trained")
        minutes = training_minutes(talker.config_path.parent)
        result.add({"training_minutes": minutes})
    except NotMeasured as reason:
        result.not_measured["training_minutes"] = str(reason)
    if speed:
        # The load of the minute before; this command's own share is about one core.
        about["load_average"] = load_average()
        result.add(speed_values(talker))
    result.finish()


def finish(
    config: Config,
    folder: Path,
    result: Evaluation,
    about: dict[str, Any],
    titles: tuple[str, str],
) -> list[Path]:
    """Write the tables; without new pictures, those of an earlier evaluation go."""
    if not config.images:
        remove_images(folder, [*(config.videos or ()), *config.audio])
    write_tables(folder, result, about, titles)
    return [folder / f"evaluation.{suffix}" for suffix in ("json", "md")]
