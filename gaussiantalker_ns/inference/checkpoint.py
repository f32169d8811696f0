"""Finding and loading a trained model: by its config, its run, or a folder of runs.

A run is a configuration of Nerfstudio's trainer. Nerfstudio is therefore imported when one is
loaded, and not before: what uses a talker starts without it.
"""

import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig
    from nerfstudio.pipelines.base_pipeline import Pipeline

    from gaussiantalker_ns.model import GaussianTalkerModel

CHECKPOINT_NAMES = f"step-{'[0-9]' * 9}.ckpt"
"""Pattern of the files that Nerfstudio's trainer saves."""

RENAMED = {
    "trainer": "engine.trainer",
    "optimizers": "engine.optimizers",
    "datamanager": "data.datamanager",
    "densification": "gaussians.densification",
    "head": "fields.talking_head",
    "fields.fusion": "fields.attention",
    "objective": "losses.objective",
}
"""Modules of the package that configurations from before 0.1.0 name, and where they are now."""

RENAMED_FIELDS = {"above_mouth": "upper_face_only", "rest_share": "silence_prob"}
"""The same for fields."""


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


def with_current_names(config: str) -> str:
    """The text of a run's configuration with the present names of modules and fields.

    Example: `gaussiantalker_ns.head.TalkingHeadConfig` becomes
    `gaussiantalker_ns.fields.talking_head.TalkingHeadConfig`.
    """
    modules = "|".join(re.escape(name) for name in RENAMED)
    config = re.sub(
        rf"(?<=gaussiantalker_ns\.)({modules})(?=\.[A-Z])", lambda found: RENAMED[found[1]], config
    )
    fields = "|".join(RENAMED_FIELDS)
    return re.sub(
        rf"(?m)^( +)({fields})(?=:)", lambda found: found[1] + RENAMED_FIELDS[found[2]], config
    )


@contextmanager
def readable_config(config_path: Path) -> Iterator[Path]:
    """A configuration with present names: the file itself, or a translated copy with a notice."""
    text = config_path.read_text(encoding="utf-8")
    current = with_current_names(text)
    if current == text:
        yield config_path
        return
    warnings.warn(
        f"{config_path} is from before 0.1.0; its older names are translated", stacklevel=4
    )
    with tempfile.TemporaryDirectory(prefix="gaussiantalker-config-") as folder:
        copy = Path(folder) / config_path.name
        copy.write_text(current, encoding="utf-8")
        yield copy


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
        parser.audio_encoder = recorded["audio_encoder"]
    return config


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
        ValueError: If the run belongs to another method.
    """
    from nerfstudio.utils.eval_utils import eval_setup

    from gaussiantalker_ns.model import GaussianTalkerModel

    def point(trained: "TrainerConfig") -> "TrainerConfig":
        config = pointed_to_data(pointed_to_checkpoint(trained, config_path), config_path, data)
        return with_recorded_encoder(config)

    with readable_config(config_path) as readable:
        config, pipeline, checkpoint, step = eval_setup(
            readable, test_mode=test_mode, update_config_callback=point
        )
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
