"""The two training stages (Sec. 4.4.1) as a Nerfstudio pipeline, and the measures of a split."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from nerfstudio.engine.callbacks import (
    TrainingCallback,
    TrainingCallbackAttributes,
    TrainingCallbackLocation,
)
from nerfstudio.pipelines.base_pipeline import Pipeline, VanillaPipeline, VanillaPipelineConfig
from nerfstudio.utils.rich_utils import CONSOLE
from rich.progress import track
from torch import Tensor
from torch.cuda.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel

from gaussiantalker_ns.data.datamanager import (
    GaussianTalkerDataManager,
    GaussianTalkerDataManagerConfig,
)
from gaussiantalker_ns.data.speech_setup import (
    fit_speech_codes,
    silence_features,
    tell_of_ready_features,
)
from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.engine.optimizers import Stage, stage_at
from gaussiantalker_ns.engine.progress import TrainingProgress
from gaussiantalker_ns.engine.runtime import provide_ffmpeg, use_threads
from gaussiantalker_ns.engine.trainer import bind_schedules
from gaussiantalker_ns.evaluation.training_eval import evaluate_frames
from gaussiantalker_ns.inference.external_audio import drive_from_environment
from gaussiantalker_ns.inference.talker_file.after_training import pack_at_end
from gaussiantalker_ns.model import GaussianTalkerModel, GaussianTalkerModelConfig
from gaussiantalker_ns.rendering.rasterize import choose_backend, warm_up
from gaussiantalker_ns.viewer.timeline_control import AudioTimeline


@dataclass
class GaussianTalkerPipelineConfig(VanillaPipelineConfig):
    """What each stage trains on and for how long."""

    _target: type = field(default_factory=lambda: GaussianTalkerPipeline)
    """Class to build."""
    canonical_steps: int = 8000
    """Steps of the canonical stage (the public code's number); 0 trains the deformation at once,
    the single-stage variant of Table 6."""
    canonical_batch_size: int = 1
    """Frames per step in the canonical stage."""
    deformation_batch_size: int = 32
    """Frames per step in the deformation stage."""
    num_threads: int | None = None
    """CPU threads of torch and the rasterizer together; None takes all cores."""
    datamanager: GaussianTalkerDataManagerConfig = field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default_factory=GaussianTalkerDataManagerConfig
    )
    """How frames are loaded and batched."""
    model: GaussianTalkerModelConfig = field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default_factory=GaussianTalkerModelConfig
    )
    """The model."""
    write_talker: bool = True
    """Pack the head into a .talker file beside the run's config when the training ends."""
    progress_dir: Path | None = None
    """Folder in which progress.json and picture.jpg, the last evaluation picture, tell other
    programs how far a training is; None writes neither."""
    measure_lips: bool = True
    """Run the face landmarker on evaluation frames and report how well the lips follow."""

    def __post_init__(self) -> None:
        for name in ("canonical_batch_size", "deformation_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; expected at least 1 frame a step."
                    f" Change --pipeline.{name.replace('_', '-')}."
                )


class GaussianTalkerPipeline(VanillaPipeline):
    """Trains the mean head first and everything together afterwards."""

    config: GaussianTalkerPipelineConfig
    datamanager: GaussianTalkerDataManager  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        config: GaussianTalkerPipelineConfig,
        device: torch.device | str,
        test_mode: Literal["test", "val", "inference"] = "val",
        world_size: int = 1,
        local_rank: int = 0,
        grad_scaler: GradScaler | None = None,
    ) -> None:
        """Build data manager and model.

        Differs from the base class, whose distributed model works on GPUs only.
        """
        Pipeline.__init__(self)
        provide_ffmpeg()
        use_threads(device, config.num_threads)
        self.config, self.test_mode = config, test_mode
        self.world_size, self.local_rank = world_size, local_rank
        if config.model.torso_mode == "gaussians":
            # Targets, masks and initial points then cover the whole person.
            setattr(config.datamanager.dataparser, "foreground", "person")  # noqa: B010
        self.datamanager = config.datamanager.setup(  # pyright: ignore[reportIncompatibleVariableOverride]
            device=device, test_mode=test_mode, world_size=world_size, local_rank=local_rank
        )
        self.datamanager.to(device)
        dataset = self.datamanager.train_dataset
        assert dataset is not None, "the data manager has no training frames"
        clip, silence = dataset.metadata["track"], None
        if test_mode == "val" and config.model.silence_prob > 0:
            window_frames = config.model.head.tokens.audio_encoder.window_frames
            silence = silence_features(self._layout, clip.audio_encoder, window_frames)
        self._model = config.model.setup(
            scene_box=dataset.scene_box,
            num_train_data=len(dataset),
            metadata={
                **dataset.metadata,
                "intrinsics": dataset.cameras[0].get_intrinsics_matrices().reshape(3, 3),
                "silence_features": silence,
            },
            device=device,
            grad_scaler=grad_scaler,
        )
        self._model.to(device)
        use_threads(device, config.num_threads, self.model.head.runs_in_kernels)
        if test_mode == "val":
            tell_of_ready_features(self._layout, clip.audio_encoder)
            self.model.objective.prepare(device)
            if config.model.articulation.enabled:
                fit_speech_codes(self.model.bank, clip.mouth)
        # Nerfstudio's viewer finds the timeline here, where there is a viewer.
        self.audio_timeline = AudioTimeline(self.model)
        self._progress: TrainingProgress | None = None
        self._stage: Stage | None = None
        self.enter_stage_of(0)
        if world_size > 1:
            self._distribute()
            if dist.get_rank() == 0:
                CONSOLE.log(
                    f"{world_size} processes train together, so the number of Gaussians stays as"
                    " it is. To let it change, train the canonical stage in one process and go on"
                    " from its checkpoint with --load-dir."
                )
        if test_mode == "val" and choose_backend(config.model.rasterizer, self.device) == "numba":
            warm_up()

    @property
    def model(self) -> GaussianTalkerModel:
        """The model itself, without the wrapper of distributed training."""
        return getattr(self._model, "module", self._model)  # pyright: ignore[reportReturnType]

    @property
    def _layout(self) -> DatasetLayout:
        return DatasetLayout(Path(self.datamanager.get_datapath()))

    def _distribute(self) -> None:
        # A changing number of Gaussians would leave the reducer with dead tensors.
        self.model.densifier.enabled = False
        on_gpu = self.device.type == "cuda"
        self._model = DistributedDataParallel(  # pyright: ignore[reportAttributeAccessIssue]
            self.model,
            device_ids=[self.local_rank] if on_gpu else None,
            find_unused_parameters=True,
            # The clip's signals are buffers: megabytes that are equal in all processes.
            broadcast_buffers=False,
        )
        dist.barrier(device_ids=[self.local_rank] if on_gpu else None)

    def enter_stage_of(self, step: int) -> None:
        """Bring model and data manager into the stage of a step; nothing happens inside a stage."""
        stage = stage_at(step, self.config.canonical_steps)
        if stage is self._stage:
            return
        entered_while_training = self._stage is not None and self.training
        self._stage = self.model.stage = stage
        canonical = stage is Stage.CANONICAL
        size = self.config.canonical_batch_size if canonical else self.config.deformation_batch_size
        self.datamanager.set_batch_size(size)
        two_stages = self.config.canonical_steps > 0
        self.model.densifier.enabled = self.world_size == 1 and (canonical or not two_stages)
        if entered_while_training:
            CONSOLE.log(
                f"The {stage.name.lower()} stage begins at step {step}, {size} frames a step"
            )

    def get_train_loss_dict(self, step: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Render and compare one training batch."""
        cameras, batch = self.datamanager.next_train(step)
        outputs = self._model(cameras, batch)
        metrics = self.model.get_metrics_dict(outputs, batch)
        return outputs, self.model.get_loss_dict(outputs, batch, metrics), metrics

    @torch.no_grad()
    def get_eval_loss_dict(self, step: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """Render and compare one evaluation frame the way training does."""
        camera, batch = self.datamanager.next_eval(step)
        # The batch axis that tensors have in training.
        batch = {k: v[None] if isinstance(v, Tensor) else v for k, v in batch.items()}
        self.eval()
        rendered = self.model.get_outputs(camera, batch)
        outputs: dict[str, Any] = {name: rendered[name][None] for name in ("rgb", "accumulation")}
        if self._stage is Stage.DEFORMATION:
            condition = self.model.bank.condition(self.model.frames_of(camera, batch))
            outputs["deltas"] = self.model.head.deltas(self.model.cached_canonical()[0], condition)
        metrics = self.model.get_metrics_dict(outputs, batch)
        losses = self.model.get_loss_dict(outputs, batch, metrics)
        self.train()
        return outputs, losses, metrics

    def get_eval_image_metrics_and_images(
        self, step: int
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Measure one evaluation frame as the base class does, and keep its picture."""
        metrics, images = super().get_eval_image_metrics_and_images(step)
        if self._progress is not None:
            self._progress.show(images["img"])
        return metrics, images

    def get_average_image_metrics(
        self,
        data_loader: Any,
        image_prefix: str,
        step: int | None = None,
        output_path: Path | None = None,
        get_std: bool = False,
    ) -> dict[str, Any]:
        """Average the figures of all frames and add how well the lips follow over the sequence.

        Differs from the base class: an average is over the frames that have the figure, and the
        speed is that of rendering alone, one frame at a time, without the measuring.
        """
        if output_path is not None:
            output_path.mkdir(parents=True, exist_ok=True)
        self.eval()
        metrics = evaluate_frames(
            self.model,
            track(data_loader, "Evaluating all images...", transient=True),
            self.config.measure_lips,
            get_std,
            None if output_path is None else output_path / image_prefix,
        )
        self.train()
        return metrics

    def load_pipeline(self, loaded_state: dict[str, Any], step: int) -> None:
        """Load a checkpoint written at `step` and enter that step's stage."""
        self.enter_stage_of(step)
        if self.world_size > 1:
            # The wrapper's buckets have the sizes of the Gaussians before.
            self._model = self.model
        super().load_pipeline(loaded_state, step)
        if self.world_size > 1:
            self._distribute()
        if self.test_mode == "inference":
            audio = drive_from_environment(self.model.bank)
            if audio is not None:
                CONSOLE.log(f"The head is driven by {audio}, not by its clip's own audio")

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """Switch stages before everything else a step does."""
        trainer = training_callback_attributes.trainer
        optimizers = training_callback_attributes.optimizers
        assert trainer is not None and optimizers is not None, "callbacks come with a trainer"
        # A resumed trainer runs `max_num_iterations` more steps.
        last = getattr(trainer, "_start_step", 0) + trainer.config.max_num_iterations
        bind_schedules(optimizers, self.config.canonical_steps, last)
        if last <= self.config.canonical_steps and self.local_rank == 0:
            CONSOLE.log(
                f"This training ends after {last} steps, inside the canonical stage of"
                f" {self.config.canonical_steps}: the head will keep its mean shape, whatever the"
                " audio. For a head that speaks, raise --max-num-iterations above that number or"
                " lower --pipeline.canonical-steps."
            )
        switch = TrainingCallback(
            [TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], self.enter_stage_of
        )
        callbacks = [switch, *super().get_training_callbacks(training_callback_attributes)]
        if self.config.progress_dir is not None and self.local_rank == 0:
            callbacks.append(self._tell_progress(getattr(trainer, "_start_step", 0), last))
        if self.config.write_talker and self.local_rank == 0:
            callbacks.append(pack_at_end(self.model, trainer, self._layout))
        return callbacks

    def _tell_progress(self, first: int, last: int) -> TrainingCallback:
        """The callback that keeps the files of `progress_dir` up to date."""
        assert self.config.progress_dir is not None, "asked for only with a folder"
        canonical_steps = self.config.canonical_steps
        self._progress = TrainingProgress(self.config.progress_dir, first, last, canonical_steps)
        return TrainingCallback(
            [TrainingCallbackLocation.AFTER_TRAIN_ITERATION], self._progress.after_step
        )
