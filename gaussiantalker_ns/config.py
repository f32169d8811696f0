"""The method specifications: the one place where the parts meet."""

from dataclasses import dataclass
from typing import Any

import torch
from nerfstudio.configs.base_config import MachineConfig, ViewerConfig
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.plugins.types import MethodSpecification

from gaussiantalker_ns.audio.articulation import ArticulationConfig
from gaussiantalker_ns.data.datamanager import GaussianTalkerDataManagerConfig
from gaussiantalker_ns.dataparsers.talking_head import TalkingHeadDataParserConfig
from gaussiantalker_ns.engine.optimizers import FusedAdamConfig, StageDecaySchedulerConfig
from gaussiantalker_ns.engine.trainer import WholeCheckpointTrainer
from gaussiantalker_ns.fields.attention import SpatialAudioAttentionConfig
from gaussiantalker_ns.fields.audio_encoder import AudioEncoderConfig
from gaussiantalker_ns.fields.canonical import CanonicalFieldConfig
from gaussiantalker_ns.fields.deformation import DeformationHeadsConfig
from gaussiantalker_ns.fields.talking_head import TalkingHeadConfig
from gaussiantalker_ns.fields.tokens import ConditionTokensConfig
from gaussiantalker_ns.gaussians.densification import DensificationConfig
from gaussiantalker_ns.losses.objective import ObjectiveConfig
from gaussiantalker_ns.model import GaussianTalkerModelConfig
from gaussiantalker_ns.pipeline import GaussianTalkerPipelineConfig

SCENE_EXTENT = 1.8
"""Factor of the public code on the rates of positions, planes and networks, in decimetres: 1.1
times the farthest camera from the mean camera, for its Obama clip. Differs from GaussianTalker: a
constant, else a person who sits still learns slowly."""


@dataclass(frozen=True)
class Rate:
    """The learning rate of one parameter group."""

    base: float
    """Rate at the start of each stage."""
    canonical_final: float = 1.0
    """What is left of it at the end of the canonical stage."""
    deformation_final: float = 1.0
    """What is left of it at the end of the deformation stage."""


@dataclass(frozen=True)
class LearningRates:
    """Learning rates of all parameter groups; the defaults are the public code's.

    There, rates fall exponentially over 20 000 steps, of which the stages last 8000 and 10 000.
    """

    means: Rate = Rate(1.6e-4 * SCENE_EXTENT, 0.01**0.4, 0.01**0.5)
    """Positions."""
    scales: Rate = Rate(5e-3)
    """Logarithms of the scales."""
    quats: Rate = Rate(1e-3)
    """Rotations."""
    opacities: Rate = Rate(5e-2)
    """Opacities before the sigmoid."""
    features_dc: Rate = Rate(2.5e-3)
    """Constant colour coefficients."""
    features_rest: Rate = Rate(1.25e-4)
    """Directional colour coefficients."""
    triplane: Rate = Rate(1.6e-3 * SCENE_EXTENT, 0.1**0.4, 0.1**0.5)
    """The planes."""
    canonical_field: Rate = Rate(1e-4 * SCENE_EXTENT, 0.1**0.4, 0.1**0.5)
    """F_can."""
    deformation: Rate = Rate(1e-4 * SCENE_EXTENT, 0.1**0.4, 0.1**0.5)
    """Token networks, attention and deformation heads."""


def optimizers(rates: LearningRates) -> dict[str, Any]:
    """Optimiser and schedule of every parameter group; all methods share this list.

    Args:
        rates: Learning rates.
    """
    groups: dict[str, Any] = {}
    for name, rate in vars(rates).items():
        groups[name] = {
            "optimizer": FusedAdamConfig(lr=rate.base),
            "scheduler": StageDecaySchedulerConfig(
                canonical_final=rate.canonical_final, deformation_final=rate.deformation_final
            ),
        }
    return groups


def trainer(
    method_name: str,
    pipeline: GaussianTalkerPipelineConfig,
    num_steps: int,
    rates: LearningRates,
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
    `docs/paper.md` compares every setting with the paper and its code.
    """
    return GaussianTalkerPipelineConfig(
        datamanager=GaussianTalkerDataManagerConfig(
            dataparser=TalkingHeadDataParserConfig(num_points=None)
        ),
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
            initial_opacity=0.3,
            # The raw signal alone lets the rim of the head follow errors of the tracked pose.
            viewpoint_gain=10.0,
            articulation=ArticulationConfig(enabled=True),
            head=TalkingHeadConfig(
                sh_degree=1,
                canonical=CanonicalFieldConfig(canonical_attributes=()),
                tokens=ConditionTokensConfig(
                    upper_face_only=("eye", "viewpoint"),
                    viewpoint_dropout=0.1,
                    audio_encoder=AudioEncoderConfig(
                        channels=(64,),
                        code_width=64,
                        attention_channels=(16, 4),
                        feature_dropout=0.1,
                    ),
                ),
                attention=SpatialAudioAttentionConfig(
                    num_layers=1, feed_forward_width=0, dropout=0.0
                ),
                deformation=DeformationHeadsConfig(joint=True),
            ),
            objective=ObjectiveConfig(lips=0.8, perceptual=0.0, delta=1e-3, mean_over="crop"),
            densification=DensificationConfig(
                grow=False, start=300, stop=800, absolute_gradient=True, prune_scale=None
            ),
        ),
    )


def cpu_rates() -> LearningRates:
    """Rates of the preset for CPUs: higher, and a calmer end, for a training of minutes."""
    bases = {
        "means": 4e-4,
        "scales": 5e-3,
        "quats": 1e-3,
        "opacities": 2e-2,
        "features_dc": 2.5e-3,
        "features_rest": 5e-4,
        "triplane": 5e-3,
        "canonical_field": 1e-3,
        "deformation": 1e-3,
    }
    return LearningRates(**{name: Rate(base, 0.03, 0.03) for name, base in bases.items()})


gaussiantalker = MethodSpecification(
    config=trainer(
        "gaussiantalker", paper_pipeline(2), 18_000, LearningRates(), steps_per_eval=5000
    ),
    description="GaussianTalker: audio-driven talking head, two attention layers (the full model).",
)

gaussiantalker_lite = MethodSpecification(
    config=trainer(
        "gaussiantalker-lite", paper_pipeline(1), 18_000, LearningRates(), steps_per_eval=5000
    ),
    description="GaussianTalker*: one attention layer, faster.",
)

gaussiantalker_cpu = MethodSpecification(
    config=trainer("gaussiantalker-cpu", cpu_pipeline(), 6000, cpu_rates(), steps_per_eval=2000),
    description="GaussianTalker at 256 px with few Gaussians: trains in minutes without a GPU.",
)
