"""From audio windows to finished frames: conditions, Gaussians, pixels, surroundings."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor

from gaussiantalker_ns.conditions import FrameCondition
from gaussiantalker_ns.dataparsers.layers import BackgroundLayers
from gaussiantalker_ns.driving.backdrop import ReplacedPlate, head_over_torso, read_backdrop
from gaussiantalker_ns.driving.checkpoint import LoadedCheckpoint
from gaussiantalker_ns.driving.external_audio import rest_row, role_of
from gaussiantalker_ns.driving.performance import Performance
from gaussiantalker_ns.rendering.compositing import head_over, to_bytes
from gaussiantalker_ns.rendering.head_box import crop_views, head_box
from gaussiantalker_ns.rendering.splatting import Views
from gaussiantalker_ns.surroundings import Surroundings, TorsoMode

MOST_COMPOSERS = 8
"""Threads that lay heads over their surroundings, at most."""


@dataclass(frozen=True)
class Scene:
    """What is shown besides the head, and at which size."""

    size: int | None = None
    """Side of the frames in pixels, even; None renders at the size of the training."""
    background: str = "clip"
    """`clip`, `alpha` (frames are RGBA), a colour such as #20a040, or the path of a picture."""
    torso_mode: TorsoMode | None = None
    """What the head is laid over; None takes what the model was trained with."""


