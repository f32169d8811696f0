"""The perceptual term: LPIPS, or on request a form that needs no weights."""

import pickle
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gaussiantalker_ns.kernels import WINDOW_SIZE
from gaussiantalker_ns.losses.photometric import dssim

Backbone = Literal["alex", "vgg"]

TORCHVISION_WEIGHTS = {
    "alex": "AlexNet_Weights.IMAGENET1K_V1",
    "vgg": "VGG16_Weights.IMAGENET1K_V1",
}
"""torchvision's names of the backbones' weights; lpips itself brings only the layers on top."""

UNUSABLE = (OSError, EOFError, RuntimeError, pickle.UnpicklingError)
"""What a missing network, a wrong hash or a damaged file of weights end in."""


@dataclass
class PerceptualLossConfig:
    """What compares the pictures."""

    _target: type = field(default_factory=lambda: PerceptualLoss)
    """Class to build."""
    network: Literal["alex", "vgg", "ms-ssim"] = "alex"
    """LPIPS with AlexNet (the paper's) or VGG-16, which torchvision fetches once; or `ms-ssim`,
    multi-scale SSIM and a gradient term, which need no weights and no network."""

    def setup(self) -> "PerceptualLoss":
        """Make the loss; weights are loaded by `prepare` or at the first use."""
        return self._target(self)


class PerceptualLoss:
    """LPIPS, or multi-scale SSIM plus a gradient term, as the configuration says.

    Not a module: its weights belong in no checkpoint, and rendering needs none.
    """

    def __init__(self, config: PerceptualLossConfig | None = None) -> None:
        self.config = PerceptualLossConfig() if config is None else config
        self._network: nn.Module | None = None

    @property
    def name(self) -> str:
        """Which form it is, for logs: "lpips-alex", "lpips-vgg" or "ms-ssim+gradient"."""
        network = self.config.network
        return "ms-ssim+gradient" if network == "ms-ssim" else f"lpips-{network}"

    def __call__(
        self,
        prediction: Float[Tensor, "b h wd 3"],
        target: Float[Tensor, "b h wd 3"],
        finest: Float[Tensor, ""] | None = None,
    ) -> Float[Tensor, ""]:
        """Compare images in [0, 1]; the gradient flows to `prediction`.

        Args:
            prediction: Render.
            target: Frame.
            finest: D-SSIM of the two, if it is known; `ms-ssim` need not compute it again.
        """
        if self.config.network == "ms-ssim":
            return multiscale_dssim(prediction, target, finest) + gradient_l1(prediction, target)
        if self._network is None:
            self.prepare(prediction.device)
        assert self._network is not None, "prepare loads the network or raises"
        images = (2 * image.permute(0, 3, 1, 2) - 1 for image in (prediction, target))
        return self._network(*images).mean()

    def prepare(self, device: torch.device | str) -> None:
        """Load what the training needs, before its first step.

        Raises:
            FileNotFoundError: The backbone of LPIPS cannot be had.
        """
        if self.config.network == "ms-ssim":
            return
        try:
            self._network = load_lpips(self.config.network).to(device)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{error}, or train with multi-scale SSIM and a gradient term in its place by"
                " --pipeline.model.objective.perceptual-loss.network ms-ssim."
            ) from error


def checkpoint_folder() -> Path:
    """The folder in which torch.hub keeps downloaded weights."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def backbone_url(backbone: Backbone) -> str:
    """Where torchvision fetches the weights of a backbone."""
    from torchvision.models import get_weight

    return get_weight(TORCHVISION_WEIGHTS[backbone]).url


def backbone_path(backbone: Backbone) -> Path:
    """Where torchvision keeps the weights of a backbone."""
    return checkpoint_folder() / backbone_url(backbone).rsplit("/", 1)[1]


def load_lpips(backbone: Backbone) -> nn.Module:
    """LPIPS, frozen; torchvision fetches its backbone if it is not on this machine.

    Raises:
        FileNotFoundError: It cannot be fetched or read. The text is the beginning of a sentence.
    """
    import lpips

    url, path = backbone_url(backbone), backbone_path(backbone)
    was_there = path.is_file()
    try:
        # The weights drawn at random before the stored ones are loaded would change the training.
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            # lpips calls torchvision with arguments that torchvision wants to rename.
            warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")
            network = lpips.LPIPS(net=backbone, verbose=False)
    except UNUSABLE as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        tried = "the file there cannot be used" if was_there else f"fetching {url} failed"
        raise FileNotFoundError(
            f"LPIPS needs its backbone's weights at {path}, but {tried} ({reason}): put the file"
            f" {url} there"
        ) from error
    return network.eval().requires_grad_(False)


def multiscale_dssim(
    prediction: Float[Tensor, "b h wd 3"],
    target: Float[Tensor, "b h wd 3"],
    finest: Float[Tensor, ""] | None = None,
    num_scales: int = 3,
) -> Float[Tensor, ""]:
    """Mean D-SSIM over halved resolutions, as many of `num_scales` as the window fits into.

    Args:
        prediction: Render.
        target: Frame.
        finest: D-SSIM at the full resolution, if it is known.
        num_scales: Resolutions, >= 1.
    """
    terms = []
    for scale in range(num_scales):
        if min(prediction.shape[1:3]) < WINDOW_SIZE:
            break
        if scale > 0 or finest is None:
            finest = dssim(prediction, target)
        terms.append(finest)
        prediction, target = halved(prediction), halved(target)
    return torch.stack(terms).mean() if terms else F.l1_loss(prediction, target)


def halved(image: Float[Tensor, "b h wd 3"]) -> Float[Tensor, "b h2 wd2 3"]:
    """Average blocks of two by two pixels; an odd last row or column is dropped."""
    rows, columns = image.shape[1] // 2, image.shape[2] // 2
    blocks = image[:, : 2 * rows, : 2 * columns].unflatten(2, (columns, 2)).unflatten(1, (rows, 2))
    return blocks.mean(dim=(2, 4))


def gradient_l1(
    prediction: Float[Tensor, "b h wd 3"], target: Float[Tensor, "b h wd 3"]
) -> Float[Tensor, ""]:
    """Mean absolute difference of the colour steps between neighbouring pixels, both directions."""
    error = prediction - target
    return error.diff(dim=1).abs().mean() + error.diff(dim=2).abs().mean()
