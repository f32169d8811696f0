"""The values as a table on the terminal, and as JSON, CSV and Markdown."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from rich.table import Table
from rich.text import Text

from gaussiantalker_ns.evaluation.evaluator import Evaluation
from gaussiantalker_ns.metrics.registry import GROUPS, MEASURES, shown

PAPER_COLUMNS = (
    ("PSNR", "face_psnr"),
    ("SSIM", "face_ssim"),
    ("LPIPS", "face_lpips"),
    ("FID", "face_fid"),
    ("LMD", "lmd"),
    ("AUE", "aue"),
    ("Sync", "sync"),
    ("CSIM", "csim"),
    ("Training, min", "training_minutes"),
    ("FPS, single", "fps_single"),
    ("FPS, batch", "fps_batch"),
)
"""The columns of the paper's Table 1, on the face box; speed in both of its meanings."""

OFFLINE_COLUMNS = (
    ("head PSNR", "head_psnr"),
    ("frame PSNR", "psnr"),
    ("opening r", "lips_open_correlation"),
    ("width r", "lips_width_correlation"),
    ("opening std", "lips_open_amplitude"),
    ("lip distance, px", "lips_landmark_distance"),
    ("blendshape error", "blendshape_error_lower"),
    ("jitter ratio", "jitter_ratio"),
    ("lip lag, ms", "lips_lag_ms"),
    ("model, MB", "model_megabytes"),
)
"""What is measured without any gated network."""


def rich_table(result: Evaluation, title: str) -> Table:
    """All values in groups; what is not measured says so and gets its reason below the table."""
    table = Table(title=Text(title), title_justify="left")
    table.add_column("measure")
    table.add_column("value", justify="right")
    table.add_column("real video", justify="right")
    table.add_column("unit")
    table.add_column("better")
    for group in GROUPS:
        keys = [
            key
            for key, measure in MEASURES.items()
            if measure.group == group and (key in result.metrics or key in result.not_measured)
        ]
        for key in keys:
            measure = MEASURES[key]
            value = result.metrics.get(key)
            table.add_row(
                Text(measure.name),
                Text("not measured", "dim") if value is None else Text(shown(key, value)),
                Text(shown(key, result.ground_truth.get(key)) if value is not None else "-"),
                measure.unit,
                measure.better,
            )
        if keys:
            table.add_section()
    return table


def reasons(result: Evaluation) -> list[str]:
    """What is not measured and why, values with one reason together."""
    together: dict[str, list[str]] = {}
    for key, reason in result.not_measured.items():
        together.setdefault(reason, []).append(MEASURES[key].name)
    return [f"{'; '.join(names)}: not measured: {reason}" for reason, names in together.items()]


def as_json(result: Evaluation, about: Mapping[str, Any]) -> dict[str, Any]:
    """What `evaluation.json` holds: the run, the values, and what is missing."""
    return {
        **about,
        "frames": len(result.frames),
        "metrics": result.metrics,
        "ground_truth": result.ground_truth,
        "not_measured": result.not_measured,
    }


def csv_of_values(result: Evaluation) -> str:
    """One row per figure."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["key", "name", "value", "ground_truth", "unit", "better", "not_measured"])
    for key, measure in MEASURES.items():
        if key not in result.metrics and key not in result.not_measured:
            continue
        value, truth = result.metrics.get(key, ""), result.ground_truth.get(key, "")
        reason = result.not_measured.get(key, "")
        writer.writerow([key, measure.name, value, truth, measure.unit, measure.better, reason])
    return stream.getvalue()


def csv_of_frames(result: Evaluation) -> str:
    """One row per frame; empty where a frame has no figure."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = [key for key in MEASURES if key in result.per_frame]
    writer.writerow(["frame", *names])
    for row, frame in enumerate(result.frames):
        values = (result.per_frame[name][row] for name in names)
        writer.writerow(
            [frame, *(f"{value:.6g}" if math.isfinite(value) else "" for value in values)]
        )
    return stream.getvalue()


def _header(columns: tuple[tuple[str, str], ...]) -> list[str]:
    arrows = {"higher": " ^", "lower": " v"}
    return [name + arrows.get(MEASURES[key].better, "") for name, key in columns]


def _cells(values: Mapping[str, float], columns: tuple[tuple[str, str], ...]) -> list[str]:
    return [shown(key, values.get(key)) for _, key in columns]


def markdown(result: Evaluation, name: str, measured: str) -> str:
    """Two tables, the paper's columns and the offline measures: the real video, and the render.

    Args:
        result: The values.
        name: What the row of the render is called.
        measured: Which frames the values are about; stands above the tables.
    """
    plain, above = markdown_cell(name), markdown_cell(measured)
    blocks = [f"{plain}: {above}.\n"]
    for columns in (PAPER_COLUMNS, OFFLINE_COLUMNS):
        truth = ["real video", *_cells(result.ground_truth, columns)]
        row = [plain, *_cells(result.metrics, columns)]
        blocks.append(markdown_table(["run", *_header(columns)], [truth, row]))
    return "\n".join(blocks)


def markdown_cell(text: str) -> str:
    """Any text as the content of a cell."""
    return escape(" ".join(text.replace("|", "/").split()))


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; cells are taken as they are."""
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"
