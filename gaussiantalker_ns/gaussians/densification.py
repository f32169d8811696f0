"""Growing and pruning canonical Gaussians with gsplat's default strategy, under a cap.

Gradients, optimiser states and pruning all work on the live tensors. The running statistics are
part of the checkpoint, so that a resumed run refines like one that was never stopped.
"""

from dataclasses import dataclass
from typing import Any

import torch
from gsplat.strategy import DefaultStrategy
from gsplat.strategy.ops import remove
from torch import nn
from torch.optim import Optimizer


@dataclass
class DensificationConfig:
    """When and how the number of Gaussians changes; only in the canonical stage."""

    grow: bool = True
    """Whether Gaussians with a large view-space gradient are cloned or split."""
    prune: bool = True
    """Whether Gaussians that have become transparent, or too large, are removed."""
    start: int = 500
    """Step, >= 0, after which Gaussians may be removed."""
    grow_start: int = 1000
    """Step, >= 0, after which Gaussians may be added."""
    stop: int = 7000
    """Step, >= 0, from which the count stays as it is; the end of the canonical stage is another
    limit."""
    every: int = 100
    """Steps between two changes of the count, >= 1."""
    gradient_threshold: float = 1e-3
    """Mean gradient of the screen position (unit: half frames) that makes a Gaussian grow."""
    absolute_gradient: bool = False
    """Sum the sizes of the pixels' gradients instead of the gradients, which may cancel."""
    split_scale: float = 0.018
    """Gaussians larger than this (scene units) are split, smaller ones are cloned."""
    prune_opacity: float = 0.005
    """Opacity in (0, 1) below which a Gaussian is removed."""
    prune_scale: float | None = 0.18
    """Gaussians larger than this (scene units, > 0) are removed when `prune` is on; None keeps
    them."""
    prune_scale_start: int = 3000
    """Step, >= 0, after which Gaussians are removed for their size."""
    max_gaussians: int = 50_000
    """Cap on the count: growing stops there."""

    def __post_init__(self) -> None:
        for name, lowest in (
            ("start", 0),
            ("grow_start", 0),
            ("stop", 0),
            ("every", 1),
            ("prune_scale_start", 0),
        ):
            if getattr(self, name) < lowest:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; expected at least {lowest}. "
                    f"Change --pipeline.model.densification.{name.replace('_', '-')}."
                )
        if self.prune_scale is not None and not self.prune_scale > 0:
            raise ValueError(
                f"prune_scale is {self.prune_scale}; expected a size above 0, or None. "
                "Change --pipeline.model.densification.prune-scale."
            )

    @property
    def active(self) -> bool:
        """Whether anything is to be done at all."""
        return self.grow or self.prune


