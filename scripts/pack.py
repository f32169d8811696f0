"""`gaussiantalker pack`: a trained run becomes one file that is safe to share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text


@dataclass
class Config:
    """Pack a trained run into a talker file: all that driving needs, and nothing that runs."""

    load_config: Path
    """The run's config.yml, or a folder above it (the newest run is taken)."""
    output: Path
    """The file, ending in .talker."""
    data: Path | None = None
    """The data set's folder, if it has moved since the training."""
    precision: Literal["float32", "float16"] = "float32"
    """How exactly the head is kept: float32 gives the run's own bits, float16 a smaller file."""
    track_seconds: float = 40.0
    """Length of the head's recorded motion in the file, in seconds."""
    torso_quality: int | None = None
    """Quality of the torso's pictures, 1 to 100; 101 keeps every bit. By default as much is kept as
    whole frames of 46 dB need."""
    licence: str | None = None
    """What others may do with the file, in your words, such as "CC BY-NC 4.0"."""
    overwrite: bool = False
    """Replace an existing file."""


def run(config: Config) -> int:
    """Pack the run and say how large the file is."""
    from gaussiantalker_ns.inference.checkpoint import load_checkpoint
    from gaussiantalker_ns.inference.talker_file.archive import refuse_existing
    from gaussiantalker_ns.inference.talker_file.pack import PackOptions, pack

    # Before the run is loaded, which takes a while.
    refuse_existing(config.output, config.overwrite)
    options = PackOptions(
        precision=config.precision,
        track_seconds=config.track_seconds,
        torso_quality=config.torso_quality,
        licence=config.licence,
    )
    checkpoint = load_checkpoint(config.load_config, config.data)
    from nerfstudio.utils.rich_utils import CONSOLE

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=CONSOLE) as progress:
        task = progress.add_task(f"Packing {escape(config.output.name)}", total=None)
        pack(
            checkpoint,
            config.output,
            options,
            config.overwrite,
            lambda done, total: progress.update(task, completed=done, total=total),
        )
    megabytes = config.output.stat().st_size / 1e6
    CONSOLE.print(Text(f"Wrote {config.output}, {megabytes:.1f} MB"))
    if checkpoint.origin().consent is None:
        CONSOLE.print(
            "The data set records no consent of the person shown, and so the file holds none."
            ' Record it with `gaussiantalker process --consent "..."` and pack again.',
            style="yellow",
        )
    return 0
