"""Finding and loading a trained model: by its config, its run, or a folder of runs.

A run is a configuration of Nerfstudio's trainer. Nerfstudio is therefore imported when one is
loaded, and not before: what uses a talker starts without it.
"""

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Literal

from gaussiantalker_ns.dataparsers.dataset_layout import AUDIO_FEATURE_FILES, DatasetLayout
from gaussiantalker_ns.dataparsers.poses import read_description
from gaussiantalker_ns.files import sha256_of
from gaussiantalker_ns.inference.provenance import Origin, dataset_sha256
from gaussiantalker_ns.inference.run_config import (
    check_config,
    damaged,
    one_line,
    readable_config,
)

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig
    from nerfstudio.pipelines.base_pipeline import Pipeline

    from gaussiantalker_ns.model import GaussianTalkerModel

CHECKPOINT_NAMES = f"step-{'[0-9]' * 9}.ckpt"
"""Pattern of the files that Nerfstudio's trainer saves."""


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A trained model and where it came from."""

    model: "GaussianTalkerModel"
    method: str
    """Name of the method, such as gaussiantalker-cpu."""
    path: Path
    """The checkpoint's file."""
    step: int
    """Training step of the checkpoint."""
    config_path: Path
    config: "TrainerConfig"
    """The run's configuration, pointed to where its checkpoints and data set are now."""
    layout: DatasetLayout
    """The data set that the model was trained on; it gives poses, torso and background."""

    def origin(self) -> Origin:
        """Checksums and consent, for the record in a video or a talker file."""
        consent = (read_description(self.layout) or {}).get("consent")
        return Origin(
            checkpoint=self.path.name,
            checkpoint_sha256=sha256_of(self.path),
            dataset_sha256=dataset_sha256(self.layout),
            consent=None if consent is None else {k: str(v) for k, v in consent.items()},
        )