class FrameRenderer:
    """Renders the frames of one performance; everything that stays the same is made once."""

    def __init__(
        self, checkpoint: LoadedCheckpoint, scene: Scene, performance: Performance
    ) -> None:
        """Prepare a performance.

        Raises:
            ValueError: If the scene cannot be shown with this model.
            FileNotFoundError: If a picture or data file that was named is not there.
        """
        model = checkpoint.model
        self.performance = performance
        self._model, self._bank = model, model.bank
        trained = model.surroundings
        self._mode: TorsoMode = scene.torso_mode or trained.mode
        self._check_mode(trained.mode, scene)
        layers = trained.layers
        self.size = scene.size or layers.size
        if self.size % 2 or not 16 <= self.size <= 4096:
            raise ValueError(f"--size is {self.size}; expected an even number from 16 to 4096.")
        layers = BackgroundLayers(layers.layout, self.size, layers.foreground, still_plate=True)
        self.has_alpha = scene.background == "alpha"
        if scene.background not in ("clip", "alpha"):
            layers = ReplacedPlate(layers, read_backdrop(scene.background, self.size))
        self._layers: Any = layers
        # Cameras stay in main memory too, where the surroundings read single numbers of them.
        self._K = trained.K.cpu().clone()
        self._K[:2] *= self.size / trained.layers.size
        self._surroundings = Surroundings(layers, self._K, self._mode)
        self._own_poses = self._bank.poses.cpu()
        self._role = role_of(self._bank, performance)
        # On a GPU the head takes less time than its surroundings, and the cores are free.
        self._composers: ThreadPoolExecutor | None = None
        if model.device.type == "cuda":
            count = min(MOST_COMPOSERS, os.cpu_count() or 1)
            self._composers = ThreadPoolExecutor(count, thread_name_prefix="compositing")

    @property
    def window_frames(self) -> int:
        """Frames that the temporal attention sees."""
        return self._bank.window_frames

    @property
    def rest_row(self) -> Float32[np.ndarray, "w a"] | None:
        """The mean feature row of silence; None where the gate is off or the model has none."""
        return rest_row(self._bank) if self.performance.silence_gate else None

    def _check_mode(self, trained: TorsoMode, scene: Scene) -> None:
        if (self._mode == "gaussians") != (trained == "gaussians"):
            raise ValueError(
                f"--torso-mode is {self._mode!r}, but the model was trained with {trained!r}: its"
                " Gaussians do not model the same part of the person. Leave the option out, or"
                " train with the other mode."
            )
        if self._mode == "paste-back" and scene.background != "clip":
            raise ValueError(
                f"--background is {scene.background!r} with --torso-mode paste-back, which shows"
                " the clip's own frames; expected `clip`. Choose --torso-mode layer."
            )
        pose, smoothing = self.performance.pose, self.performance.pose_smoothing_frames
        as_recorded = pose == "still" or (pose == "track" and smoothing == 0)
        if self._mode == "paste-back" and not as_recorded:
            raise ValueError(
                f"--pose is {str(pose)!r} and --pose-smoothing {smoothing} with --torso-mode"
                " paste-back, which shows the clip's own frames around the head; expected poses of"
                " the clip, `track` without smoothing or `still`. Choose --torso-mode layer."
            )

    def render(
        self, windows: Float32[np.ndarray, "b t w a"], frames: Int[np.ndarray, " b"]
    ) -> Iterator[UInt8[np.ndarray, "h wd c"]]:
        """Yield the frames of a block.

        Args:
            windows: Raw feature rows in the context of every frame.
            frames: Numbers of the frames since the beginning of the performance.
        """
        clip_frames = self._role.clip_frames(frames)
        poses = torch.from_numpy(self._role.poses(frames)).float()
        views = Views(poses, self._K.expand(len(frames), 3, 3), self.size, self.size)
        device = self._model.device
        on_device = Views(poses.to(device), views.Ks.to(device), self.size, self.size)
        with torch.no_grad():
            box = head_box(self._model.canonical_gaussians(), on_device)
            condition = self._condition(windows, frames, clip_frames, on_device.T_camera_head)
            gaussians = self._model.deformed_gaussians(condition)
            head = self._model.splat(gaussians, crop_views(on_device, box))
            rgb, alpha = head.rgb.cpu(), head.alpha.cpu()

        def compose(index: int) -> UInt8[np.ndarray, "h wd c"]:
            clip_frame = int(clip_frames[index])
            return self._compose(rgb[index], alpha[index], box, clip_frame, views, index)

        several = map if self._composers is None else self._composers.map
        yield from several(compose, range(len(clip_frames)))

    def _condition(
        self,
        windows: Float32[np.ndarray, "b t w a"],
        frames: Int[np.ndarray, " b"],
        clip_frames: Int[np.ndarray, " b"],
        poses: Float[Tensor, "b 4 4"],
    ) -> FrameCondition:
        bank, device = self._bank, self._model.device
        lent = torch.from_numpy(clip_frames).to(device)
        condition = bank.condition(lent, poses)
        eye = condition.eye
        closures = self._role.closures(frames)
        if closures is not None:
            eye = bank.with_blink(eye, torch.from_numpy(closures).to(eye))
        audio = bank.standardise_audio(torch.from_numpy(windows).to(device))
        return FrameCondition(audio, eye, condition.viewpoint)

    def _compose(
        self,
        rgb: Float[Tensor, "_ _ 3"],
        alpha: Float[Tensor, "_ _ 1"],
        box: tuple[int, int, int, int],
        clip_frame: int,
        views: Views,
        index: int,
    ) -> UInt8[np.ndarray, "h wd c"]:
        x0, y0, x1, y1 = box
        if self.has_alpha:
            picture = self._torso(clip_frame)
            part = picture[y0:y1, x0:x1]
            picture[y0:y1, x0:x1] = head_over_torso(rgb.numpy(), alpha.numpy(), part)
            return picture
        own_pose = self._own_poses[clip_frame]
        behind = self._surroundings.picture(clip_frame, own_pose, views, index)
        picture = behind.numpy().copy()
        part = torch.from_numpy(picture[y0:y1, x0:x1])
        picture[y0:y1, x0:x1] = head_over(rgb, alpha, part).numpy()
        if self._mode == "paste-back":
            rendered = torch.from_numpy(picture).float() / 255.0
            pasted = self._surroundings.pasted(rendered, clip_frame, own_pose, views, index)
            picture = to_bytes(pasted).numpy()
        return picture

    def _torso(self, clip_frame: int) -> UInt8[np.ndarray, "h wd 4"]:
        """The torso layer, or nothing where Gaussians model the whole person."""
        if self._mode == "gaussians":
            return np.zeros((self.size, self.size, 4), np.uint8)
        return self._layers.torso(clip_frame).numpy().copy()
