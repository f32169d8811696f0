"""Image fidelity of a sequence: PSNR and SSIM, LPIPS, and the Frechet inception distance.

A metric sees every pair of frames once. `observe` returns the values of that pair, whose means
over the frames are reported; `values` returns what only the whole sequence has.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gaussiantalker_ns.kernels import WINDOW_SIZE
from gaussiantalker_ns.losses.perceptual import backbone_path, backbone_url, load_lpips
from gaussiantalker_ns.losses.photometric import ssim_map
from gaussiantalker_ns.metrics.frame_pairs import REGIONS, FramePair, mask_box, region_key
from gaussiantalker_ns.metrics.image import crop, region_metrics
from gaussiantalker_ns.metrics.registry import NotMeasured, require_weights

LPIPS_BACKBONE = "alex"
"""The backbone of the LPIPS values in the literature on talking heads."""

SMALLEST_LPIPS_SIDE = 32
"""Pictures below this many pixels vanish in the network."""

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
"""torch-fidelity's port of the Inception network that the published FIDs use."""

INCEPTION_FEATURES = 2048
"""Length of that network's last feature."""


@runtime_checkable
class Metric(Protocol):
    """Sees the pairs of a sequence one after the other."""

    def observe(self, pair: FramePair) -> dict[str, float]:
        """Figures of one pair, averaged over the sequence by the caller."""
        ...

    def values(self) -> dict[str, float]:
        """Figures of the whole sequence."""
        ...


class ImageFidelity:
    """PSNR and SSIM in face box, head mask and whole frame; PSNR of lips and eyes."""

    def observe(self, pair: FramePair) -> dict[str, float]:
        """Figures of one pair."""
        found = region_metrics(pair.rendered, pair.real, pair.boxes, pair.head_mask)
        if "head" in pair.regions and pair.head_mask is not None:
            box = mask_box(pair.head_mask)
            mask = crop(pair.head_mask[..., None].expand_as(pair.real), box)[..., 0]
            rendered, real = crop(pair.rendered, box), crop(pair.real, box)
            found["head_ssim"] = masked_ssim(rendered, real, mask)
        return found

    def values(self) -> dict[str, float]:
        """Nothing beyond the means."""
        return {}


def masked_ssim(
    image: Float[Tensor, "h wd 3"], truth: Float[Tensor, "h wd 3"], mask: Float[Tensor, "h wd"]
) -> float:
    """Structural similarity, the windows weighted by the mask at their centres; NaN if none is."""
    if min(image.shape[:2]) < WINDOW_SIZE:
        return float("nan")
    margin = WINDOW_SIZE // 2
    weight = mask[margin : mask.shape[0] - margin, margin : mask.shape[1] - margin]
    if float(weight.sum()) <= 0:
        return float("nan")
    similarity = ssim_map(image[None], truth[None])[0].mean(dim=-1)
    return float((similarity * weight).sum() / weight.sum())


class Lpips:
    """Learned perceptual similarity (Zhang et al. 2018) in every region."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network

    @classmethod
    def load(cls, device: torch.device | str) -> "Lpips":
        """Build LPIPS from weights on this machine; a measurement fetches none.

        Raises:
            NotMeasured: There are none, or they are damaged.
        """
        name = backbone_path(LPIPS_BACKBONE).name
        require_weights(name, f"torchvision's AlexNet weights ({backbone_url(LPIPS_BACKBONE)})")
        try:
            return cls(load_lpips(LPIPS_BACKBONE).to(device))
        except FileNotFoundError as error:
            raise NotMeasured(str(error)) from error

    @torch.no_grad()
    def observe(self, pair: FramePair) -> dict[str, float]:
        """Distances of one pair."""
        found = {}
        for region, pictures in pair.regions.items():
            if min(pictures[0].shape[:2]) < SMALLEST_LPIPS_SIDE:
                continue
            images = (2 * picture.permute(2, 0, 1)[None] - 1 for picture in pictures)
            found[region_key(region, "lpips")] = float(self._network(*images))
        return found

    def values(self) -> dict[str, float]:
        """Nothing beyond the means."""
        return {}


class FrechetDistance:
    """Frechet inception distance (Heusel et al. 2017) between rendered and real frames."""

    def __init__(self, make_distance: Callable[[], Any]) -> None:
        """Prepare one distance per region.

        Args:
            make_distance: Builds a `torchmetrics` FID that takes uint8 pictures `[b, 3, h, wd]`.
        """
        self._distances = {region: make_distance() for region in REGIONS}
        self._counts: dict[str, int] = dict.fromkeys(REGIONS, 0)

    @classmethod
    def load(cls, device: torch.device | str) -> "FrechetDistance":
        """Build the Inception network from weights on this machine.

        Raises:
            NotMeasured: There are none, or torch-fidelity is not installed.
        """
        path = require_weights(
            INCEPTION_FILE, "torch-fidelity's Inception weights", sha256_prefix="6726825d"
        )
        try:
            from torchmetrics.image.fid import FrechetInceptionDistance, NoTrainInceptionV3

            network = NoTrainInceptionV3(
                "inception-v3-compat", [str(INCEPTION_FEATURES)], str(path)
            )
        except ImportError as error:
            raise NotMeasured(f"needs the package torch-fidelity ({error})") from error
        # Without this number torchmetrics finds it out with a picture in main memory.
        setattr(network, "num_features", INCEPTION_FEATURES)  # noqa: B010
        network.to(device)
        return cls(lambda: FrechetInceptionDistance(feature=network).to(device))

    @torch.no_grad()
    def observe(self, pair: FramePair) -> dict[str, float]:
        """Take one pair in; there is no figure of a single pair."""
        for region, (rendered, real) in pair.regions.items():
            for picture, is_real in ((rendered, False), (real, True)):
                pixels = (picture.clamp(0, 1) * 255 + 0.5).byte().permute(2, 0, 1)[None]
                self._distances[region].update(pixels, real=is_real)
            self._counts[region] += 1
        return {}

    def values(self) -> dict[str, float]:
        """The distances of the regions that at least two frames have."""
        return {
            region_key(region, "fid"): max(float(self._distances[region].compute()), 0.0)
            for region in REGIONS
            if self._counts[region] >= 2
        }
