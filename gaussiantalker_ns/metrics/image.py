"""Picture quality inside the regions of a talking head: face box, head mask, lips, whole frame."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from gaussiantalker_ns import losses
from gaussiantalker_ns.kernels import WINDOW_SIZE

Box = Sequence[int]
"""x0, y0, x1, y1 in pixels; x1 and y1 are outside."""


def psnr(
    image: Float[Tensor, "*shape 3"],
    truth: Float[Tensor, "*shape 3"],
    weight: Float[Tensor, "*shape 1"] | None = None,
) -> float:
    """Peak signal-to-noise ratio in dB of values in [0, 1]; an error of .1 everywhere gives 20.

    Args:
        image: The render.
        truth: The real picture.
        weight: How much each pixel counts; all the same if None.
    """
    squared = (image - truth) ** 2
    if weight is None:
        mean = squared.mean()
    else:
        mean = (squared * weight).sum() / (3 * weight.sum()).clamp_min(1e-8)
    return float(decibels(mean))


def decibels(mean_square: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The signal-to-noise ratio of a mean squared error. (0.01) -> 20."""
    return -10.0 * torch.log10(mean_square.clamp_min(1e-10))


def ssim(image: Float[Tensor, "h wd 3"], truth: Float[Tensor, "h wd 3"]) -> float:
    """Structural similarity over whole windows; NaN for pictures below a window."""
    if min(image.shape[:2]) < WINDOW_SIZE:
        return float("nan")
    return float(losses.ssim(image[None].contiguous(), truth[None].contiguous()))


def crop(image: Float[Tensor, "h wd 3"], box: Box) -> Float[Tensor, "_ _ 3"]:
    """Cut a box out of a picture; parts outside the picture are left out."""
    x0, y0, x1, y1 = (max(int(value), 0) for value in box)
    return image[y0:y1, x0:x1]


def region_metrics(
    image: Float[Tensor, "h wd 3"],
    truth: Float[Tensor, "h wd 3"],
    boxes: Mapping[str, Box],
    head_mask: Float[Tensor, "h wd"] | None,
) -> dict[str, float]:
    """Measure a render where it matters.

    Args:
        image: The render in [0, 1].
        truth: The real frame in [0, 1].
        boxes: Named boxes; each gives `<name>_psnr`, the face also `face_ssim`.
        head_mask: Weight of the head's pixels in [0, 1]; None leaves `head_psnr` out.

    Returns:
        `psnr` and `ssim` of the whole frame and the values of the regions that are not empty.
    """
    metrics = {"psnr": psnr(image, truth), "ssim": ssim(image, truth)}
    for name, box in boxes.items():
        inside, inside_truth = crop(image, box), crop(truth, box)
        if inside.numel() == 0:
            continue
        metrics[f"{name}_psnr"] = psnr(inside, inside_truth)
        if name == "face":
            metrics["face_ssim"] = ssim(inside, inside_truth)
    if head_mask is not None and float(head_mask.sum()) > 0:
        metrics["head_psnr"] = psnr(image, truth, head_mask[..., None])
    return metrics
