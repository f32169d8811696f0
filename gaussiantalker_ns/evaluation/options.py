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
    audio: Path | None = None
    """Drive the head by this recording instead (cross-driven); a video is also compared by lips."""
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
    `evaluation-train` for that split, `evaluation-NAME` for the recording NAME."""

    def __post_init__(self) -> None:
        """Check what a user can get wrong."""
        named = chosen_talker(self.talker, self.load_config, must_exist=False)
        if (named is None) == (self.videos is None):
            raise ValueError(
                f"--talker or --load-config is {named} and --videos is {self.videos}; expected one"
                " of them: a talker to measure, or a render and a truth to compare."
            )
        if named is not None and is_talker_file(named) and self.audio is None:
            raise ValueError(
                f"{named} holds no frames to compare with; expected a run with its data set, or a"
                " recording to drive the talker with. Name the run, or add --audio."
            )
        refuse_unused(self)
        if self.videos is not None and self.output_dir is None:
            raise ValueError("--videos belongs to no run; name a folder with --output-dir.")
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
        "--audio": config.audio is not None,
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
    elif config.audio is not None:
        reason = "--audio drives the head by a recording that has no real frames to compare with"
        unused.update(dict.fromkeys(("--split", "--csim-model", "--alignment"), reason))
    for option, reason in unused.items():
        if given[option]:
            raise ValueError(f"{option} would be ignored: {reason}. Leave {option} out.")


def results_folder(config: Config) -> Path:
    """Where the results go.

    Raises:
        FileNotFoundError: There is no run, or no recording.
    """
    if config.audio is not None and not config.audio.is_file():
        raise FileNotFoundError(
            f"No audio or video file at {config.audio}; expected an existing file. Check --audio."
        )
    if config.output_dir is not None:
        return config.output_dir
    named = config.named
    assert named is not None, "the config checks it"
    # Beside a talker file, which may have many neighbours, its results have a folder of its name.
    beside = named.with_suffix("") if is_talker_file(named) else find_config(named).parent
    if config.audio is not None:
        return other_folder(beside, config.audio, sha256_of(config.audio))
    return beside / SPLIT_FOLDERS[config.split]


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
    if taken or folder.name in SPLIT_FOLDERS.values():
        return folder.with_name(f"{folder.name}-{sha256[:8]}")
    return folder
