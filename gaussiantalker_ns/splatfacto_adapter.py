"""The mean head under the names where Nerfstudio's viewer and exporter look for Gaussians.

The model is a `SplatfactoModel` only so that they treat it as Gaussians; nothing of Splatfacto's
own training is used.
"""

from jaxtyping import Float
from nerfstudio.models.splatfacto import SplatfactoModel
from torch import Tensor, nn

from gaussiantalker_ns.fields.talking_head import TalkingHead
from gaussiantalker_ns.gaussians.gaussians import Gaussians
from gaussiantalker_ns.gaussians.initialization import SH_C0


class CanonicalSplats(SplatfactoModel):
    """Splatfacto's attributes, read from the canonical Gaussians of a `TalkingHead`."""

    head: TalkingHead

    def canonical_gaussians(self) -> Gaussians:
        """The mean shape of the head."""
        raise NotImplementedError

    @property
    def gauss_params(self) -> nn.ParameterDict:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Splatfacto's name for the free tensors of the Gaussians."""
        return self.head.gauss_params

    @property
    def opacities(self) -> Float[Tensor, "n 1"]:
        """Canonical opacities before the sigmoid."""
        return self.canonical_gaussians().opacity_logits[:, None]

    @property
    def scales(self) -> Float[Tensor, "n 3"]:
        """Logarithms of the canonical scales."""
        return self.canonical_gaussians().log_scales

    @property
    def quats(self) -> Float[Tensor, "n 4"]:
        """Canonical rotations, wxyz."""
        return self.canonical_gaussians().quats

    @property
    def features_dc(self) -> Float[Tensor, "n 3"]:
        """Constant spherical harmonics coefficients of the canonical colours."""
        return self.canonical_gaussians().sh[:, 0]

    @property
    def features_rest(self) -> Float[Tensor, "n s 3"]:
        """The other spherical harmonics coefficients of the canonical colours."""
        return self.canonical_gaussians().sh[:, 1:]

    # Splatfacto's own versions take sigmoids instead of coefficients at degree 0.

    @property
    def shs_0(self) -> Float[Tensor, "n 3"]:
        """Constant coefficients, in every degree."""
        return self.features_dc

    @property
    def colors(self) -> Float[Tensor, "n 3"]:
        """Constant part of the canonical colours, about [0, 1]."""
        return 0.5 + SH_C0 * self.features_dc
