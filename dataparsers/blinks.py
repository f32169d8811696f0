"""Eye closure of every frame: OpenFace's table, else our blendshapes, else the landmarks."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32
from nerfstudio.utils.rich_utils import CONSOLE

from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.dataparsers.landmarks import read_points68
from gaussiantalker_ns.dataparsers.signals import MAX_COUNT_DIFFERENCE, fit_count
from gaussiantalker_ns.face.measures import EYES_FROM_IBUG68, blink
from gaussiantalker_ns.face.topology import BLINK_COLUMNS
from gaussiantalker_ns.files import read_text

COLUMN = "AU45_r"
"""The one column of OpenFace's table that is read."""

AU45_CLOSED = 2.0
"""OpenFace's intensity at which an eye counts as closed, as in the public code; more is no more."""
BLINK_CLOSED = 0.6  # Blendshape score of a closed eye: the scores peak at 0.55 to 0.75.

MAX_MISSING_FRACTION, MAX_MISSING_ROWS = 0.01, 12
"""Rows that a table may lack at its end: OpenFace reads some videos to half a second less."""

MIN_LANDMARK_FRACTION = 0.5
"""Fraction of the frames that must have landmarks for blinks to be measured in them."""

FOREIGN_TABLE = (
    "Write the table again with OpenFace from the frames at 25 per second, or delete it: blinks "
    "are then measured in the landmarks (ori_imgs/*.lms)."
)
"""What to do about a table that another tool wrote."""


def read_blink(
    layout: DatasetLayout,
    num_frames: int,
    blendshapes: Float[np.ndarray, "m 52"] | None,
) -> Float32[np.ndarray, " m"]:
    """Read eye closure in [0, 1]; without any source the eyes count as open, with a notice.

    Args:
        layout: The data set.
        num_frames: Frames of the clip.
        blendshapes: Scores of all frames, if there are any.

    Raises:
        ValueError: the table has no column AU45_r, or its rows do not belong to this video.
    """
    path = layout.action_units
    if path.exists():
        remedy = layout.remedy("dataset", FOREIGN_TABLE)
        missing = min(int(MAX_MISSING_FRACTION * num_frames), MAX_MISSING_ROWS)
        column = read_au45(path, remedy)
        column = fit_count(
            column, num_frames, path, "rows", remedy, max(missing, MAX_COUNT_DIFFERENCE)
        )
        return np.clip(column / np.float32(AU45_CLOSED), 0.0, 1.0)
    if blendshapes is not None:
        scores = blendshapes[:, BLINK_COLUMNS].mean(axis=1) / BLINK_CLOSED
        return np.clip(scores, 0.0, 1.0).astype(np.float32)
    closure = blink_of_landmarks(layout, num_frames)
    if closure is None:
        CONSOLE.print(
            f"{layout.root} has neither {path.name} nor landmarks (ori_imgs/*.lms) of half of its "
            f"frames: the head is trained without blinks. OpenFace's table with {COLUMN} as "
            f"{path.name} brings them.",
            style="yellow",
        )
        return np.zeros(num_frames, np.float32)
    CONSOLE.print(
        f"{layout.root} has no {path.name}: blinks are measured in its landmarks.", style="yellow"
    )
    return closure


def blink_of_landmarks(layout: DatasetLayout, num_frames: int) -> Float32[np.ndarray, " m"] | None:
    """Eye closure in [0, 1] from the 68 points; None if fewer than half of the frames have them.

    Frames without landmarks get what lies between their neighbours.
    """
    points = read_points68(layout, num_frames)
    known = np.isfinite(points).all(axis=(1, 2))
    for corner, _, _, other_corner, _, _ in EYES_FROM_IBUG68:
        # An eye without width is none: its height over its width would be infinite.
        known &= np.any(points[:, corner] != points[:, other_corner], axis=-1)
    frames = np.flatnonzero(known)
    if len(frames) < max(MIN_LANDMARK_FRACTION * num_frames, 1):
        return None
    closure = blink(points[frames], EYES_FROM_IBUG68)
    return np.interp(np.arange(num_frames), frames, closure).astype(np.float32)


def read_au45(path: Path, remedy: str = FOREIGN_TABLE) -> Float32[np.ndarray, " m"]:
    """Read the column AU45_r of an OpenFace table, also as a spreadsheet saves it again.

    Blanks around names and values do not matter. Cells may be separated by commas, semicolons or
    tabs; beside the latter two numbers may have a decimal comma.

    Args:
        path: The table, UTF-8 or UTF-16.
        remedy: What an error tells the user to do.

    Raises:
        ValueError: there is no such column, or a line has no such number.
    """
    lines = re.split(r"\r\n|\r|\n", read_text(path))
    # Excel's own note about the separator.
    first = 1 if lines[0].lower().startswith("sep=") else 0
    separator = next((mark for mark in ";\t" if mark in "".join(lines[first : first + 1])), ",")
    rows = csv.reader(lines[first:], delimiter=separator, skipinitialspace=True)
    try:
        header = [name.strip() for name in next(rows, [])]
        table = [(first + rows.line_num, row) for row in rows if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise ValueError(
            f"{path} cannot be read as a table in line {first + rows.line_num} ({error}); expected "
            f"values separated by commas. {remedy}"
        ) from error
    if COLUMN not in header:
        raise ValueError(
            f"{path} has the columns {', '.join(header[:5])}, ...; expected one named {COLUMN}, "
            f"as OpenFace's FeatureExtraction writes with -aus. {remedy}"
        )
    column = header.index(COLUMN)
    values = [_value(path, line, row, column, len(header), remedy) for line, row in table]
    with np.errstate(over="ignore"):  # Infinite values are told with their row.
        return np.array(values, np.float64).astype(np.float32)


def _value(
    path: Path, line: int, row: Sequence[str], column: int, num_columns: int, remedy: str
) -> float:
    """The number in a row of the table.

    Example: of "1; 0,52" with column 1 it is 0.52.
    """
    if any(cell.strip() for cell in row[num_columns:]):
        raise ValueError(
            f"{path} has {len(row)} values in line {line} for {num_columns} columns; expected as "
            "many: decimal commas between commas cannot be told apart. Save the table with "
            f"decimal points or with semicolons. {remedy}"
        )
    cell = row[column].strip() if column < len(row) else ""
    try:
        return float(cell.replace(",", "."))
    except ValueError as error:
        raise ValueError(
            f"{path} has {cell[:20]!r} for {COLUMN} in line {line}, no number; expected one "
            f"value per frame. {remedy}"
        ) from error
