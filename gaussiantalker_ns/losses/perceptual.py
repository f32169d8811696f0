"""The perceptual term: LPIPS where its weights are at hand, a stand-in elsewhere."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gaussiantalker_ns.losses.photometric import WINDOW_SIZE, dssim

Backbone = Literal["alex", "vgg"]

BACKBONE_URLS = {
    "alex": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    "vgg": "https://download.pytorch.org/models/vgg16-397923af.pth",
}
"""Where torchvision keeps the backbones; LPIPS' own package brings only the layers on top. The end
of a file's name is the beginning of its SHA-256."""


@dataclass
class PerceptualLossConfig:
    """Which network compares the pictures, and whether it may be fetched."""

    _target: type = field(default_factory=lambda: PerceptualLoss)
    """Class to build."""
    backbone: Backbone = "alex"
    """Network of LPIPS."""
    download: bool = False
    """Try once to fetch a backbone that is not on this machine; False fetches nothing."""

    def setup(self) -> "PerceptualLoss":
        """Make the loss; weights are looked for at its first use."""
        return self._target(self)


class PerceptualLoss:
    """LPIPS, built at its first use; without weights multi-scale SSIM plus a gradient term.

    Not a module: its weights belong in no checkpoint. `name` says which form is used: "pending"
    before the first use, then "lpips-alex", "lpips-vgg" or "ms-ssim+gradient".
    """

    def __init__(self, config: PerceptualLossConfig | None = None) -> None:
        self.config = PerceptualLossConfig() if config is None else config
        self.name = "pending"
        self._network: nn.Module | None = None

    def __call__(
        self, prediction: Float[Tensor, "b h wd 3"], target: Float[Tensor, "b h wd 3"]
    ) -> Float[Tensor, ""]:
        """Compare images in [0, 1]; the gradient flows to `prediction`."""
        if self.name == "pending":
            self.prepare(prediction.device)
        if self._network is None:
            return multiscale_dssim(prediction, target) + gradient_l1(prediction, target)
        images = (2 * image.permute(0, 3, 1, 2) - 1 for image in (prediction, target))
        return self._network(*images).mean()

    def prepare(self, device: torch.device | str) -> str:
        """Look for the weights and settle which form is used; returns its name."""
        config = self.config
        weights = backbone_weights(config.backbone, config.download)
        if weights is None:
            self.name = "ms-ssim+gradient"
            warnings.warn(
                f"LPIPS needs {backbone_path(config.backbone)}, which is not there; training goes"
                " on with multi-scale SSIM and a gradient term instead. Put the file there (it is"
                f" {BACKBONE_URLS[config.backbone]}) to use LPIPS.",
                stacklevel=3,
            )
            return self.name
        self._network = lpips_network(config.backbone, weights).to(device)
        self.name = f"lpips-{config.backbone}"
        return self.name


def checkpoint_folder() -> Path:
    """The folder in which torch.hub keeps downloaded weights."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def backbone_path(backbone: Backbone) -> Path:
    """Where the weights of a backbone are looked for."""
    return checkpoint_folder() / BACKBONE_URLS[backbone].rsplit("/", 1)[1]


def backbone_weights(backbone: Backbone, download: bool) -> Path | None:
    """Find the weights of a backbone on this machine; else, if wanted, try once to fetch them."""
    path = backbone_path(backbone)
    if path.is_file():
        return path
    if not download:
        return None
    url, hash_prefix = BACKBONE_URLS[backbone], path.stem.rsplit("-", 1)[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix, progress=False)
    # A wrong hash is a RuntimeError; the file then is not there.
    except (OSError, RuntimeError) as error:
        warnings.warn(f"{url} could not be fetched: {error}", stacklevel=4)
        return None
    return path


def lpips_network(backbone: Backbone, weights: Path) -> nn.Module:
    """Build LPIPS, frozen, with a backbone from a file."""
    import lpips

    network = lpips.LPIPS(net=backbone, pnet_rand=True, verbose=False)
    state = torch.load(weights, map_location="cpu", weights_only=True)
    layers = {name: value for name, value in state.items() if name.startswith("features.")}
    # LPIPS cuts the backbone into slices that keep the layer numbers of torchvision.
    renamed = {}
    for slice_name, part in network.net.named_children():
        for number, _ in part.named_children():
            for suffix in ("weight", "bias"):
                value = layers.get(f"features.{number}.{suffix}")
                if value is not None:
                    renamed[f"{slice_name}.{number}.{suffix}"] = value
    network.net.load_state_dict(renamed)
    return network.eval().requires_grad_(False)


def multiscale_dssim(
    prediction: Float[Tensor, "b h wd 3"], target: Float[Tensor, "b h wd 3"], num_scales: int = 3
) -> Float[Tensor, ""]:
    """Mean D-SSIM over halved resolutions, as many of `num_scales` as the window fits into."""
    terms = []
    for _ in range(num_scales):
        if min(prediction.shape[1:3]) < WINDOW_SIZE:
            break
        terms.append(dssim(prediction, target))
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
