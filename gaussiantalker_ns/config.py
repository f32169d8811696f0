"""The method specifications: the one place where the parts meet."""

from dataclasses import dataclass
from typing import Any

import torch
from nerfstudio.configs.base_config import MachineConfig, ViewerConfig
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.plugins.types import MethodSpecification

from gaussiantalker_ns.datamanager import GaussianTalkerDataManagerConfig
from gaussiantalker_ns.dataparsers.talking_head import TalkingHeadDataParserConfig
from gaussiantalker_ns.densification import DensificationConfig
from gaussiantalker_ns.fields.attention import SpatialAudioAttentionConfig
from gaussiantalker_ns.fields.canonical import CanonicalFieldConfig
from gaussiantalker_ns.fields.tokens import ConditionTokensConfig
from gaussiantalker_ns.head import TalkingHeadConfig
from gaussiantalker_ns.model import GaussianTalkerModelConfig
from gaussiantalker_ns.objective import ObjectiveConfig
from gaussiantalker_ns.optimizers import FusedAdamConfig, StageDecaySchedulerConfig
from gaussiantalker_ns.pipeline import GaussianTalkerPipelineConfig
from gaussiantalker_ns.trainer import WholeCheckpointTrainer


@dataclass(frozen=True)
class Rates:
    """Base learning rates of the parameter groups, for scenes in decimetres."""

    means: float = 4e-4
    """Positions."""
    scales: float = 5e-3
    """Logarithms of the scales."""
    quats: float = 1e-3
    """Rotations."""
    opacities: float = 2e-2
    """Opacities before the sigmoid."""
    features_dc: float = 2.5e-3
    """Constant colour coefficients."""
    features_rest: float = 5e-4
    """Directional colour coefficients."""
    triplane: float = 5e-3
    """The planes."""
    canonical_field: float = 1e-3
    """F_can."""
    deformation: float = 1e-3
    """Token networks, attention and deformation heads."""
    final_factor: float = 0.1
    """What is left of every rate at the end of a stage."""


def optimizers(rates: Rates) -> dict[str, Any]:
    """Optimiser and schedule of every parameter group; all methods share this list.

    Args:
        rates: Base learning rates.
    """
    gaussians = ("means", "scales", "quats", "opacities", "features_dc", "features_rest")
    groups: dict[str, Any] = {}
    for name in (*gaussians, "triplane", "canonical_field", "deformation"):
        groups[name] = {
            "optimizer": FusedAdamConfig(lr=getattr(rates, name)),
            "scheduler": StageDecaySchedulerConfig(final_factor=rates.final_factor),
        }
    return groups


def trainer(
    method_name: str,
    pipeline: GaussianTalkerPipelineConfig,
    num_steps: int,
    rates: Rates,
    steps_per_eval: int,
) -> TrainerConfig:
    """Build the trainer's configuration around a pipeline.

    Args:
        method_name: Name a user types after `ns-train`.
        pipeline: What is trained.
        num_steps: Steps of both stages together.
        rates: Base learning rates.
        steps_per_eval: Steps between two measurements of all evaluation frames.
    """
    return TrainerConfig(
        _target=WholeCheckpointTrainer,
        method_name=method_name,
        machine=MachineConfig(device_type="cuda" if torch.cuda.is_available() else "cpu"),
        pipeline=pipeline,
        optimizers=optimizers(rates),
        max_num_iterations=num_steps,
        mixed_precision=False,
        steps_per_save=1000,
        steps_per_eval_batch=500,
        steps_per_eval_image=500,
        steps_per_eval_all_images=steps_per_eval,
        # Nerfstudio's own default listens on all interfaces.
        viewer=ViewerConfig(
            websocket_host="127.0.0.1", num_rays_per_chunk=1 << 15, max_num_display_images=64
        ),
        vis="viewer+tensorboard",
    )


def paper_pipeline(num_layers: int) -> GaussianTalkerPipelineConfig:
    """The paper's model with L attention layers, at the data set's own resolution.

    F_can gives SH and opacity, as in the public code's configurations and in the row of Table 3
    with the figures of "Ours" in Tables 4 and 5. The text of Sec. 4.2.2 (Eq. 8) has all four
    attributes; predicted scales would not shrink when densification splits a Gaussian.
    """
    return GaussianTalkerPipelineConfig(
        datamanager=GaussianTalkerDataManagerConfig(dataparser=TalkingHeadDataParserConfig()),
        model=GaussianTalkerModelConfig(
            head=TalkingHeadConfig(
                canonical=CanonicalFieldConfig(canonical_attributes=("sh", "opacity")),
                attention=SpatialAudioAttentionConfig(num_layers=num_layers),
            )
        ),
    )


def cpu_pipeline() -> GaussianTalkerPipelineConfig:
    """The preset for machines without a GPU: small pictures, few Gaussians, short stages."""
    return GaussianTalkerPipelineConfig(
        canonical_steps=800,
        deformation_batch_size=4,
        datamanager=GaussianTalkerDataManagerConfig(
            dataparser=TalkingHeadDataParserConfig(image_size=256, num_points=8000)
        ),
        model=GaussianTalkerModelConfig(
            sh_degree_interval=400,
            head=TalkingHeadConfig(
                sh_degree=1,
                canonical=CanonicalFieldConfig(canonical_attributes=()),
                tokens=ConditionTokensConfig(
                    above_mouth=("eye", "viewpoint"), viewpoint_dropout=0.1
                ),
                attention=SpatialAudioAttentionConfig(
                    num_layers=1, feed_forward_width=0, dropout=0.0
                ),
            ),
            objective=ObjectiveConfig(lips=0.8, perceptual=0.0),
            densification=DensificationConfig(grow=False, start=300, stop=800),
        ),
    )


CPU_RATES = Rates(final_factor=0.03)
"""Rates of the preset for CPUs: a short training that ends calmer shows held-out frames better."""

gaussiantalker = MethodSpecification(
    config=trainer("gaussiantalker", paper_pipeline(2), 18_000, Rates(), steps_per_eval=5000),
    description="GaussianTalker: audio-driven talking head, two attention layers (the full model).",
)

gaussiantalker_lite = MethodSpecification(
    config=trainer("gaussiantalker-lite", paper_pipeline(1), 18_000, Rates(), steps_per_eval=5000),
    description="GaussianTalker*: one attention layer, faster.",
)

gaussiantalker_cpu = MethodSpecification(
    config=trainer("gaussiantalker-cpu", cpu_pipeline(), 6000, CPU_RATES, steps_per_eval=2000),
    description="GaussianTalker at 256 px with few Gaussians: trains in minutes without a GPU.",
)
