"""Summary of runs as lines of a table: means over seeds, and differences to the reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gaussiantalker_ns.ablation.runner import CurvePoint, Outcome, Result
from gaussiantalker_ns.ablation.study import REFERENCE, Study, run_name
from gaussiantalker_ns.ablation.tables import PAPER_COLUMNS, TABLES, Row
from gaussiantalker_ns.scheduler.tasks import Failure


@dataclass(frozen=True)
class Measure:
    """A figure of ours beside the paper's."""

    heading: str
    """Name in a table."""
    higher_is_better: bool
    digits: int
    """Decimals shown."""
    stands_for: str | None = None
    """The paper's measure whose direction it is compared with: itself, or what takes its place
    where the weights of the paper's are missing."""


MEASURES = {
    "face_psnr": Measure("face PSNR", True, 2, "PSNR"),
    "face_lpips": Measure("face LPIPS", False, 4, "LPIPS"),
    "face_fid": Measure("face FID", False, 2, "FID"),
    "lmd": Measure("LMD", False, 3, "LMD"),
    "sync": Measure("Sync", True, 3, "Sync"),
    "face_ssim": Measure("face SSIM", True, 4),
    "lips_psnr": Measure("lip PSNR", True, 2),
    "lips_landmark_distance": Measure("lip distance px", False, 3, "LMD"),
    "lips_open_correlation": Measure("opening r", True, 2, "Sync"),
    "lips_width_correlation": Measure("width r", True, 2, "Sync"),
}
"""Key of `metrics.registry` -> what is shown; the paper's five measures come first."""

PAPER_ITERATIONS = (0.1, 0.2, 1.0), (500, 1000, 5000)
"""Parts of the deformation stage, and the iterations of Table 6 that they correspond to."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds."""

    mean: float
    std: float | None
    """Standard deviation over seeds, with n - 1; None for a single seed."""
    count: int
    """Number of seeds."""


def estimate(values: Sequence[float]) -> Estimate | None:
    """Mean and standard deviation of some seeds' values; None without any. [1, 3] -> 2 +- 1.41."""
    if not values:
        return None
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Estimate(float(np.mean(values)), std, len(values))


@dataclass(frozen=True)
class Line:
    """A row of a table, at one point of its training."""

    row: Row
    run: str
    """Name of the run behind it."""
    step: int
    """Steps done, of both stages."""
    deformation_steps: int
    """Steps done of the deformation stage; this is how the paper counts in Table 6."""
    paper: tuple[float, ...] | None
    """The paper's values."""
    points: Mapping[int, CurvePoint]
    """Seed -> measurement."""
    failures: Mapping[int, str]
    """Seed -> reason."""

    def values(self, measure: str) -> dict[int, float]:
        """Seed -> figure, where there is one."""
        found = {seed: point.metrics.get(measure) for seed, point in self.points.items()}
        return {seed: value for seed, value in found.items() if value is not None}

    def estimate(self, measure: str) -> Estimate | None:
        """Mean over seeds."""
        return estimate(list(self.values(measure).values()))

    @property
    def cpu_minutes(self) -> Estimate | None:
        """CPU time of the training up to here."""
        return estimate([point.cpu_seconds / 60 for point in self.points.values()])


@dataclass(frozen=True)
class Comparison:
    """A row against the reference of its table, in one measure, seed by seed."""

    row: Row
    moment: str
    """When; empty for the end of the training."""
    measure: str
    paper_measure: str
    paper_difference: float | None
    """Row minus reference; None where the paper has no values."""
    direction: int
    """+1 if the paper's figure is better than its reference's, -1 if worse, 0 if it is equal."""
    differences: Mapping[int, float]
    """Seed -> our row minus our reference."""

    @property
    def verdict(self) -> str:
        """Whether all seeds go the paper's way, none does, or they differ."""
        sign = 1 if MEASURES[self.measure].higher_is_better else -1
        ways = [np.sign(value) * sign == self.direction for value in self.differences.values()]
        if self.direction == 0 or not ways:
            return "-"
        return "agrees" if all(ways) else "not settled" if any(ways) else "disagrees"


Outcomes = Mapping[tuple[str, int], Outcome]
"""(Name of the run, seed) -> what came of it; runs that were not started are absent."""


