"""The network of the paper: canonical Gaussians on a tri-plane, deformed by the conditions of a
frame.

`TalkingHead` knows neither pictures nor Nerfstudio: it turns a `FrameCondition` into Gaussians.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gaussiantalker_ns.fields.attention import FusionConfig, SpatialAudioAttentionConfig
from gaussiantalker_ns.fields.canonical import CanonicalFieldConfig
from gaussiantalker_ns.fields.deformation import (
    DeformationCache,
    DeformationHeadsConfig,
    can_fuse,
    deform,
    precompute,
)
from gaussiantalker_ns.fields.tokens import ConditionTokensConfig, token_mask
from gaussiantalker_ns.fields.triplane import TriPlaneConfig
from gaussiantalker_ns.frame_signals import FrameCondition
from gaussiantalker_ns.gaussians.gaussians import GaussianDeltas, Gaussians


@dataclass
class TalkingHeadConfig:
    """Sizes and switches of the network; the switches are those of the paper's Tables 3 to 5."""

    sh_degree: int = 3
    """Degree of the spherical harmonics, 0 to 3."""
    triplane: TriPlaneConfig = field(default_factory=TriPlaneConfig)
    """The multi-resolution tri-plane (Eq. 7)."""
    canonical: CanonicalFieldConfig = field(default_factory=CanonicalFieldConfig)
    """F_can (Eq. 8) and which attributes it gives (Table 3); the others are free parameters."""
    tokens: ConditionTokensConfig = field(default_factory=ConditionTokensConfig)
    """Which conditions exist (Table 5) and the nets that make tokens of them."""
    fusion: Literal["attention", "concat", "multiply"] = "attention"
    """How features and tokens meet: the paper's attention, or one of its baselines."""
    attention: SpatialAudioAttentionConfig = field(default_factory=SpatialAudioAttentionConfig)
    """The spatial-audio cross-attention (Eq. 10 to 13)."""
    deformation: DeformationHeadsConfig = field(default_factory=DeformationHeadsConfig)
    """The offsets (Eq. 14), each with a switch (Table 4)."""

    @property
    def num_sh_bases(self) -> int:
        """Number of spherical harmonics bases."""
        return (self.sh_degree + 1) ** 2


def with_audio_window(config: TalkingHeadConfig, frames: int) -> TalkingHeadConfig:
    """The same network for audio signals of so many frames; a code of one is never dropped."""
    encoder = config.tokens.audio_encoder
    if frames == encoder.window_frames:
        return config
    encoder = replace(encoder, window_frames=frames, feature_dropout=0.0)
    return replace(config, tokens=replace(config.tokens, audio_encoder=encoder))


