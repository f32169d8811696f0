"""GaussianTalker as a Nerfstudio model: cameras and frame numbers in, pictures out.

The network is `TalkingHead`; this module finds out which frame a camera means, renders, and speaks
Nerfstudio's interface. It has more than 300 lines, because Nerfstudio asks all of it of one class.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.callbacks import (
    TrainingCallback,
    TrainingCallbackAttributes,
    TrainingCallbackLocation,
)
from nerfstudio.models.base_model import ModelConfig
from torch import Tensor, nn

from gaussiantalker_ns.audio.articulation import ArticulationConfig
from gaussiantalker_ns.data.conditions import FrameConditions
from gaussiantalker_ns.data.eye_signal import EyeForm
from gaussiantalker_ns.dataparsers.cameras import head_pose_from_camera_to_worlds
from gaussiantalker_ns.engine.optimizers import Stage
from gaussiantalker_ns.fields.talking_head import (
    TalkingHead,
    TalkingHeadConfig,
    with_audio_window,
)
from gaussiantalker_ns.frame_signals import FrameCondition
from gaussiantalker_ns.gaussians.densification import DensificationConfig, DensificationStrategy
from gaussiantalker_ns.gaussians.gaussians import Gaussians
from gaussiantalker_ns.gaussians.initialization import gaussian_parameters
from gaussiantalker_ns.losses.objective import Objective, ObjectiveConfig, to_float
from gaussiantalker_ns.metrics.image import decibels, region_metrics
from gaussiantalker_ns.model_outputs import ViewableModel, viewing_outputs
from gaussiantalker_ns.rendering.background import Background, TorsoMode
from gaussiantalker_ns.rendering.compositing import alpha_composite
from gaussiantalker_ns.rendering.rasterize import Backend
from gaussiantalker_ns.rendering.splatting import RenderedHead, Views, splat_colors
from gaussiantalker_ns.splatfacto_adapter import CanonicalSplats

VIEWER_BACKGROUND = (0.1490, 0.1647, 0.2157)
"""Colour behind the head-only output: that of an empty viewer."""


@dataclass
class GaussianTalkerModelConfig(ModelConfig):
    """The model; defaults are the paper's unless a field says otherwise."""

    _target: type = field(default_factory=lambda: GaussianTalkerModel)
    """Class to build."""
    head: TalkingHeadConfig = field(default_factory=TalkingHeadConfig)
    """The network."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """Weights of the losses."""
    densification: DensificationConfig = field(default_factory=DensificationConfig)
    """Growing and pruning in the canonical stage."""
    initial_opacity: float = 0.1
    """Opacity of every Gaussian at the start, in (0, 1), where it is free; F_can's start at 0.5."""
    sh_degree_interval: int = 1000
    """Steps, >= 1, after which the next degree of the spherical harmonics is switched on."""
    eye_form: EyeForm = "expression"
    """Signal of the eye token: 17 upper-face blendshapes, or the paper's blink value (au45)."""
    viewpoint_gain: float = 1.0
    """Factor, > 0, on how far a camera lies from the middle of the training's in the viewpoint
    signal; 1 is the paper's raw camera."""
    articulation: ArticulationConfig = field(default_factory=ArticulationConfig)
    """The articulation code, which the audio token may read instead of raw features."""
    silence_prob: float = 0.08
    """Fraction of training frames, in [0, .15], that get silence; all of them have closed lips."""
    torso_mode: TorsoMode = "layer"
    """What the head is laid over: torso layer (the paper), background alone, or the source
    frame."""
    rasterizer: Backend = "auto"
    """Backend of the rasterizer; auto takes gsplat on CUDA and numba on CPU."""

    def __post_init__(self) -> None:
        if not 0.0 < self.initial_opacity < 1.0:
            raise ValueError(
                f"initial_opacity is {self.initial_opacity}; expected a number above 0 and below 1."
                " Change --pipeline.model.initial-opacity."
            )
        if not self.viewpoint_gain > 0:
            raise ValueError(
                f"viewpoint_gain is {self.viewpoint_gain}; expected a factor above 0. Change"
                " --pipeline.model.viewpoint-gain."
            )
        if self.sh_degree_interval < 1:
            raise ValueError(
                f"sh_degree_interval is {self.sh_degree_interval}; expected at least 1 step."
                " Change --pipeline.model.sh-degree-interval."
            )

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Read a run's configuration; one from before the articulation code has raw features."""
        self.__dict__.update({"articulation": ArticulationConfig(), **state})

    @property
    def sh_degree(self) -> int:
        """Degree of the spherical harmonics; the exporter reads it here."""
        return self.head.sh_degree


