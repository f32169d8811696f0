"""Options of `gaussiantalker evaluate`, and where its results go."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gaussiantalker_ns.files import sha256_of
from gaussiantalker_ns.inference.checkpoint import find_config
from gaussiantalker_ns.inference.trained_talker import chosen_talker, is_talker_file

SPLIT_FOLDERS = {"test": "evaluation", "train": "evaluation-train"}
"""Split -> folder of its results beside the config; values of the training's frames, which are
better than those of others, never take the place of the held-out ones."""

SEVERAL = "evaluation-recordings"
"""Folder of the joint table of several recordings, whose own results lie beside it."""


@dataclass
class Config:
    """Measure a trained talker on held-out frames, on other audio, or compare two videos."""

    load_config: Path | None = None
    """The run's config.yml, or a folder above it (the newest run is taken)."""
    talker: Path | None = None
    """The same, or a .talker file, which --audio can drive; it has no held-out frames."""
    data: Path | None = None
    """The data set's folder, if it has moved since the training."""
    split: Literal["test", "train"] = "test"
    """Frames to measure: those held out, or those of the training."""
    audio: tuple[Path, ...] = ()
    """Drive the head by these recordings instead (cross-driven); videos are also compared by their
    speakers' lips, and several recordings get a joint table with their mean."""
    videos: tuple[Path, Path] | None = None
    """Compare two videos, render and truth, instead of a run; frame by frame at 25 a second."""
    openface_csv: tuple[Path, Path] | None = None
    """OpenFace's tables of render and truth, for AUE."""
    sync: tuple[float, float] | None = None
    """SyncNet confidence of render and truth, if you ran its scorer on the videos written here."""
    csim_model: Path | None = None
    """A face recognition network (ONNX or TorchScript, 112 x 112 RGB in [-1, 1]), for CSIM."""
    alignment: Path | None = None
    """Words or phonemes with their times, which label the mouth shapes; see docs/evaluation.md."""
    max_frames: int | None = None
    """Measure so many frames from the first; by default all."""
    images: bool = True
    """Write videos, pictures and evaluation.html, and not the values alone."""
    speed: bool = True
    """Measure how many frames are rendered in a second; takes about ten seconds."""
    output_dir: Path | None = None
    """Folder of the results, replaced file by file; by default beside the config: `evaluation`,
    `evaluation-train` for that split, `evaluation-NAME` for the recording NAME, and
    `evaluation-recordings` for the joint table of several."""

    def __post_init__(self) -> None:
        """Check what a user can get wrong."""
        named = chosen_talker(self.talker, self.load_config, must_exist=False)
        if (named is None) == (self.videos is None):
            raise ValueError(
                f"--talker or --load-config is {named} and --videos is {self.videos}; expected one"
                " of them: a talker to measure, or a render and a truth to compare."
            )
        if named is not None and is_talker_file(named) and not self.audio:
            raise ValueError(
                f"{named} holds no frames to compare with; expected a run with its data set, or a"
                " recording to drive the talker with. Name the run, or add --audio."
            )
        refuse_unused(self)
        if self.videos is not None and self.output_dir is None:
            raise ValueError("--videos belongs to no run; name a folder with --output-dir.")
        if len({path.resolve() for path in self.audio}) < len(self.audio):
            raise ValueError("--audio names a recording twice; expected each of them once.")
        if self.max_frames is not None and self.max_frames < 1:
            raise ValueError(f"--max-frames is {self.max_frames}; expected at least 1.")

    @property
    def named(self) -> Path | None:
        """The run or talker file that is measured."""
        return chosen_talker(self.talker, self.load_config)


def refuse_unused(config: Config) -> None:
    """Check that no option was given which the wanted way of measuring would not use.

    Raises:
        ValueError: If one was.
    """
    given = {
        "--audio": bool(config.audio),
        "--data": config.data is not None,
        "--split": config.split != "test",
        "--csim-model": config.csim_model is not None,
        "--alignment": config.alignment is not None,
    }
    unused: dict[str, str] = {}
    if not config.images:
        unused["--alignment"] = "--no-images leaves out the mouth strip that it labels"
    if config.videos is not None:
        reason = "--videos compares two finished videos and loads no run"
        unused.update(dict.fromkeys(("--audio", "--data", "--split"), reason))
    elif config.audio:
        reason = "--audio drives the head by recordings that have no real frames to compare with"
        unused.update(dict.fromkeys(("--split", "--csim-model", "--alignment"), reason))
    for option, reason in unused.items():
        if given[option]:
            raise ValueError(f"{option} would be ignored: {reason}. Leave {option} out.")


def results_folder(config: Config) -> Path:
    """Where the results go.

    Raises:
        FileNotFoundError: There is no run, or no recording.
    """
    for audio in config.audio:
        if not audio.is_file():
            raise FileNotFoundError(
                f"No audio or video file at {audio}; expected an existing file. Check --audio."
            )
    if config.output_dir is not None:
        return config.output_dir
    if len(config.audio) == 1:
        return recording_folder(config, config.audio[0])
    return beside_talker(config) / (SEVERAL if config.audio else SPLIT_FOLDERS[config.split])


def beside_talker(config: Config) -> Path:
    """The folder in which results are put: a run's own, or one with the name of a talker file.

    Raises:
        FileNotFoundError: There is no run.
    """
    named = config.named
    assert named is not None, "the config checks it"
    return named.with_suffix("") if is_talker_file(named) else find_config(named).parent


def recording_folder(config: Config, audio: Path) -> Path:
    """Where the results of one recording go: among several, below the folder that was named."""
    return other_folder(config.output_dir or beside_talker(config), audio, sha256_of(audio))


def other_folder(beside: Path, audio: Path, sha256: str) -> Path:
    """Where the results of another recording go by default.

    The recording's name names the folder; where that belongs to another one, which is called the
    same, so do the first digits of its checksum. Example: `evaluation-speech-3f2a91c0`.
    """
    folder = beside / f"evaluation-{audio.stem}"
    results = folder / "evaluation.json"
    try:
        taken = results.is_file() and json.loads(results.read_text())["audio_sha256"] != sha256
    except (ValueError, KeyError, TypeError):
        taken = True
    if taken or folder.name in (SEVERAL, *SPLIT_FOLDERS.values()):
        return folder.with_name(f"{folder.name}-{sha256[:8]}")
    return folder
