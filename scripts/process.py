"""`gaussiantalker process`: a talking-portrait video becomes a data set."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
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
    """Speech features, one or more of: whisper wav2vec2 hubert mel."""
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


class SpeedColumn(ProgressColumn):
    """Frames a second of a running or finished step."""

    def render(self, task: Task) -> Text:
        """Format the speed of a task, if it counts many things."""
        if not task.elapsed or task.completed < 2:
            return Text("")
        return Text(f"{task.completed / task.elapsed:6.1f} /s", style="cyan")


class StepDisplay:
    """Progress bars, one line a step."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    @contextmanager
    def step(self, name: str, total: int | None) -> Iterator["Counter"]:
        """Show a step while it runs."""
        task = self.progress.add_task(STEP_TITLES[name], total=total)
        yield lambda done: self.progress.update(task, completed=done)
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


def add_audio_features(config: Config) -> None:
    """Give another tool's data set speech features that can be computed here."""
    from nerfstudio.utils.rich_utils import CONSOLE

    from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
    from gaussiantalker_ns.preprocess.audio_features import add_features

    if config.av_offset is not None:
        raise ValueError(
            f"--av-offset is {config.av_offset:g}, but {config.output_dir} was made by another "
            "tool, whose sound is not moved; expected none. Leave it out."
        )
    with CONSOLE.status("Speech features"):
        paths = add_features(DatasetLayout(config.output_dir), config.audio_encoder, lambda _: None)
    for path in paths:
        CONSOLE.print(Text(f"Wrote {path}; the rest of the data set is as it was."))


def check_paths(config: Config) -> None:
    """Check what the command line names.

    Raises:
        FileNotFoundError: the video does not exist.
        ValueError: the folder is a file, or the command lacks the video.
    """
    if config.video is None and config.only in (None, "video"):
        raise ValueError("--video is missing; expected the path of the video to process.")
    if config.video is not None and not config.video.is_file():
        raise FileNotFoundError(
            f"No video at {config.video}; expected an existing file. Check --video."
        )
    if config.output_dir.exists() and not config.output_dir.is_dir():
        raise ValueError(f"{config.output_dir} is a file; expected a folder. Change --output-dir.")


def check_folder(config: Config) -> None:
    """Refuse to mix a new data set with something else.

    Raises:
        ValueError: the folder holds another data set.
    """
    from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
    from gaussiantalker_ns.files import sha256_of
    from gaussiantalker_ns.preprocess.step_runner import read_talker

    dataset = DatasetLayout(config.output_dir)
    if dataset.made_elsewhere:
        raise ValueError(
            f"{dataset.root} holds frames but no {dataset.talker.name}, so this command did not "
            "make it. Choose another --output-dir; `--only audio` alone may add speech features to "
            "such a data set."
        )
    source = read_talker(dataset).get("source")
    if config.video is None or source is None or config.overwrite:
        return
    if source["sha256"] != sha256_of(config.video):
        raise ValueError(
            f"{dataset.root} holds the data set of another video, {source['name']}. Choose another "
            "--output-dir, or replace it with --overwrite."
        )


def offset_text(offset_ms: float) -> str:
    """How the sound was moved to fit the lips. Example: 80.0 -> "80 ms earlier"."""
    if round(offset_ms) == 0:
        return "not at all"
    return f"{abs(offset_ms):.0f} ms {'earlier' if offset_ms > 0 else 'later'}"


def pixels_text(pixels: float | None) -> str:
    """A distance in pixels. Example: 0.256 -> "0.26 px"; None -> "not measured"."""
    return "not measured" if pixels is None else f"{pixels:.2f} px"


def summary(talker: dict[str, Any], seconds: float) -> Table:
    """Table of what the data set is and how good it is."""
    tracking, source = talker["tracking"], talker["source"]
    table = Table(title="Data set", show_header=False, title_justify="left")
    length = talker["num_frames"] / talker["fps"]
    rows = [
        ("Video", f"{source['name']}, frames {source['take'][0]} to {source['take'][1]}"),
        ("Frames", f"{talker['num_frames']} ({length:.1f} s), {talker['size'][0]} px square"),
        ("Left out", str(len(talker["invalid_frames"]))),
        ("Focal length", f"{tracking['focal_px']:.0f} px"),
        ("Rigid reprojection", pixels_text(tracking["rigid_reprojection_px"])),
        ("Held-out optical flow", pixels_text(tracking["held_out_flow_px"])),
        ("Segmentation", talker["segmenter"]),
        ("Background seen", f"{100 * talker['background']['seen']:.0f} %"),
        ("Sound was moved", offset_text(talker["av_offset_ms"])),
        ("Speech features", ", ".join(talker["audio"])),
        ("Took", f"{seconds:.0f} s"),
    ]
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def run(config: Config) -> int:
    """Run the steps as the folder's owner, then print the summary and the warnings.

    Raises:
        FileNotFoundError: a file is missing.
        InUseError: another command works in the folder.
        ValueError: the video or the command is unusable; the message says what to do.
    """
    from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
    from gaussiantalker_ns.folder_lock import OwnerLock

    settings = settings_of(config)
    check_paths(config)
    with OwnerLock.of_folder(config.output_dir):
        if config.only == "audio" and DatasetLayout(config.output_dir).made_elsewhere:
            add_audio_features(config)
        else:
            check_folder(config)
            run_steps(config, settings)
    return 0


def run_steps(config: Config, settings: "ProcessSettings") -> None:
    """Run the steps, then print the summary and the warnings."""
    from nerfstudio.utils.rich_utils import CONSOLE

    from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
    from gaussiantalker_ns.preprocess.step_runner import StepRunner, read_talker
    from gaussiantalker_ns.preprocess.steps import DatasetSteps

    begun = time.monotonic()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:21}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        SpeedColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=CONSOLE) as bars:
        display = StepDisplay(bars)
        recorded = read_talker(DatasetLayout(config.output_dir))
        steps = DatasetSteps(settings, display.step, recorded).steps()
        runner = StepRunner(config.output_dir, steps)
        if config.only is not None:
            runner.run_only(config.only)
        else:
            runner.run_all(config.overwrite, display.skipped)
    talker = read_talker(runner.dataset)
    if not runner.outputs_exist(runner.steps["report"]) or "warnings" not in talker:
        CONSOLE.print(Text("Run `gaussiantalker process` without --only for the remaining steps."))
        return
    CONSOLE.print(summary(talker, time.monotonic() - begun))
    for warning in talker["warnings"]:
        CONSOLE.print(Text(f"{warning['title']} {warning['advice']}", style="yellow"))
    CONSOLE.print(Text(f"Report: {runner.dataset.report}"))
    CONSOLE.print(Text(f"Next: ns-train gaussiantalker --data {config.output_dir}"))
