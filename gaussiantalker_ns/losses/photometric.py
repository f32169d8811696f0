"""Photometric terms: colours, structure, lips, mask; and the size of offsets."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from gaussiantalker_ns.gaussians.gaussians import GaussianDeltas
from gaussiantalker_ns.kernels import WINDOW_SIGMA, WINDOW_SIZE


def l1(
    prediction: Float[Tensor, "b h wd c"], target: Float[Tensor, "b h wd c"]
) -> Float[Tensor, ""]:
    """Mean absolute colour error."""
    return F.l1_loss(prediction, target)


def ssim(
    prediction: Float[Tensor, "b h wd 3"], target: Float[Tensor, "b h wd 3"]
) -> Float[Tensor, ""]:
    """Mean structural similarity of images in [0, 1], over windows that lie inside the image.

    An 11 x 11 Gaussian window, sigma 1.5. The gradient flows to `prediction`.
    """
    height, width = prediction.shape[1:3]
    if min(height, width) < WINDOW_SIZE:
        raise ValueError(
            f"SSIM got images of {width} x {height} pixels; expected at least {WINDOW_SIZE} on each"
            " side. Use larger frames or a larger crop."
        )
    if prediction.device.type == "cpu" and prediction.dtype == torch.float32:
        # Numba takes half a second to import, which a GPU user need not wait for.
        from gaussiantalker_ns.kernels.ssim import MeanSSIM

        value = MeanSSIM.apply(prediction, target.to(prediction.dtype))
        assert isinstance(value, Tensor)
        return value
    return ssim_map(prediction, target).mean()


def ssim_map(
    prediction: Float[Tensor, "b h wd 3"], target: Float[Tensor, "b h wd 3"]
) -> Float[Tensor, "b hi wdi 3"]:
    """Structural similarity of every window, in plain torch.

    The windows are matrix products: a GPU rounds convolutions to 10 bits by default, and a variance
    is the difference of two nearly equal sums.
    """
    maps = [prediction, target, prediction**2 + target**2, prediction * target]
    stack = torch.stack(maps).permute(0, 1, 4, 2, 3)
    rows, columns = (window_matrix(size, prediction) for size in prediction.shape[1:3])
    mean_x, mean_y, squares, product = rows @ (stack @ columns.T)
    both, energy = mean_x * mean_y, mean_x**2 + mean_y**2
    c1, c2 = 0.01**2, 0.03**2
    value = (2 * both + c1) * (2 * (product - both) + c2)
    return (value / ((energy + c1) * (squares - energy + c2))).permute(0, 2, 3, 1)


def window_matrix(size: int, like: Tensor) -> Float[Tensor, "inner _"]:
    """The matrix that weighs `size` neighbouring pixels by every window that lies among them."""
    pixels = torch.arange(size, device=like.device, dtype=like.dtype)
    offsets = pixels - pixels[: size - WINDOW_SIZE + 1, None]
    weights = torch.exp(-0.5 * ((offsets - WINDOW_SIZE // 2) / WINDOW_SIGMA) ** 2)
    weights = weights * ((offsets >= 0) & (offsets < WINDOW_SIZE))
    return weights / weights.sum(dim=1, keepdim=True)


def dssim(
    prediction: Float[Tensor, "b h wd 3"], target: Float[Tensor, "b h wd 3"]
) -> Float[Tensor, ""]:
    """The D-SSIM term: one minus the structural similarity."""
    return 1 - ssim(prediction, target)


def lip_l1(
    prediction: Float[Tensor, "b h wd c"],
    target: Float[Tensor, "b h wd c"],
    boxes: Int[Tensor, "b 4"],
) -> Float[Tensor, ""]:
    """Mean absolute colour error over the pixels of all lip squares of the batch together.

    Every pixel counts the same, so a wide open mouth weighs more than a closed one. In a
    distributed training the batch is that of all processes.

    Args:
        prediction: Render.
        target: Frame.
        boxes: x0, y0, x1, y1 in pixels, x1 and y1 exclusive; parts outside the image are ignored.
    """
    sums = cropped_lip_sums if prediction.device.type == "cpu" else masked_lip_sums
    return mean_over_processes(*sums(prediction, target, boxes))


def cropped_lip_sums(
    prediction: Float[Tensor, "b h wd c"],
    target: Float[Tensor, "b h wd c"],
    boxes: Int[Tensor, "b 4"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Sum and number of the errors of `lip_l1`, for CPUs: a few operations on small pictures."""
    height, width = prediction.shape[1:3]
    errors = []
    for render, frame, (x0, y0, x1, y1) in zip(prediction, target, boxes.tolist()):
        rows, columns = slice(max(y0, 0), min(y1, height)), slice(max(x0, 0), min(x1, width))
        errors.append((render[rows, columns] - frame[rows, columns]).abs().flatten())
    joined = torch.cat(errors)
    return joined.sum(), prediction.new_tensor(len(joined))


def masked_lip_sums(
    prediction: Float[Tensor, "b h wd c"],
    target: Float[Tensor, "b h wd c"],
    boxes: Int[Tensor, "b 4"],
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Sum and number of the errors of `lip_l1`, for GPUs: a few operations on whole pictures."""
    height, width = prediction.shape[1:3]
    x0, y0, x1, y1 = boxes[:, :, None].unbind(1)
    columns = torch.arange(width, device=boxes.device)
    rows = torch.arange(height, device=boxes.device)
    inside = ((rows >= y0) & (rows < y1))[:, :, None] & ((columns >= x0) & (columns < x1))[:, None]
    errors = torch.where(inside[..., None], (prediction - target).abs(), 0.0)
    return errors.sum(), (inside.sum() * prediction.shape[-1]).to(prediction.dtype)


def mean_over_processes(total: Float[Tensor, ""], count: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The sums of all processes of a distributed training over their counts; 0 over nothing.

    DistributedDataParallel averages the gradients of its processes, and a mean of means is not the
    mean where counts differ. So each process's part has the number of processes as a factor, and
    the average is the gradient of the joint mean. Without gradients, as in evaluation, which
    processes need not do in step, a process's own mean is returned.

    Example: sums of 3 and 1 over counts of 2 and 6 give 4 / 8 in both processes.
    """
    alone = not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1
    if alone or not torch.is_grad_enabled():
        # A mean over nothing is not a number; without any pixel there is no error.
        return total / count.clamp_min(1)
    sums = torch.stack([total.detach(), count])
    dist.all_reduce(sums)
    joint_total, joint_count = sums[0], sums[1].clamp_min(1)
    own = total * (dist.get_world_size() / joint_count)
    return own + (joint_total / joint_count - own).detach()


def alpha_mask(alpha: Float[Tensor, "b h wd"], mask: Float[Tensor, "b h wd"]) -> Float[Tensor, ""]:
    """Mean absolute difference of the rendered alpha and the head mask, both in [0, 1].

    Differs from GaussianTalker: its mask term is made from a depth that has no gradient.
    """
    return F.l1_loss(alpha, mask)


def delta_penalty(deltas: GaussianDeltas) -> Float[Tensor, ""]:
    """Sum over the attributes of the mean absolute size of their offsets; 0 without offsets."""
    sizes = [delta.abs().mean() for delta in deltas.present()]
    return torch.stack(sizes).sum() if sizes else torch.zeros(())
