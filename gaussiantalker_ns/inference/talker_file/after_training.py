"""The talker file that a training writes beside its run's configuration when it ends."""

from pathlib import Path
from typing import TYPE_CHECKING

from gaussiantalker_ns.audio.encoders.registry import READY_MADE
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.inference.checkpoint import LoadedCheckpoint
from gaussiantalker_ns.inference.talker_file.archive import SUFFIX
from gaussiantalker_ns.inference.talker_file.pack import pack

if TYPE_CHECKING:
    from nerfstudio.engine.callbacks import TrainingCallback
    from nerfstudio.engine.trainer import Trainer

    from gaussiantalker_ns.model import GaussianTalkerModel


def pack_at_end(
    model: "GaussianTalkerModel", trainer: "Trainer", layout: DatasetLayout
) -> "TrainingCallback":
    """The callback that packs a model after its last checkpoint is saved.

    Args:
        model: The model in training.
        trainer: Whose run it is.
        layout: The data set.
    """
    from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
    from nerfstudio.utils.rich_utils import CONSOLE
    from rich.text import Text

    def write(step: int) -> None:
        sentence = pack_trained(model, trainer, step, layout)
        CONSOLE.print(Text(sentence), soft_wrap=True)

    return TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN], write)


def pack_trained(
    model: "GaussianTalkerModel", trainer: "Trainer", step: int, layout: DatasetLayout
) -> str:
    """Pack a model whose training has ended; returns what to tell its user.

    What goes wrong does not end the training, whose checkpoint is saved.
    """
    config = trainer.config
    config_path = trainer.base_dir / "config.yml"
    checkpoint = LoadedCheckpoint(
        model=model,
        method=str(config.method_name),
        path=Path(trainer.checkpoint_dir) / f"step-{step:09d}.ckpt",
        step=step,
        config_path=config_path,
        config=config,
        layout=layout,
    )
    output = trainer.base_dir / f"{config.experiment_name}{SUFFIX}"
    model.eval()
    try:
        pack(checkpoint, output, overwrite=True)
    except (OSError, ValueError) as error:
        return (
            f"No talker file was written: {error} The checkpoint is complete; `gaussiantalker pack"
            f" --load-config {config_path} --output {output.name}` makes the file later."
        )
    finally:
        model.train()
    # A run on ready features hears no sound; whoever is told otherwise meets an error next.
    speech = "speech.npy" if model.bank.audio_encoder in READY_MADE else "speech.wav"
    return f"Wrote {output}: `gaussiantalker drive --talker {output} --audio {speech}` uses it."
