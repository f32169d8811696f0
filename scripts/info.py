"""`gaussiantalker info`: what a talker file is, whose consent it has, and what it looks like."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tyro
from jaxtyping import UInt8
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from gaussiantalker_ns.inference.talker_file.reader import TalkerFile

PREVIEW_COLUMNS = 48
"""Width of the picture in a terminal, in characters."""


@dataclass
class Config:
    """Show what a talker file is, whose consent it has, its parts, and a picture."""

    talker: tyro.conf.Positional[Path]
    """The file."""
    picture: Path | None = None
    """Write the picture there (.png, .jpg, .webp)."""
    overwrite: bool = False
    """Replace an existing picture."""


def run(config: Config) -> int:
    """Read the file, all of it, and print what it says.

    Raises:
        FileNotFoundError: There is no such file.
        FileExistsError: The picture exists.
        ValueError: It is no talker file, or the picture's name has an ending without a format.
    """
    from gaussiantalker_ns.files import write_image
    from gaussiantalker_ns.inference.talker_file import webp
    from gaussiantalker_ns.inference.talker_file.reader import read_talker
    from gaussiantalker_ns.inference.talker_file.schema import PICTURE

    if config.picture is not None:
        check_picture(config.picture, config.overwrite)
    file = read_talker(config.talker)
    image = webp.decode(file.picture, 3, PICTURE, config.talker)
    console = Console()
    console.print(facts(file))
    console.print(parts(file))
    if config.picture is not None:
        write_image(config.picture, image)
        console.print(Text(f"Wrote {config.picture}"))
    elif sys.stdout.isatty():
        console.print(preview(image))
    else:
        console.print("--picture NAME.png writes what it looks like.")
    return 0


def check_picture(path: Path, overwrite: bool) -> None:
    """Check that a picture may be written."""
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise ValueError(f"--picture is {path}; expected a name ending in .png, .jpg or .webp.")
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"{path} exists already; expected a new name. Add --overwrite to replace it."
        )


def facts(file: "TalkerFile") -> Table:
    """What the file says of itself."""
    said = file.description
    audio = said.audio
    consent = (said.consent or {}).get("statement")
    versions = ", ".join(f"{name} {number}" for name, number in said.source.versions.items())
    rows = {
        "Talker": str(file.path),
        "Method": f"{said.method}, step {said.step}",
        "Consent": consent or "none recorded: do not use it without asking the person shown",
        "Licence": said.licence or "not stated: ask its owner",
        "Pictures": f"{said.size} x {said.size} px, {said.fps} a second, torso: {said.torso_mode}",
        "Head": f"{said.num_gaussians} Gaussians, {said.precision}",
        "Hears": f"{audio.encoder}, {audio.context_frames} frames of {list(audio.window_shape)}",
        "Motion": f"{said.num_frames} frames, {said.num_frames / said.fps:.1f} s",
        "Packed": said.source.created,
        "Checkpoint": f"{said.source.checkpoint}, sha256 {said.source.checkpoint_sha256}",
        "Data set": f"sha256 {said.source.dataset_sha256}",
        "Made with": versions,
        "This file": f"sha256 {file.sha256}",
    }
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows.items():
        # What a file says is text, never markup.
        table.add_row(name, Text(printable(text)))
    return table


def parts(file: "TalkerFile") -> Table:
    """The file's size by part."""
    table = Table("part", "bytes", box=None, padding=(0, 2, 0, 0))
    table.columns[1].justify = "right"
    for name, num_bytes in file.part_bytes.items():
        table.add_row(name, f"{num_bytes:,}")
    table.add_row("whole file", f"{file.path.stat().st_size:,}", style="bold")
    return table


def printable(text: str) -> str:
    """A text without what would steer a terminal.

    Example: a text with a colour code shows a question mark in its place.
    """
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def preview(image: UInt8[np.ndarray, "h wd 3"]) -> Text:
    """A picture in half blocks, two rows of pixels in a line of text."""
    import cv2

    small = cv2.resize(image, (PREVIEW_COLUMNS, PREVIEW_COLUMNS), interpolation=cv2.INTER_AREA)
    lines = []
    for upper, lower in zip(small[::2], small[1::2]):
        line = Text()
        for above, below in zip(upper, lower):
            colours = (f"#{r:02x}{g:02x}{b:02x}" for r, g, b in (above, below))
            line.append("\u2580", Style(color=next(colours), bgcolor=next(colours)))
        lines.append(line)
    return Text("\n").join(lines)