def not_measured(outcomes: Outcomes) -> dict[str, str]:
    """Measures that no finished run has -> what they need, as far as a run says."""
    ends = [outcome.final for outcome in outcomes.values() if isinstance(outcome, Result)]
    absent = [key for key in MEASURES if not any(key in end.metrics for end in ends)]
    reasons = {key: end.not_measured for end in ends for key in absent if key in end.not_measured}
    return {key: reasons[key][key] for key in absent if key in reasons}


def lines_of(table: str, study: Study, outcomes: Outcomes) -> list[Line]:
    """The lines of a table in the paper's order; rows with a curve have several."""
    base = study.base_config()
    lines = []
    for row in TABLES[table].rows:
        run = run_name(row, base)
        mine = {seed: outcome for (name, seed), outcome in outcomes.items() if name == run}
        results = {seed: o for seed, o in mine.items() if isinstance(o, Result)}
        failures = {seed: o.reason for seed, o in mine.items() if isinstance(o, Failure)}
        start = int(row.settings.get("pipeline.canonical_steps", study.canonical_steps))
        for step in shown_steps(row, study, results):
            points = {
                seed: next(point for point in result.curve if point.step == step)
                for seed, result in results.items()
            }
            paper = row.paper if row.curve is None else paper_at(row, study, step - start)
            lines.append(Line(row, run, step, step - start, paper, points, failures))
    return lines


def shown_steps(row: Row, study: Study, results: Mapping[int, Result]) -> list[int]:
    """The points of a row's curve that a table shows: the end, or all with some deformation."""
    if row.curve is None or not results:
        return [study.num_steps]
    start = int(row.settings.get("pipeline.canonical_steps", study.canonical_steps))
    curve = next(iter(results.values())).curve
    return [point.step for point in curve if point.step > start]


def paper_at(row: Row, study: Study, deformation_steps: int) -> tuple[float, ...] | None:
    """The paper's values at the same part of the deformation stage, if Table 6 has it."""
    assert row.curve is not None
    length = study.num_steps - study.canonical_steps
    for fraction, iteration in zip(*PAPER_ITERATIONS):
        if deformation_steps == max(round(fraction * length), 1):
            return row.curve[iteration]
    return None


def comparisons_of(lines: Sequence[Line]) -> list[Comparison]:
    """Compare all lines of a table with its reference.

    Lines of a curve are compared after the same number of deformation steps, as the paper does,
    and after the same number of steps altogether.
    """
    references = [line for line in lines if line.run == REFERENCE]
    found = []
    for line in lines:
        if line.run == REFERENCE:
            continue
        if line.row.curve is None:
            found += compare(line, references[-1], "")
            continue
        for reference in references:
            if reference.deformation_steps == line.deformation_steps and line.paper is not None:
                found += compare(line, reference, f"{line.deformation_steps} deformation steps")
            if reference.step == line.step and reference.paper is not None:
                found += compare(line, reference, f"{line.step} steps in all")
    return found


def compare(line: Line, reference: Line, moment: str) -> list[Comparison]:
    """One comparison for each measure of ours that stands for one of the paper's."""
    names = list(PAPER_COLUMNS)
    found = []
    for key, measure in MEASURES.items():
        if measure.stands_for is None:
            continue
        column = names.index(measure.stands_for)
        difference = None
        direction = -1 if line.row.expected_worse else 0
        row_paper = line.paper or reference_curve_values(line, reference)
        if row_paper is not None and reference.paper is not None:
            difference = row_paper[column] - reference.paper[column]
            better = difference if PAPER_COLUMNS[measure.stands_for] else -difference
            direction = int(np.sign(better))
        ours, theirs = line.values(key), reference.values(key)
        differences = {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}
        found.append(
            Comparison(
                line.row, moment, key, measure.stands_for, difference, direction, differences
            )
        )
    return found


def reference_curve_values(line: Line, reference: Line) -> tuple[float, ...] | None:
    """The paper's values of a row at the iteration at which it gives the reference's."""
    if line.row.curve is None or reference.row.curve is None:
        return None
    for iteration, values in reference.row.curve.items():
        if values == reference.paper:
            return line.row.curve[iteration]
    return None