class GaussianTalkerModel(CanonicalSplats, ViewableModel):
    """Audio-driven Gaussians with Nerfstudio's model interface.

    Attributes:
        bank: Conditions of all frames; `bank.overrides` and `bank.set_audio` change what the head
            does.
        viewer_frame: Frame shown to cameras that name none; None follows their `times`.
        stage: Training stage; the pipeline sets it.
    """

    config: GaussianTalkerModelConfig  # pyright: ignore[reportIncompatibleVariableOverride]

    def populate_modules(self) -> None:
        """Build everything from the data parser's metadata; nothing of Splatfacto's is built."""
        config, metadata = self.config, self.kwargs["metadata"]
        # Checkpoints know the conditions by this name.
        self.bank = FrameConditions(
            metadata["track"],
            config.eye_form,
            config.head.tokens.audio_encoder.window_frames,
            metadata.get("closed_lip_frames"),
            metadata.get("silence_features"),
            config.viewpoint_gain,
            config.articulation,
        )
        gaussians = gaussian_parameters(
            metadata["points"], metadata["point_colors"], config.sh_degree, config.initial_opacity
        )
        frames, *audio_shape = self.bank.audio_shape
        self.head = TalkingHead(
            with_audio_window(config.head, frames),
            gaussians,
            metadata["bounds"],
            metadata["mouth_border"],
            audio_shape=(audio_shape[0], audio_shape[1]),
            eye_size=self.bank.eye_size,
        )
        frame_side = metadata["layers"].size
        self.objective = Objective(config.objective, frame_side**2)
        self.densifier = DensificationStrategy(config.densification, frame_side)
        self.background = Background(metadata["layers"], metadata["intrinsics"], config.torso_mode)
        self.stage = Stage.CANONICAL
        self.step = 0
        self.viewer_frame: int | None = None
        self.crop_box: OrientedBox | None = None
        self.background_color = torch.tensor(VIEWER_BACKGROUND)
        self._cached_canonical: tuple[Tensor, Gaussians] | None = None
        self._info: dict[str, Any] = {}
        self._optimizers: dict[str, torch.optim.Optimizer] = {}

    # From cameras to frames and Gaussians.

    def frames_of(self, camera: Cameras, batch: dict[str, Any] | None = None) -> Int[Tensor, " b"]:
        """Find out which frame each camera shows.

        The order is: the batch or the camera's metadata, the viewer's override, the camera's time,
        frame 0.
        """
        count = camera.size
        if batch is not None and "frame" in batch:
            return torch.as_tensor(batch["frame"]).reshape(-1).to(self.device)
        if camera.metadata is not None and "frame" in camera.metadata:
            return torch.as_tensor(camera.metadata["frame"]).reshape(-1).to(self.device)
        if self.viewer_frame is not None:
            return torch.full((count,), self.viewer_frame, device=self.device)
        if camera.times is not None:
            return self.bank.frames_at(camera.times.reshape(-1).to(self.device))
        return torch.zeros(count, dtype=torch.long, device=self.device)

    def views_of(self, camera: Cameras, size: tuple[int, int] | None = None) -> Views:
        """OpenCV views of Nerfstudio cameras, which all must have one size.

        Args:
            camera: The cameras.
            size: Width and height; None reads them, for which the host has to wait for a GPU.
        """
        camera = camera.to(self.device)
        poses = head_pose_from_camera_to_worlds(camera.camera_to_worlds.reshape(-1, 3, 4))
        if size is None:
            size = int(camera.width.reshape(-1)[0]), int(camera.height.reshape(-1)[0])
        # Nerfstudio's `get_intrinsics_matrices` is built in main memory, number by number.
        numbers = (camera.fx, camera.fy, camera.cx, camera.cy)
        fx, fy, cx, cy = (number.reshape(-1).float() for number in numbers)
        zero, one = torch.zeros_like(fx), torch.ones_like(fx)
        Ks = torch.stack([fx, zero, cx, zero, fy, cy, zero, zero, one], dim=1).reshape(-1, 3, 3)
        return Views(poses, Ks, *size)

    def cached_canonical(self) -> tuple[Float[Tensor, "n f"], Gaussians]:
        """Tri-plane features and canonical Gaussians, kept between frames outside the training."""
        if self._cached_canonical is None or self.training or torch.is_grad_enabled():
            features = self.head.features()
            cached = features, self.head.canonical(features)
            if self.training or torch.is_grad_enabled():
                return cached
            self._cached_canonical = cached
        return self._cached_canonical

    def canonical_gaussians(self) -> Gaussians:
        """The mean shape of the head."""
        if self.training and not self.head.canonical_field.predicted:
            return self.head.canonical()
        return self.cached_canonical()[1]

    def deformed_gaussians(self, condition: FrameCondition) -> Gaussians:
        """The head in b frames; the mean shape until the deformation stage has begun."""
        if self.stage is Stage.CANONICAL:
            return self.canonical_gaussians()
        features, canonical = self.cached_canonical()
        return canonical.deformed(self.head.deltas(features, condition))

    @property
    def rasterizer(self) -> Backend:
        """Which backend draws the Gaussians."""
        return self.config.rasterizer

    def splat(self, gaussians: Gaussians, views: Views, absgrad: bool = False) -> RenderedHead:
        """Render the head alone."""
        degree = min(self.step // self.config.sh_degree_interval, self.config.sh_degree)
        return splat_colors(gaussians, views, degree, self.rasterizer, absgrad)

    # Nerfstudio's interface.

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, ray_bundle: Cameras, batch: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Render cameras; see `get_outputs`."""
        return self.get_outputs(ray_bundle, batch)

    def get_outputs(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, camera: Cameras, batch: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Render cameras of one size; the batch, where there is one, brings the backgrounds.

        In training the pictures have a batch axis; otherwise a single camera's have none, and
        outputs beyond the composed picture are made when they are read.
        """
        if self.training:
            assert batch is not None, "training needs the batch's backgrounds"
            return self._training_outputs(camera, batch)
        return viewing_outputs(self, camera, batch)

    def _training_outputs(self, camera: Cameras, batch: dict[str, Any]) -> dict[str, Any]:
        height, width = batch["background"].shape[1:3]
        frames, views = self.frames_of(camera, batch), self.views_of(camera, (width, height))
        deltas = None
        if self.stage is Stage.CANONICAL:
            gaussians = self.canonical_gaussians()
        else:
            features, canonical = self.cached_canonical()
            condition = self.bank.training_condition(frames, self.config.silence_prob)
            deltas = self.head.deltas(features, condition)
            gaussians = canonical.deformed(deltas)
        densify = self.densifier.runs_at(self.step)
        absgrad = densify and self.config.densification.absolute_gradient
        head = self.splat(gaussians, views, absgrad=absgrad)
        if densify:
            self.densifier.before_backward(head.info)
            self._info = head.info
        background = to_float(batch["background"], head.rgb)
        rgb = alpha_composite(head.rgb, head.alpha, background)
        return {"rgb": rgb, "head": head.rgb, "accumulation": head.alpha, "deltas": deltas}

    @torch.no_grad()
    def get_outputs_for_camera(
        self, camera: Cameras, obb_box: OrientedBox | None = None
    ) -> dict[str, Any]:
        """Render one camera for viewer, evaluation or video."""
        self.set_crop(obb_box)
        return self.get_outputs(camera.to(self.device))

    def get_rgba_image(
        self, outputs: dict[str, Any], output_name: str = "rgb"
    ) -> Float[Tensor, "h wd 4"]:
        """The head alone with straight alpha."""
        alpha = outputs["accumulation"]
        plain = (1.0 - alpha) * self.background_color.to(alpha)
        return torch.cat([(outputs["head"] - plain) / alpha.clamp_min(1e-6), alpha], dim=-1)

    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Tensor]:
        """Figures for the training log."""
        with torch.no_grad():
            rgb = outputs["rgb"].detach()
            # Left on the device, which nobody has to wait for in steps that are not logged.
            quality = decibels(F.mse_loss(rgb, to_float(batch["image"], rgb)))
        count = torch.tensor(float(len(self.gauss_params["means"])))
        return {"psnr": quality, "gaussian_count": count}

    def get_loss_dict(
        self,
        outputs: dict[str, Any],
        batch: dict[str, Any],
        metrics_dict: dict[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """The weighted terms of the objective."""
        return self.objective(outputs["rgb"], outputs["accumulation"], outputs.get("deltas"), batch)

    def get_image_metrics_and_images(
        self, outputs: dict[str, Any], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Measure one evaluation frame; the picture shows truth, render and difference."""
        rgb = outputs["rgb"]
        truth = to_float(batch["image"], rgb)
        boxes = {
            name: [int(value) for value in batch[f"{name}_box"].reshape(-1)]
            for name in ("face", "lips", "eyes")
            if f"{name}_box" in batch
        }
        mask = to_float(batch["head_mask"], rgb) if "head_mask" in batch else None
        metrics = region_metrics(rgb, truth, boxes, mask)
        difference = (0.5 + 2.0 * (rgb - truth)).clamp(0, 1)
        return metrics, {"img": torch.cat([truth, rgb, difference], dim=1)}

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        """What the optimisers of these names train, see `TalkingHead.parameter_groups`."""
        return self.head.parameter_groups()

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """Keep the step up to date and refine the Gaussians after it."""
        optimizers = training_callback_attributes.optimizers
        assert optimizers is not None, "training callbacks come with optimisers"
        self._optimizers = optimizers.optimizers
        before = TrainingCallbackLocation.BEFORE_TRAIN_ITERATION
        after = TrainingCallbackLocation.AFTER_TRAIN_ITERATION
        return [
            TrainingCallback([before], self.update_to_step),
            TrainingCallback([after], self._refine),
        ]

    def update_to_step(self, step: int) -> None:
        """Remember the training step, which switches on degrees of the spherical harmonics."""
        self.step = step

    def _refine(self, step: int) -> None:
        if self.densifier.runs_at(step):
            if self.head.canonical_field.predicted and self.densifier.refines_at(step):
                self.head.write_predicted()
            self.densifier.after_step(self.gauss_params, self._optimizers, step, self._info)

    def train(self, mode: bool = True) -> "GaussianTalkerModel":
        """Switch between training and rendering; what was kept for rendering is dropped."""
        self._cached_canonical = None
        super().train(mode)
        return self

    def load_state_dict(self, state_dict: dict[str, Any], **kwargs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Load a checkpoint with any number of Gaussians.

        Tensors are resized in place: the optimisers, which exist by now, hold on to them.
        """
        self._cached_canonical = None
        for name, parameter in self.gauss_params.items():
            stored = state_dict[f"head.gauss_params.{name}"]
            parameter.data = torch.zeros_like(stored, device=parameter.device)
        return nn.Module.load_state_dict(self, state_dict, **kwargs)