class CappedStrategy(DefaultStrategy):
    """gsplat's strategy, which clones and splits no more Gaussians than fit under a cap.

    It never resets opacities, before which gsplat would not remove by size.
    """

    def __init__(self, config: DensificationConfig) -> None:
        super().__init__(
            prune_opa=config.prune_opacity if config.prune else -1.0,
            prune_scale3d=config.prune_scale or float("inf"),
            grow_grad2d=config.gradient_threshold,
            grow_scale3d=config.split_scale,
            refine_start_iter=config.start,
            refine_stop_iter=config.stop,
            refine_every=config.every,
            # The public code has this commented out: it throws away what has been learnt.
            reset_every=10**9,
            absgrad=config.absolute_gradient,
        )
        self.config = config

    @torch.no_grad()
    def _update_state(
        self, params: Any, state: dict[str, Any], info: dict[str, Any], packed: bool = False
    ) -> None:
        """Add up the gradients of the cameras that see a Gaussian, and count these cameras.

        gsplat picks out what is seen, whose number the host has to wait for three times a step.
        """
        assert not packed, "the rasterizer reports every Gaussian of every camera"
        means2d, num_cameras = info["means2d"], info["n_cameras"]
        gradient = means2d.absgrad if self.absgrad else means2d.grad
        halves = (info["width"] / 2 * num_cameras, info["height"] / 2 * num_cameras)
        size = torch.hypot(gradient[..., 0] * halves[0], gradient[..., 1] * halves[1])
        seen = info["radii"] > 0
        for name, value in (("grad2d", torch.where(seen, size, 0.0)), ("count", seen.float())):
            total = value.sum(dim=0)
            state[name] = total if state[name] is None else state[name] + total

    def _grow_gs(
        self, params: Any, optimizers: Any, state: dict[str, Any], step: int
    ) -> tuple[int, int]:
        wanted = self.config.grow and step > self.config.grow_start
        room = self.config.max_gaussians - len(params["means"]) if wanted else 0
        if room <= 0:
            return 0, 0
        mean_gradient = state["grad2d"] / state["count"].clamp_min(1)
        if room < len(mean_gradient):
            # The sums are cleared after every refinement, so weaker ones can be struck out here.
            state["grad2d"][mean_gradient < mean_gradient.topk(room).values[-1]] = 0.0
        return super()._grow_gs(params, optimizers, state, step)

    @torch.no_grad()
    def _prune_gs(self, params: Any, optimizers: Any, state: dict[str, Any], step: int) -> int:
        removed = torch.sigmoid(params["opacities"].flatten()) < self.prune_opa
        if self.config.prune and step > self.config.prune_scale_start:
            largest = params["scales"].amax(dim=-1).exp()
            removed = removed | (largest > self.prune_scale3d * state["scene_scale"])
        num_removed = int(removed.sum())
        if num_removed > 0:
            remove(params=params, optimizers=optimizers, state=state, mask=removed)
        return num_removed


class DensificationStrategy(nn.Module):
    """The strategy with its running statistics, which travel in the checkpoint.

    Attributes:
        enabled: The pipeline switches it off in the deformation stage and in distributed runs.
    """

    def __init__(self, config: DensificationConfig, frame_side: int) -> None:
        """Build the strategy.

        Args:
            config: When and how the count changes.
            frame_side: Side in pixels of the whole frames, of which batches hold crops.
        """
        super().__init__()
        self.config = config
        self.frame_side = frame_side
        self.strategy = CappedStrategy(config)
        self.state = self.strategy.initialize_state(scene_scale=1.0)
        self.enabled = True

    def runs_at(self, step: int) -> bool:
        """Whether the statistics of this step are wanted."""
        return self.enabled and self.config.active and step < self.config.stop

    def refines_at(self, step: int) -> bool:
        """Whether the Gaussians themselves may change after this step."""
        counted = max(step, 1)
        due = counted > self.config.start and counted % self.config.every == 0
        return self.runs_at(step) and due

    def before_backward(self, info: dict[str, Any]) -> None:
        """Ask for the gradient of the screen positions."""
        info["means2d"].retain_grad()

    def after_step(
        self,
        params: nn.ParameterDict,
        optimizers: dict[str, Optimizer],
        step: int,
        info: dict[str, Any],
    ) -> bool:
        """Gather statistics and, when it is time, change the Gaussians with their optimiser states.

        Args:
            params: The free tensors of the Gaussians, one optimiser each under the same name.
            optimizers: Name -> optimiser.
            step: Training step just done.
            info: What the rasterizer reported for this step.

        Returns:
            Whether the number of Gaussians changed.
        """
        count = len(params["means"])
        for name in ("grad2d", "count"):
            if self.state[name] is not None:
                # Statistics of a checkpoint arrive in main memory.
                self.state[name] = self.state[name].to(params["means"].device)
        # gsplat measures gradients in halves of the picture: of the frame, not of its crop.
        info = {**info, "width": self.frame_side, "height": self.frame_side}
        # Step 0 would count as a multiple of `reset_every`.
        self.strategy.step_post_backward(
            params=params, optimizers=optimizers, state=self.state, step=max(step, 1), info=info
        )
        return len(params["means"]) != count

    def get_extra_state(self) -> dict[str, Any]:
        """The running statistics for the checkpoint."""
        return {name: self.state[name] for name in ("grad2d", "count")}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take the statistics of a checkpoint."""
        for name in ("grad2d", "count"):
            value = state[name]
            self.state[name] = value.clone() if isinstance(value, torch.Tensor) else None
