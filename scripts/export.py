"""`gaussiantalker export`: a talker as a page that talks in any browser, or as a point cloud."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.text import Text


@dataclass
class Config:
    """Make a page of a talker: one file that talks in any browser, offline, and sends nothing."""

    output: Path
    """The result: a name ending in .html or .ply, or a folder's."""
    talker: Path | None = None
    """The talker file; the sample presenter by default."""
    format: Literal["html", "folder", "ply"] = "html"
    """`html`: a page in one file. `folder`: the page beside a JavaScript module and a packed talker
    for pages of your own. `ply`: the head's mean shape, as `ns-export gaussian-splat` writes it."""
    precision: Literal["int8", "float16", "float32"] = "int8"
    """How exactly numbers are kept in pages: int8 keeps the head to 50 dB and more."""
    track_seconds: float = 14.0
    """Length of the head's recorded motion in pages, in seconds."""
    audio: Path | None = None
    """A sound that the page can play, in a format of browsers (.wav, .mp3, .m4a)."""
    overwrite: bool = False
    """Replace an existing result."""


def run(config: Config) -> int:
    """Write the result and say how large it is.

    Raises:
        FileExistsError: The output exists.
        ValueError: A browser cannot run the talker; the message says why.
    """
    from gaussiantalker_ns.web.export import ExportOptions, export

    options = ExportOptions(config.format, config.precision, config.track_seconds, config.audio)
    console = Console()
    with console.status("Exporting ..."):
        written = export(config.talker, config.output, options, config.overwrite)
    console.print(Text(f"Wrote {written.path}, {written.num_bytes / 1e6:.2f} MB"))
    if not written.has_consent and config.format != "ply":
        console.print(
            "The talker records no consent of the person shown, and the page says so.",
            style="yellow",
        )
    if config.format == "folder":
        console.print(
            "Serve the folder (`python -m http.server`): browsers load no files from disk."
        )
    return 0
