"""The training objective (Sec. 4.4.2): colour, structure, lips, mask, size of offsets."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gaussiantalker_ns import losses
from gaussiantalker_ns.gaussians.gaussians import GaussianDeltas


@dataclass
class ObjectiveConfig:
    """Weights of the loss terms, on the command line `--pipeline.model.objective.NAME VALUE`; 0
    leaves a term out. `config.py` has those of the CPU preset."""

    l1: float = 0.8
    """Mean absolute colour error over the crop."""
    dssim: float = 0.2
    """One minus SSIM."""
    lips: float = 0.4
    """Mean absolute colour error over the lip boxes; only in the deformation stage."""
    perceptual: float = 0.01
    """LPIPS, or what `perceptual_loss` names in its place."""
    perceptual_loss: losses.PerceptualLossConfig = field(
        default_factory=losses.PerceptualLossConfig
    )
    """Which network compares the pictures."""
    mask: float = 0.03
    """Mean absolute difference of rendered alpha and head mask; a hint, because hair is fuzzy."""
    delta: float = 0.0
    """Mean absolute size of the offsets; the paper has no such term."""
    mean_over: Literal["frame", "crop"] = "frame"
    """What the terms of the picture are means over: the whole frame as in the paper, where beyond
    the crop there is no error, or the crop, which makes them larger beside lips and offsets."""


class Objective(nn.Module):
    """The weighted loss terms of one batch."""

    def __init__(self, config: ObjectiveConfig, frame_pixels: int) -> None:
        """Build the terms.

        Args:
            config: Their weights.
            frame_pixels: Pixels of a whole frame, of which batches hold crops.
        """
        super().__init__()
        self.config = config
        self.frame_pixels = frame_pixels
        self.perceptual = config.perceptual_loss.setup() if config.perceptual > 0 else None

    def prepare(self, device: torch.device | str) -> None:
        """Load what the terms need before the first step of a training.

        Raises:
            FileNotFoundError: The weights of LPIPS cannot be had.
        """
        if self.perceptual is not None:
            self.perceptual.prepare(device)

    def forward(
        self,
        rgb: Float[Tensor, "b h wd 3"],
        alpha: Float[Tensor, "b h wd 1"],
        deltas: GaussianDeltas | None,
        batch: dict[str, Any],
    ) -> dict[str, Tensor]:
        """Compute the terms.

        Args:
            rgb: Render over the background.
            alpha: Its coverage.
            deltas: Offsets, None in the canonical stage.
            batch: Data manager's batch: image, head_mask, lips_box.
        """
        config = self.config
        truth = to_float(batch["image"], rgb)
        terms = {"l1": config.l1 * losses.l1(rgb, truth)}
        dssim = None
        if config.dssim > 0:
            dssim = losses.dssim(rgb, truth)
            terms["dssim"] = config.dssim * dssim
        if config.mask > 0:
            mask = to_float(batch["head_mask"], rgb)
            terms["mask"] = config.mask * losses.alpha_mask(alpha[..., 0], mask)
        if self.perceptual is not None:
            # The log's curve has the name of what compares: lpips-alex, or the offline form's.
            term = self.perceptual(rgb, truth, dssim)
            terms[self.perceptual.name] = config.perceptual * term
        if config.mean_over == "frame":
            fraction = rgb.shape[1] * rgb.shape[2] / self.frame_pixels
            terms = {name: fraction * term for name, term in terms.items()}
        if deltas is not None and config.lips > 0:
            terms["lips"] = config.lips * losses.lip_l1(rgb, truth, batch["lips_box"])
        if deltas is not None and config.delta > 0:
            terms["delta"] = config.delta * losses.delta_penalty(deltas)
        return terms


def to_float(image: Tensor, like: Tensor) -> Float[Tensor, "..."]:
    """Bring an 8-bit picture to [0, 1] on the device of `like`; floats are taken as they are."""
    image = image.to(like.device)
    return image.to(like.dtype).div_(255.0) if image.dtype == torch.uint8 else image.to(like.dtype)
