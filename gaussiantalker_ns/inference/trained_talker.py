"""A trained talker, from a run or from a talker file: what driving asks of it, and loading it."""

from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from gaussiantalker_ns.assets import asset_path
from gaussiantalker_ns.data.conditions import FrameConditions
from gaussiantalker_ns.engine.runtime import use_threads
from gaussiantalker_ns.frame_signals import FrameCondition
from gaussiantalker_ns.gaussians.gaussians import Gaussians
from gaussiantalker_ns.inference.checkpoint import load_checkpoint
from gaussiantalker_ns.inference.provenance import Origin
from gaussiantalker_ns.inference.talker_file.archive import SUFFIX
from gaussiantalker_ns.inference.talker_file.reader import read_talker
from gaussiantalker_ns.rendering.background import Background
from gaussiantalker_ns.rendering.splatting import RenderedHead, Views


@runtime_checkable
class HeadModel(Protocol):
    """A trained head with its conditions and what is shown behind it."""

    bank: FrameConditions
    background: Background

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        ...

    def canonical_gaussians(self) -> Gaussians:
        """The mean shape of the head."""
        ...

    def deformed_gaussians(self, condition: FrameCondition) -> Gaussians:
        """The head in b frames."""
        ...

    def splat(self, gaussians: Gaussians, views: Views, absgrad: bool = False) -> RenderedHead:
        """Render the head alone."""
        ...


@runtime_checkable
class TrainedTalker(Protocol):
    """A head model, and where it comes from."""

    @property
    def model(self) -> HeadModel:
        """What is rendered."""
        ...

    @property
    def method(self) -> str:
        """Name of the method, such as gaussiantalker-cpu."""
        ...

    @property
    def path(self) -> Path:
        """The file that was loaded: a checkpoint, or a talker file."""
        ...

    @property
    def step(self) -> int:
        """Training step."""
        ...

    def origin(self) -> Origin:
        """Checksums and consent."""
        ...


SAMPLE = "sample/presenter.talker"
"""The asset that speaks where no talker is named."""


def load_trained(path: Path | None = None, data: Path | None = None) -> TrainedTalker:
    """Load a talker from a file, or from a run.

    Args:
        path: A `.talker`, a run's `config.yml`, or a folder above it (the newest run is taken);
            None for the presenter that comes with the package.
        data: The data set's folder of a run, if it has moved since the training.

    Raises:
        FileNotFoundError: There is no such file, config, checkpoint or data set.
        ValueError: A file is damaged, or belongs to another method.
    """
    path = asset_path(SAMPLE) if path is None else path
    if not is_talker_file(path):
        return load_checkpoint(path, data)
    if data is not None:
        raise ValueError(
            f"--data is {data}, but {path} needs no data set; expected a run with it. Leave --data"
            " out."
        )
    device = "cuda" if torch.cuda.is_available() and find_spec("gsplat") else "cpu"
    talker = read_talker(path, device)
    use_threads(device, None, talker.model.head.runs_in_kernels)
    return talker


def is_talker_file(path: Path) -> bool:
    """Whether a path names a talker file, by its ending, and not a run."""
    return path.suffix == SUFFIX and not path.is_dir()


def chosen_talker(
    talker: Path | None, load_config: Path | None, must_exist: bool = True
) -> Path | None:
    """The talker that `--talker` or `--load-config` names; None if neither was given.

    Raises:
        ValueError: Both were.
        FileNotFoundError: There is nothing at the place.
    """
    if talker is not None and load_config is not None:
        raise ValueError(
            f"--talker is {talker} and --load-config is {load_config}; expected one of them, as"
            " both name the talker. Leave one out."
        )
    named = load_config if talker is None else talker
    if must_exist and named is not None and not named.exists():
        raise FileNotFoundError(
            f"There is no talker at {named}; expected a .talker file, or the config.yml or folder"
            " of a run. Check --talker or --load-config."
        )
    return named