class TalkingHead(nn.Module):
    """Canonical Gaussians, and their deformation by the conditions of b frames."""

    mouth_border: Float[Tensor, "2"]

    def __init__(
        self,
        config: TalkingHeadConfig,
        gaussians: dict[str, Tensor],
        bounds: Float[Tensor, "2 3"],
        mouth_border: Float[Tensor, "2"],
        audio_shape: tuple[int, int],
        eye_size: int,
    ) -> None:
        """Build the network around the first Gaussians.

        Args:
            config: Sizes and switches.
            gaussians: Splatfacto's six tensors, before activation.
            bounds: Corners of the tri-plane's box in scene units.
            mouth_border: Heights in head space between which the region of the mouth ends.
            audio_shape: Rows and features of one frame's audio window.
            eye_size: Length of the eye signal.
        """
        super().__init__()
        self.config = config
        self.gauss_params = nn.ParameterDict(
            {name: nn.Parameter(value) for name, value in gaussians.items()}
        )
        self.register_buffer("mouth_border", mouth_border.detach().clone().float())
        self.triplane = config.triplane.setup(bounds)
        self.canonical_field = config.canonical.setup(
            self.triplane.out_dim, config.num_sh_bases, float(gaussians["scales"].mean())
        )
        self.tokens = config.tokens.setup(*audio_shape, eye_size)
        fusion = (
            config.attention
            if config.fusion == "attention"
            else FusionConfig(
                mode=config.fusion, hidden_width=config.attention.feed_forward_width or 128
            )
        )
        width, num_tokens = config.tokens.width, len(self.tokens.names)
        self.fusion = fusion.setup(self.triplane.out_dim, width, num_tokens)
        self.deformation = config.deformation.setup(width, config.num_sh_bases)
        self._precomputed: tuple[tuple[Tensor, list[int]], DeformationCache] | None = None

    @property
    def runs_in_kernels(self) -> bool:
        """Whether compiled kernels do most of the work where these weights are."""
        return can_fuse(self.fusion, self.deformation, self.gauss_params["means"])

    def features(self) -> Float[Tensor, "n f"]:
        """Tri-plane features f(mu) of all canonical positions (Eq. 7)."""
        return self.triplane(self.gauss_params["means"])

    def canonical(self, features: Float[Tensor, "n f"] | None = None) -> Gaussians:
        """The mean shape of the head (Eq. 6), attributes from the tri-plane where so configured.

        Args:
            features: Tri-plane features, if they have been looked up already.
        """
        free = self.gauss_params
        gaussians = Gaussians(
            means=free["means"],
            log_scales=free["scales"],
            quats=free["quats"],
            opacity_logits=free["opacities"].squeeze(-1),
            sh=torch.cat([free["features_dc"][:, None], free["features_rest"]], dim=1),
        )
        if not self.canonical_field.predicted:
            return gaussians
        predicted = self.canonical_field(self.features() if features is None else features)
        found = {name: value for name, value in vars(predicted).items() if value is not None}
        return replace(gaussians, **found)

    def deltas(
        self,
        features: Float[Tensor, "n f"],
        condition: FrameCondition,
        means: Float[Tensor, "n 3"] | None = None,
    ) -> GaussianDeltas:
        """Offsets of Gaussians in b frames (Eq. 13 and 14).

        Args:
            features: Their tri-plane features.
            condition: Conditions of the frames.
            means: Their canonical positions, if they are not all of the head's.
        """
        tokens, token_mask = self.tokens(condition), self.token_mask(means)
        cache = self._deformation_cache(features)
        return deform(self.fusion, self.deformation, features, tokens, token_mask, cache)

    def _deformation_cache(self, features: Float[Tensor, "n f"]) -> DeformationCache | None:
        """What all frames share, kept while features and weights stay; None in training."""
        networks = self.fusion, self.deformation
        if self.training or torch.is_grad_enabled() or not can_fuse(*networks, features):
            return None
        versions = [p._version for network in networks for p in network.parameters()]
        kept = self._precomputed
        if kept is None or kept[0][0] is not features or kept[0][1] != versions:
            kept = (features, versions), precompute(*networks, features)
            self._precomputed = kept
        return kept[1]

    def token_mask(self, means: Float[Tensor, "n 3"] | None = None) -> Float[Tensor, "k n"] | None:
        """Spatial mask of the tokens; None where every token acts on every Gaussian."""
        positions = self.gauss_params["means"] if means is None else means
        names, upper_face_only = self.tokens.names, self.tokens.config.upper_face_only
        return token_mask(positions, self.mouth_border, names, upper_face_only)

    def attention_maps(
        self, features: Float[Tensor, "n f"], condition: FrameCondition
    ) -> dict[str, Float[Tensor, "b n"]]:
        """Attention of each Gaussian to each token (the paper's Fig. 4), in [0, 1]."""
        _, maps = self.fusion(
            features, self.tokens(condition), self.token_mask(), return_attention=True
        )
        return dict(zip(self.tokens.names, maps.unbind(1)))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """One group per Gaussian tensor, the planes, F_can, and the deformation networks."""
        groups = {name: [parameter] for name, parameter in self.gauss_params.items()}
        deformation = [self.tokens, self.fusion, self.deformation]
        groups["triplane"] = list(self.triplane.parameters())
        groups["canonical_field"] = list(self.canonical_field.parameters())
        groups["deformation"] = [p for module in deformation for p in module.parameters()]
        return {name: parameters for name, parameters in groups.items() if parameters}

    @torch.no_grad()
    def write_predicted(self) -> None:
        """Copy attributes that come from the tri-plane into the free tensors.

        Whoever reads the free tensors (pruning, cloning) then sees what is rendered.
        """
        gaussians = self.canonical()
        values = {
            "scales": gaussians.log_scales,
            "quats": gaussians.quats,
            "opacities": gaussians.opacity_logits[:, None],
            "features_dc": gaussians.sh[:, 0],
            "features_rest": gaussians.sh[:, 1:],
        }
        for name, value in values.items():
            self.gauss_params[name].copy_(value)
