"""Model outputs for viewers and renderers, each computed when it is first read."""

from collections.abc import Callable, ItemsView, ValuesView
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor

from gaussiantalker_ns.data.conditions import FrameConditions
from gaussiantalker_ns.engine.transfers import upload
from gaussiantalker_ns.fields.talking_head import TalkingHead
from gaussiantalker_ns.frame_signals import FrameCondition
from gaussiantalker_ns.gaussians.gaussians import Gaussians
from gaussiantalker_ns.losses.objective import to_float
from gaussiantalker_ns.rendering.background import Background
from gaussiantalker_ns.rendering.compositing import alpha_composite
from gaussiantalker_ns.rendering.rasterize import Backend
from gaussiantalker_ns.rendering.splatting import RenderedHead, Views, splat_depth, splat_values


class LazyOutputs(dict[str, Any]):
    """A dictionary of pictures in which some are only named until they are read.

    Nerfstudio's viewer lists every output of a method and shows one of them; rendering attention
    maps for the list alone would cost more than the picture itself.

    Example: `LazyOutputs(rgb=image).add_lazy("depth", render_depth)` lists both names and calls
    `render_depth` at the first `outputs["depth"]`.
    """

    def add_lazy(self, name: str, make: Callable[[], Tensor]) -> "LazyOutputs":
        """Name an output that `make` computes at the first reading."""
        super().__setitem__(name, make)
        return self

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if callable(value):
            with torch.no_grad():
                value = value()
            super().__setitem__(name, value)
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """The output called `name`, computed now if need be."""
        return self[name] if name in self else default

    def items(self) -> ItemsView[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """All names with their outputs; computes all of them."""
        return {name: self[name] for name in self}.items()

    def values(self) -> ValuesView[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """All outputs; computes all of them."""
        return {name: self[name] for name in self}.values()


HIDDEN_LOGIT = -20.0
"""Opacity logit of Gaussians outside the viewer's crop box."""


class ViewableModel:
    """What the outputs need of the model, which derives from this class."""

    bank: FrameConditions
    background: Background
    background_color: Tensor
    crop_box: OrientedBox | None
    head: TalkingHead

    @property
    def rasterizer(self) -> Backend:
        """Which backend draws the Gaussians."""
        raise NotImplementedError

    def frames_of(self, camera: Cameras, batch: dict[str, Any] | None) -> Int[Tensor, " b"]:
        """Frame that each camera shows."""
        raise NotImplementedError

    def views_of(self, camera: Cameras) -> Views:
        """OpenCV views of the cameras."""
        raise NotImplementedError

    def cached_canonical(self) -> tuple[Float[Tensor, "n f"], Gaussians]:
        """Tri-plane features and canonical Gaussians."""
        raise NotImplementedError

    def deformed_gaussians(self, condition: FrameCondition) -> Gaussians:
        """The head in b frames."""
        raise NotImplementedError

    def splat(self, gaussians: Gaussians, views: Views) -> RenderedHead:
        """Render the head alone."""
        raise NotImplementedError


def viewing_outputs(
    model: ViewableModel, camera: Cameras, batch: dict[str, Any] | None
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
    features, mean_shape = model.cached_canonical()
    gaussians = inside_crop(model, model.deformed_gaussians(condition))
    mean_shape = inside_crop(model, mean_shape)
    head = model.splat(gaussians, views)
    background = backgrounds(model, frames, views, batch)
    plain = model.background_color.to(head.rgb)
    single = len(frames) == 1

    rgb = alpha_composite(head.rgb, head.alpha, background).clamp(0, 1)
    if model.background.mode == "paste-back":
        here, source = in_main_memory(model, frames, views)
        blended = [
            model.background.blended(rgb[i], frame, own_pose, here, i)
            for i, (frame, own_pose) in enumerate(source)
        ]
        rgb = torch.stack(blended)

    def shaped(picture: Float[Tensor, "b h wd c"]) -> Tensor:
        return picture[0] if single else picture

    def head_only() -> Tensor:
        return shaped(alpha_composite(head.rgb, head.alpha, plain.expand_as(head.rgb)).clamp(0, 1))

    def canonical() -> Tensor:
        mean_head = model.splat(mean_shape, views)
        return shaped(alpha_composite(mean_head.rgb, mean_head.alpha, background).clamp(0, 1))

    def depth() -> Tensor:
        return shaped(splat_depth(gaussians, views, model.rasterizer))

    def attention(name: str) -> Tensor:
        weights = model.head.attention_maps(features, condition)[name]
        return shaped(attention_picture(model, weights, gaussians, views))

    outputs = LazyOutputs(
        rgb=shaped(rgb),
        accumulation=shaped(head.alpha),
        background=shaped(background),
    )
    outputs.add_lazy("head", head_only).add_lazy("depth", depth).add_lazy("canonical", canonical)
    for name in model.head.tokens.names:
        outputs.add_lazy(f"attention_{name}", partial(attention, name))
    return outputs


def backgrounds(
    model: ViewableModel,
    frames: Int[Tensor, " b"],
    views: Views,
    batch: dict[str, Any] | None,
) -> Float[Tensor, "b h wd 3"]:
    """What is behind the heads, from the batch or from the clip's layers."""
    if batch is not None and "background" in batch:
        background = to_float(batch["background"], views.Ks)
        return background.reshape(len(frames), views.height, views.width, 3)
    here, source = in_main_memory(model, frames, views)
    pictures = [
        model.background.picture(frame, own_pose, here, index, static_background=model.bank.driven)
        for index, (frame, own_pose) in enumerate(source)
    ]
    return to_float(upload(torch.stack(pictures), views.Ks.device), views.Ks)


def in_main_memory(
    model: ViewableModel, frames: Int[Tensor, " b"], views: Views
) -> tuple[Views, list[tuple[int, Float[Tensor, "4 4"]]]]:
    """Views, and the clip's frames that gives their background with their own head poses.

    The background read single numbers of them; all come from the GPU in one copy.
    """
    track = model.bank.track_frames(frames)
    own, shown = model.bank.poses[track].flatten(1), views.T_camera_head.flatten(1)
    columns = [track[:, None].to(own), own, shown, views.Ks.flatten(1)]
    numbers, own, shown, Ks = torch.cat(columns, dim=1).cpu().split([1, 16, 16, 9], dim=1)
    here = Views(shown.reshape(-1, 4, 4), Ks.reshape(-1, 3, 3), views.width, views.height)
    source = [int(number) for number in numbers[:, 0].tolist()]
    return here, list(zip(source, own.reshape(-1, 4, 4)))


def attention_picture(
    model: ViewableModel,
    weights: Float[Tensor, "b n"],
    gaussians: Gaussians,
    views: Views,
) -> Float[Tensor, "b h wd 1"]:
    """Attention of the head to one token (the paper's Fig. 4), stretched to [0, 1] per picture."""
    low, high = weights.amin(dim=1, keepdim=True), weights.amax(dim=1, keepdim=True)
    stretched = (weights - low) / (high - low).clamp_min(1e-8)
    values = stretched[..., None] if gaussians.means.ndim == 3 else stretched[0, :, None]
    return splat_values(gaussians, values, views, model.rasterizer).rgb.clamp(0, 1)


def inside_crop(model: ViewableModel, gaussians: Gaussians) -> Gaussians:
    """Hide the Gaussians outside the viewer's crop box, judged by their canonical positions."""
    if model.crop_box is None:
        return gaussians
    inside = model.crop_box.within(model.head.gauss_params["means"].detach()).reshape(-1)
    logits = torch.where(inside, gaussians.opacity_logits, HIDDEN_LOGIT)
    return Gaussians(gaussians.means, gaussians.log_scales, gaussians.quats, logits, gaussians.sh)
