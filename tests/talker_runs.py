"""Short training runs on the synthetic head, through Nerfstudio's own trainer."""

import copy
import shutil
from pathlib import Path

import torch
import yaml
from nerfstudio.engine.callbacks import TrainingCallbackLocation as Location
from nerfstudio.engine.trainer import Trainer, TrainerConfig

from gaussiantalker_ns.config import gaussiantalker_cpu


def small_config(
    data: Path, output_dir: Path, canonical_steps: int, num_steps: int
) -> TrainerConfig:
    """The preset for CPUs, shrunk to a 64-pixel head of 400 Gaussians."""
    config = copy.deepcopy(gaussiantalker_cpu.config)
    config.data = data
    config.output_dir = output_dir
    config.experiment_name = "synthetic"
    config.timestamp = "run"
    config.machine.device_type = "cpu"
    config.vis = "tensorboard"
    config.max_num_iterations = num_steps
    config.steps_per_save = 1000
    config.steps_per_eval_batch = config.steps_per_eval_image = 1000
    config.steps_per_eval_all_images = 1000
    config.logging.local_writer.enable = False
    pipeline = config.pipeline
    pipeline.canonical_steps = canonical_steps
    pipeline.num_threads = 1
    pipeline.datamanager.data = data
    pipeline.datamanager.dataparser.image_size = 64
    pipeline.datamanager.dataparser.num_points = 400
    pipeline.model.head.triplane.resolutions = (16, 32)
    pipeline.model.head.triplane.channels = 8
    pipeline.model.head.tokens.viewpoint_dropout = 0.0
    pipeline.model.silence_prob = 0.0
    pipeline.model.articulation.steps = 10
    return config


def start(config: TrainerConfig) -> Trainer:
    """Write the configuration and build the trainer, as `ns-train` does."""
    torch.manual_seed(config.machine.seed)
    config.save_config()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    return trainer


def run(config: TrainerConfig) -> Trainer:
    """Train to the end and return the trainer."""
    trainer = start(config)
    trainer.train()
    return trainer


def step(trainer, number: int) -> dict[str, torch.Tensor]:
    """One iteration of the trainer's loop."""
    trainer.step = number
    trainer.pipeline.train()
    for callback in trainer.callbacks:
        callback.run_callback_at_location(number, Location.BEFORE_TRAIN_ITERATION)
    _, losses, _ = trainer.train_iteration(number)
    for callback in trainer.callbacks:
        callback.run_callback_at_location(number, Location.AFTER_TRAIN_ITERATION)
    return losses


def moved_run(config_path: Path, folder: Path) -> Path:
    """Copy a run into a new folder; where it was trained, and on what, is not there any more."""
    shutil.copytree(config_path.parent, folder)
    moved = folder / "config.yml"
    config = yaml.load(moved.read_text(), Loader=yaml.Loader)
    config.output_dir = Path("outputs")
    config.data = config.pipeline.datamanager.data = Path("data-of-the-training")
    moved.write_text(yaml.dump(config))
    return moved
