"""One `process`: checks of what was asked for, then the steps, as the folder's owner."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.files import sha256_of
from gaussiantalker_ns.folder_lock import OwnerLock
from gaussiantalker_ns.preprocess.audio_features import add_features
from gaussiantalker_ns.preprocess.step_runner import Facts, StepRunner, read_talker
from gaussiantalker_ns.preprocess.steps import DatasetSteps, ProcessSettings, Progress, StepName


@dataclass(frozen=True)
class Processed:
    """What a `process` has done."""

    talker: Facts | None = None
    """`talker.json` of a data set that is finished; None while steps are missing."""
    features: list[Path] = field(default_factory=list)
    """The feature files that were added to another tool's data set, the only change to it."""


@dataclass
class ProcessJob:
    """A data set to make, or one step of it."""

    output_dir: Path
    """Folder of the data set."""
    settings: ProcessSettings
    """What the data set depends on."""
    only: StepName | None = None
    """The one step to do again; None does all that are not finished."""
    overwrite: bool = False
    """Whether finished steps are done again, and the data set of another video is replaced."""

    def run(self, progress: Progress, skipped: Callable[[str], None]) -> Processed:
        """Do what is to be done.

        Args:
            progress: Shows how far a step is.
            skipped: Called with the name of each step that was finished before.

        Raises:
            FileNotFoundError: a file is missing.
            InUseError: another command works in the folder.
            ValueError: the video or the settings are unusable; the message says what to do.
        """
        self.check_paths()
        dataset = DatasetLayout(self.output_dir)
        with OwnerLock.of_folder(self.output_dir):
            if self.only == "audio" and dataset.made_elsewhere:
                return Processed(features=self.add_audio_features(dataset, progress))
            self.check_folder(dataset)
            return Processed(self.run_steps(progress, skipped))

    def check_paths(self) -> None:
        """Check what the settings name.

        Raises:
            FileNotFoundError: the video does not exist.
            ValueError: the folder is a file, or the first step lacks the video.
        """
        video = self.settings.video
        if video is None and self.only in (None, "video"):
            raise ValueError("--video is missing; expected the path of the video to process.")
        if video is not None and not video.is_file():
            raise FileNotFoundError(
                f"No video at {video}; expected an existing file. Check --video."
            )
        if self.output_dir.exists() and not self.output_dir.is_dir():
            raise ValueError(
                f"{self.output_dir} is a file; expected a folder. Change --output-dir."
            )

    def check_folder(self, dataset: DatasetLayout) -> None:
        """Refuse to mix a new data set with something else.

        Raises:
            ValueError: the folder holds another data set.
        """
        if dataset.made_elsewhere:
            raise ValueError(
                f"{dataset.root} holds frames but no {dataset.talker.name}, so this command did not"
                " make it. Choose another --output-dir; `--only audio` alone may add speech "
                "features to such a data set."
            )
        video, source = self.settings.video, read_talker(dataset).get("source")
        if video is None or source is None or self.overwrite:
            return
        if source["sha256"] != sha256_of(video):
            raise ValueError(
                f"{dataset.root} holds the data set of another video, {source['name']}. Choose "
                "another --output-dir, or replace it with --overwrite."
            )

    def add_audio_features(self, dataset: DatasetLayout, progress: Progress) -> list[Path]:
        """Give another tool's data set speech features that can be computed here.

        Raises:
            ValueError: the sound was to be moved.
        """
        settings = self.settings
        if settings.av_offset_ms is not None:
            raise ValueError(
                f"--av-offset is {settings.av_offset_ms:g}, but {dataset.root} was made by another "
                "tool, whose sound is not moved; expected none. Leave it out."
            )
        with progress("audio", len(settings.encoders)) as count:
            return add_features(dataset, settings.encoders, count)

    def run_steps(self, progress: Progress, skipped: Callable[[str], None]) -> Facts | None:
        """Run the steps; return `talker.json` if none is missing."""
        recorded = read_talker(DatasetLayout(self.output_dir))
        steps = DatasetSteps(self.settings, progress, recorded).steps()
        runner = StepRunner(self.output_dir, steps)
        if self.only is not None:
            runner.run_only(self.only)
        else:
            runner.run_all(self.overwrite, skipped)
        talker = read_talker(runner.dataset)
        finished = runner.outputs_exist(runner.steps["report"]) and "warnings" in talker
        return talker if finished else None
