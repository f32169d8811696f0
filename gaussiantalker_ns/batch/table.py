"""The table of jobs: a CSV file with a header, and one row for each video that is to be made."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gaussiantalker_ns.batch.options import (
    OPTION_KINDS,
    STAGE_OPTIONS,
    DriveOptions,
    PackingOptions,
    ProcessOptions,
    TrainOptions,
    value_of,
)
from gaussiantalker_ns.files import read_text

PLAIN_COLUMNS = ("name", "video", "talker", "audio", "text", "voice", "consent")
"""Columns beside the options."""

DELIMITERS = ",;\t"
"""What may stand between cells; spreadsheets take the second where the comma is a decimal point."""

NAME = re.compile(r"[^\W_][\w .()+-]{0,99}")
"""Names of rows, which become names of files."""

NOT_IN_NAMES = re.compile(r"[^\w.+-]+")


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be done."""

    number: int
    """Of the line in the table, the header being 1."""
    name: str
    """What it is called, as far as that is known."""
    reason: str
    """What is wrong with it."""


@dataclass(frozen=True)
class Row:
    """A video that is to be made."""

    number: int
    """Of the line in the table, the header being 1."""
    name: str
    """Name of the result, without ending."""
    video: str | None = None
    """The video of the person, of whom a talker is trained."""
    talker: str | None = None
    """A talker file, in place of a video."""
    audio: str | None = None
    """What is said: a recording."""
    text: str | None = None
    """The same as a text, which is spoken by a machine."""
    voice: str = "en-us"
    """The machine's voice."""
    consent: str | None = None
    """Statement that the person in the video agreed."""
    process: ProcessOptions = field(default_factory=ProcessOptions)
    train: TrainOptions = field(default_factory=TrainOptions)
    pack: PackingOptions = field(default_factory=PackingOptions)
    drive: DriveOptions = field(default_factory=DriveOptions)


def read_rows(path: Path) -> Iterator[Row | BadRow]:
    """Read a table row by row; a row that makes no sense does not stop the others.

    Texts are UTF-8 or UTF-16, with or without byte order mark; cells are separated by commas,
    semicolons or tabs.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It has no header, or columns that are not known.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No table at {path}; expected a CSV file. Check its path.")
    lines = read_text(path).splitlines(keepends=True)
    if not lines:
        raise ValueError(f"{path} is empty; expected a header and a row for each video.")
    delimiter = max(DELIMITERS, key=lines[0].count)
    records = csv.reader(lines, delimiter=delimiter)
    columns = column_names(path, next(records))
    for cells in records:
        if any(cell.strip() for cell in cells):
            yield parse_row(records.line_num, columns, cells)


def column_names(path: Path, header: list[str]) -> list[str]:
    """The columns that a header names; case, blanks and hyphens do not matter.

    Raises:
        ValueError: One is unknown or stands twice, or what every row needs is missing.
    """
    names = [cell.strip().lower().replace("-", "_") for cell in header]
    known = {*PLAIN_COLUMNS, *OPTION_KINDS}
    unknown = [cell for cell, name in zip(header, names) if name not in known]
    if unknown:
        raise ValueError(
            f"{path} has the column {unknown[0].strip()!r}, which is not known; expected"
            f" {', '.join(PLAIN_COLUMNS)}, or options such as process.size, train.steps and"
            " drive.pose (docs/batch.md lists them). Rename or remove it."
        )
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{path} has the column {twice[0]} twice; expected it once.")
    for needed in (("video", "talker"), ("audio", "text")):
        if not {*needed} & {*names}:
            raise ValueError(
                f"{path} has neither a column {needed[0]} nor {needed[1]}; expected one of them."
            )
    return names


def parse_row(number: int, columns: list[str], cells: list[str]) -> Row | BadRow:
    """The row that some cells state; empty cells are not stated."""
    given = {name: cell.strip() for name, cell in zip(columns, cells) if cell.strip()}
    name = given.get("name") or default_name(given)
    try:
        return stated_row(number, name, columns, cells, given)
    except ValueError as error:
        return BadRow(number, name, str(error))


def stated_row(
    number: int, name: str, columns: list[str], cells: list[str], given: dict[str, str]
) -> Row:
    """The row of some cells.

    Raises:
        ValueError: It makes no sense.
    """
    more = [cell for cell in cells[len(columns) :] if cell.strip()]
    if more:
        raise ValueError(
            f"The row has {len(cells)} cells for {len(columns)} columns; expected as many. Put"
            ' cells that hold a comma between quotation marks ("...").'
        )
    for first, second in (("video", "talker"), ("audio", "text")):
        if (first in given) == (second in given):
            found = "both" if first in given else "neither"
            raise ValueError(f"The row has {found} of {first} and {second}; expected one of them.")
    if not NAME.fullmatch(name):
        raise ValueError(
            f"The name {name!r} cannot be that of a file; expected letters, digits, blanks and"
            " . ( ) + - _, beginning with a letter or digit. Change the column name."
        )
    plain = {key: given[key] for key in PLAIN_COLUMNS if key in given and key != "name"}
    return Row(number=number, name=name, **plain, **stated_options(given))


def stated_options(given: dict[str, str]) -> dict[str, Any]:
    """Stage -> its options; those that are not stated have their defaults.

    Raises:
        ValueError: One makes no sense.
    """
    found: dict[str, Any] = {}
    for stage, options in STAGE_OPTIONS.items():
        prefix = f"{stage}."
        found[stage] = options(
            **{
                column.removeprefix(prefix): value_of(column, text)
                for column, text in given.items()
                if column.startswith(prefix)
            }
        )
    unused = [name for name in given if name.startswith(("process.", "train.", "pack."))]
    if unused and "talker" in given:
        raise ValueError(
            f"The row has {unused[0]}, but names a talker, which is trained already; expected it"
            " with a video alone. Leave the cell empty."
        )
    if "voice" in given and "text" not in given:
        raise ValueError("The row has a voice without a text; expected both, or neither.")
    return found


def default_name(given: dict[str, str]) -> str:
    """The name of a row that states none: of who speaks and what: `anna-welcome`."""
    who = Path(given.get("video") or given.get("talker") or "row").stem
    what = Path(given["audio"]).stem if "audio" in given else given.get("text", "")[:24]
    joined = NOT_IN_NAMES.sub("_", f"{who}-{what}").strip("_.+-")
    return joined[:100] or "row"
