"""`gaussiantalker process`: a talking-portrait video becomes a data set."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from gaussiantalker_ns.files import ProgressFile
    from gaussiantalker_ns.preprocess.steps import Counter, ProcessSettings

StepName = Literal[
    "video", "landmarks", "tracking", "segmentation", "layers", "audio", "dataset", "report"
]

STEP_TITLES = {
    "video": "1 Video",
    "landmarks": "2 Landmarks",
    "tracking": "3 Head tracking",
    "segmentation": "4 Segmentation",
    "layers": "5 Background, torso",
    "audio": "6 Speech features",
    "dataset": "7 Data set files",
    "report": "8 Report",
}


@dataclass
class Config:
    """Turn a talking-portrait video into a data set for training.

    Works without a GPU and without downloads, and takes about as long as the video. What is
    finished is skipped when the command is given again; what was interrupted is done again. At the
    end `report.html` in the data set says how good the video is, and what to do about it.
    """

    output_dir: Path
    """Folder of the data set."""
    video: Path | None = None
    """The video: one person who speaks to the camera, at best for a minute or more without cuts."""
    start: float = 0.0
    """Where to start, seconds."""
    end: float | None = None
    """Where to stop, seconds; the default is the end of the video."""
    take: Literal["longest", "all"] = "longest"
    """Which part to use where the video has cuts: the longest uncut take, or all of it."""
    face: str = "largest"
    """Whom to follow among several people: `largest`, `left`, `right` or a number from the left."""
    audio_track: int | None = None
    """Which audio track to use where a file has several, counted from 1; the default takes one with
    sound."""
    crop: str = "auto"
    """Square part of the picture: `auto` (around the head), `none`, or `x,y,size` in pixels."""
    size: int = 512
    """Side of the data set's pictures in pixels."""
    focal: float | None = None
    """Focal length in pixels of the data set's pictures; the default estimates it."""
    landmarks: Literal["mediapipe", "face-alignment"] = "mediapipe"
    """Who finds the 68 points of the `.lms` files; `face-alignment` needs the extra `[fan]`."""
    segmenter: Literal["auto", "builtin", "parsing"] = "auto"
    """Who tells head, neck, torso and background apart: the built-in models, a face-parsing network
    whose weights are downloaded once (slow without a GPU), or what suits this machine."""
    audio_encoder: tuple[str, ...] = ("whisper",)
    """Speech features, one or more of: whisper wav2vec2 hubert."""
    av_offset: float | None = None
    """Milliseconds by which the sound is late; the default estimates it, 0 keeps the sound."""
    only: StepName | None = None
    """Run this step alone, again, on what the steps before it made."""
    overwrite: bool = False
    """Run finished steps again, and replace a data set of another video."""
    write_composites: bool = False
    """Also write `gt_imgs`, frames over the background, which other projects train on."""
    num_workers: int = 0
    """Threads; 0 takes one per CPU core, at most 4."""
    consent: str | None = None
    """Statement that the person shown agreed, e.g. "recorded by myself"; kept in the data set, also
    when the same video is processed again without it. `--consent ""` removes it."""
    progress_file: Path | None = None
    """Keep a small JSON file there that tells other programs the step and how far it is."""


class SpeedColumn(ProgressColumn):
    """Frames a second of a running or finished step."""

    def render(self, task: Task) -> Text:
        """Format the speed of a task, if it counts many things."""
        if not task.elapsed or task.completed < 2:
            return Text("")
        return Text(f"{task.completed / task.elapsed:6.1f} /s", style="cyan")


def columns() -> tuple[ProgressColumn, ...]:
    """What stands in the line of a step."""
    return (
        SpinnerColumn(),
        TextColumn("{task.description:21}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        SpeedColumn(),
        TimeElapsedColumn(),
    )


class StepDisplay:
    """Progress bars, one line a step."""

    def __init__(self, progress: Progress, file: "ProgressFile | None" = None) -> None:
        self.progress = progress
        self.file = file
        """Where other programs read the same."""

    @contextmanager
    def step(self, name: str, total: int | None) -> Iterator["Counter"]:
        """Show a step while it runs."""
        task = self.progress.add_task(STEP_TITLES[name], total=total)

        def count(done: int) -> None:
            self.progress.update(task, completed=done)
            if self.file is not None:
                self.file.tell({"step": name, "done": done, "total": total}, at_once=done == 0)

        count(0)
        yield count
        completed = total if total is not None else max(self.progress.tasks[-1].completed, 1)
        self.progress.update(task, total=completed, completed=completed)
        self.progress.stop_task(task)

    def skipped(self, name: str) -> None:
        """Show that a step was finished before."""
        self.progress.console.print(f"{STEP_TITLES[name]}: finished before, skipped.", style="dim")


def settings_of(config: Config) -> "ProcessSettings":
    """Translate the command line for the library."""
    from gaussiantalker_ns.preprocess.steps import ProcessSettings
    from gaussiantalker_ns.preprocess.video.extract import VideoConfig

    return ProcessSettings(
        video=config.video,
        video_config=VideoConfig(
            start=config.start,
            end=config.end,
            crop=config.crop,
            size=config.size,
            take=config.take,
            face=config.face,
            audio_track=config.audio_track,
        ),
        focal=config.focal,
        landmarks=config.landmarks,
        segmenter=config.segmenter,
        encoders=config.audio_encoder,
        av_offset_ms=config.av_offset,
        composites=config.write_composites,
        consent=config.consent,
        num_workers=config.num_workers,
    )


def run(config: Config) -> int:
    """Process behind a progress bar for each step, then print the summary and the warnings.

    Raises:
        FileNotFoundError: a file is missing.
        InUseError: another command works in the folder.
        ValueError: the video or the command is unusable; the message says what to do.
    """
    from nerfstudio.utils.rich_utils import CONSOLE

    from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
    from gaussiantalker_ns.files import ProgressFile
    from gaussiantalker_ns.preprocess.process_job import ProcessJob
    from gaussiantalker_ns.preprocess.report.summary import summary_table

    begun = time.monotonic()
    job = ProcessJob(config.output_dir, settings_of(config), config.only, config.overwrite)
    with Progress(*columns(), console=CONSOLE) as bars:
        display = StepDisplay(bars, config.progress_file and ProgressFile(config.progress_file))
        done = job.run(display.step, display.skipped)
    for path in done.features:
        CONSOLE.print(Text(f"Wrote {path}; the rest of the data set is as it was."))
    if done.features:
        return 0
    if done.talker is None:
        CONSOLE.print(Text("Run `gaussiantalker process` without --only for the remaining steps."))
        return 0
    CONSOLE.print(summary_table(done.talker, time.monotonic() - begun))
    for warning in done.talker["warnings"]:
        CONSOLE.print(Text(f"{warning['title']} {warning['advice']}", style="yellow"))
    CONSOLE.print(Text(f"Report: {DatasetLayout(config.output_dir).report}"))
    CONSOLE.print(Text(f"Next: ns-train gaussiantalker --data {config.output_dir}"))
    return 0
