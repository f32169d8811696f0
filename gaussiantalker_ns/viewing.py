"""Pictures outside the training: composed frames, and views of single parts of the model."""

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from gaussiantalker_ns.conditions import Gaussians
from gaussiantalker_ns.objective import to_float
from gaussiantalker_ns.outputs import LazyOutputs
from gaussiantalker_ns.rendering.compositing import over
from gaussiantalker_ns.rendering.splatting import Views, splat_depth, splat_values
from gaussiantalker_ns.transfers import upload

if TYPE_CHECKING:
    from gaussiantalker_ns.model import GaussianTalkerModel

HIDDEN_LOGIT = -20.0
"""Opacity logit of Gaussians outside the viewer's crop box."""


def viewing_outputs(
    model: "GaussianTalkerModel", camera: Cameras, batch: dict[str, Any] | None
) -> LazyOutputs:
    """Render cameras for people to look at; everything but the composed picture is made on demand.

    Args:
        model: The model, not in training.
        camera: Cameras of one size.
        batch: Data manager's batch; without it the backgrounds are made from the clip's layers.

    Returns:
        `rgb`, `accumulation`, `background`, `head`, `depth`, `canonical` and one
        `attention_<token>` per token; a single camera's pictures have no batch axis.
    """
    frames, views = model.frames_of(camera, batch), model.views_of(camera)
    condition = model.bank.condition(frames, views.T_camera_head)
    # What later pictures need is taken now: the viewer reads them while training may go on.
    features, still = model.still()
    gaussians = inside_crop(model, model.deformed_gaussians(condition))
    still = inside_crop(model, still)
    head = model.splat(gaussians, views)
    background = backgrounds(model, frames, views, batch)
    plain = model.background_color.to(head.rgb)
    single = len(frames) == 1

    rgb = over(head.rgb, head.alpha, background).clamp(0, 1)
    if model.surroundings.mode == "paste-back":
        here, lent = in_main_memory(model, frames, views)
        pasted = [
            model.surroundings.pasted(rgb[i], frame, own_pose, here, i)
            for i, (frame, own_pose) in enumerate(lent)
        ]
        rgb = torch.stack(pasted)

    def shaped(picture: Float[Tensor, "b h wd c"]) -> Tensor:
        return picture[0] if single else picture

    def head_only() -> Tensor:
        return shaped(over(head.rgb, head.alpha, plain.expand_as(head.rgb)).clamp(0, 1))

    def canonical() -> Tensor:
        mean_head = model.splat(still, views)
        return shaped(over(mean_head.rgb, mean_head.alpha, background).clamp(0, 1))

    def depth() -> Tensor:
        return shaped(splat_depth(gaussians, views, model.config.rasterizer))

    def attention(name: str) -> Tensor:
        weights = model.head.attention_maps(features, condition)[name]
        return shaped(attention_picture(model, weights, gaussians, views))

    outputs = LazyOutputs(
        rgb=shaped(rgb),
        accumulation=shaped(head.alpha),
        background=shaped(background),
    )
    outputs.promise("head", head_only).promise("depth", depth).promise("canonical", canonical)
    for name in model.head.tokens.names:
        outputs.promise(f"attention_{name}", partial(attention, name))
    return outputs


def backgrounds(
    model: "GaussianTalkerModel",
    frames: Int[Tensor, " b"],
    views: Views,
    batch: dict[str, Any] | None,
) -> Float[Tensor, "b h wd 3"]:
    """What is behind the heads, from the batch or from the clip's layers."""
    if batch is not None and "background" in batch:
        background = to_float(batch["background"], views.Ks)
        return background.reshape(len(frames), views.height, views.width, 3)
    here, lent = in_main_memory(model, frames, views)
    pictures = [
        model.surroundings.picture(frame, own_pose, here, index, still=model.bank.driven)
        for index, (frame, own_pose) in enumerate(lent)
    ]
    return to_float(upload(torch.stack(pictures), views.Ks.device), views.Ks)


def in_main_memory(
    model: "GaussianTalkerModel", frames: Int[Tensor, " b"], views: Views
) -> tuple[Views, list[tuple[int, Float[Tensor, "4 4"]]]]:
    """Views, and the clip's frames that lend their surroundings with their own head poses.

    The surroundings read single numbers of them; all come from the GPU in one copy.
    """
    track = model.bank.track_frames(frames)
    own, shown = model.bank.poses[track].flatten(1), views.T_camera_head.flatten(1)
    columns = [track[:, None].to(own), own, shown, views.Ks.flatten(1)]
    numbers, own, shown, Ks = torch.cat(columns, dim=1).cpu().split([1, 16, 16, 9], dim=1)
    here = Views(shown.reshape(-1, 4, 4), Ks.reshape(-1, 3, 3), views.width, views.height)
    lent = [int(number) for number in numbers[:, 0].tolist()]
    return here, list(zip(lent, own.reshape(-1, 4, 4)))


def attention_picture(
    model: "GaussianTalkerModel",
    weights: Float[Tensor, "b n"],
    gaussians: Gaussians,
    views: Views,
) -> Float[Tensor, "b h wd 1"]:
    """Where the head listens to one token (the paper's Fig. 4), stretched to [0, 1] per picture."""
    low, high = weights.amin(dim=1, keepdim=True), weights.amax(dim=1, keepdim=True)
    stretched = (weights - low) / (high - low).clamp_min(1e-8)
    values = stretched[..., None] if gaussians.means.ndim == 3 else stretched[0, :, None]
    return splat_values(gaussians, values, views, model.config.rasterizer).rgb.clamp(0, 1)


def inside_crop(model: "GaussianTalkerModel", gaussians: Gaussians) -> Gaussians:
    """Hide the Gaussians outside the viewer's crop box, judged by their canonical positions."""
    if model.crop_box is None:
        return gaussians
    inside = model.crop_box.within(model.gauss_params["means"].detach()).reshape(-1)
    logits = torch.where(inside, gaussians.opacity_logits, HIDDEN_LOGIT)
    return Gaussians(gaussians.means, gaussians.log_scales, gaussians.quats, logits, gaussians.sh)