def find_config(config_or_folder: Path) -> Path:
    """Return the `config.yml` meant by a path: itself, or the newest one below a folder.

    Raises:
        FileNotFoundError: If there is none.
    """
    if config_or_folder.is_file():
        return config_or_folder
    found = sorted(config_or_folder.rglob("config.yml"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise FileNotFoundError(
            f"No config.yml at or below {config_or_folder}; expected the output of `ns-train"
            " gaussiantalker`, such as outputs/me/gaussiantalker/2026-01-31_120000/config.yml."
        )
    return found[-1]


def check_checkpoint(path: Path) -> None:
    """Check that a checkpoint is whole, without reading its tensors.

    Raises:
        ValueError: If it is not.
    """
    import torch

    try:
        state = torch.load(path, map_location="cpu", mmap=True)
    except (RuntimeError, LookupError, OSError, EOFError, ValueError, UnpicklingError) as error:
        raise damaged(path, f"is damaged ({one_line(error)})") from error
    if not isinstance(state, dict) or not {"pipeline", "step"} <= state.keys():
        raise damaged(path, "holds no trained model")


def pointed_to_checkpoint(config: "TrainerConfig", config_path: Path) -> "TrainerConfig":
    """Point a run to the newest checkpoint beside its config, wherever it was trained.

    Nerfstudio looks below the output folder of the training, relative to the current folder, and
    ends the program if there is none.

    Raises:
        FileNotFoundError: If there is no checkpoint.
    """
    folder = config_path.resolve().parent / config.relative_model_dir
    steps = [int(path.stem.removeprefix("step-")) for path in folder.glob(CHECKPOINT_NAMES)]
    if not steps:
        state = "holds no checkpoint" if folder.is_dir() else "is not there"
        raise FileNotFoundError(
            f"{folder} {state}; expected the run's step-*.ckpt files, as {config_path} belongs to a"
            " run. Copy the whole folder of the run, or train it until a checkpoint is saved."
        )
    # Joined to the output folder, an absolute path stays as it is.
    config.relative_model_dir = folder
    config.load_step = max(steps)
    return config


def pointed_to_data(
    config: "TrainerConfig", config_path: Path, data: Path | None
) -> "TrainerConfig":
    """Make sure that a run's data set is there, or point the run to where it is now.

    Raises:
        FileNotFoundError: If the folder does not exist.
    """
    manager = config.pipeline.datamanager
    if data is not None:
        manager.data = data
    folder = manager.data or getattr(getattr(manager, "dataparser", None), "data", None)
    if folder is None or not Path(folder).is_dir():
        raise FileNotFoundError(
            f"{config_path} was trained on the data set {folder}, which is not there (relative"
            f" paths count from {Path.cwd()}); expected its folder. Name it with --data."
        )
    return config


def with_recorded_encoder(config: "TrainerConfig") -> "TrainerConfig":
    """Read the features of the training also if the data set has got better ones since."""
    import torch

    assert config.relative_model_dir.is_absolute() and config.load_step is not None
    path = config.relative_model_dir / f"step-{config.load_step:09d}.ckpt"
    state = torch.load(path, map_location="cpu", weights_only=False, mmap=True)["pipeline"]
    recorded = next((state[key] for key in state if key.endswith("bank._extra_state")), {})
    parser = getattr(config.pipeline.datamanager, "dataparser", None)
    if parser is not None and "audio_encoder" in recorded:
        parser.audio_encoder = known_encoder(recorded["audio_encoder"], path)
    return config


def known_encoder(name: str, checkpoint: Path) -> str:
    """The encoder that a checkpoint records, if this version knows its features.

    Raises:
        ValueError: It does not, as of a version that had another one.
    """
    if name not in AUDIO_FEATURE_FILES:
        raise ValueError(
            f"{checkpoint} was trained on features of the audio encoder '{name}', which this"
            f" version does not have; expected one of {', '.join(AUDIO_FEATURE_FILES)}. Give the"
            " data set features with `gaussiantalker process --only audio --output-dir DATA`, then"
            " train again."
        )
    return name


def load_checkpoint(config_or_folder: Path, data: Path | None = None) -> LoadedCheckpoint:
    """Load the newest checkpoint of a run for rendering.

    Args:
        config_or_folder: The run's `config.yml`, or a folder above it.
        data: The data set's folder, if it has moved since the training.

    Raises:
        FileNotFoundError: If there is no config, checkpoint or data set.
        ValueError: If the run belongs to another method.
    """
    return load_pipeline(find_config(Path(config_or_folder)), data, "inference")[0]


def load_pipeline(
    config_path: Path, data: Path | None, test_mode: Literal["inference", "test"]
) -> "tuple[LoadedCheckpoint, Pipeline]":
    """Load the newest checkpoint of a run; `test` brings the held-out frames along.

    The run's folder may have been moved since the training.

    Raises:
        FileNotFoundError: If there is no checkpoint or data set.
        ValueError: If the run belongs to another method, or one of its files is damaged.
    """
    from nerfstudio.utils.eval_utils import eval_setup

    from gaussiantalker_ns.model import GaussianTalkerModel

    def point(trained: "TrainerConfig") -> "TrainerConfig":
        pointed = pointed_to_checkpoint(trained, config_path)
        check_checkpoint(pointed.relative_model_dir / f"step-{pointed.load_step:09d}.ckpt")
        return with_recorded_encoder(pointed_to_data(pointed, config_path, data))

    with readable_config(config_path) as readable:
        check_config(config_path, readable)
        try:
            config, pipeline, checkpoint, step = eval_setup(
                readable, test_mode=test_mode, update_config_callback=point
            )
        except RuntimeError as error:
            if "loading state_dict" not in str(error):
                raise
            raise damaged(
                config_path, f"does not fit its checkpoint ({one_line(error)})"
            ) from error
    model = pipeline.model
    if not isinstance(model, GaussianTalkerModel):
        raise ValueError(
            f"{config_path} belongs to the method {config.method_name}; expected gaussiantalker or"
            " one of its presets."
        )
    loaded = LoadedCheckpoint(
        model=model.eval(),
        method=str(config.method_name),
        path=checkpoint,
        step=step,
        config_path=config_path,
        config=config,
        layout=DatasetLayout(Path(pipeline.datamanager.get_datapath())),
    )
    return loaded, pipeline
