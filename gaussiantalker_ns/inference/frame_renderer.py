"""Frame renderer: audio windows to finished frames over a background.

A block of frames is submitted and finished in two steps. On a GPU the first one waits for nothing,
so that the next block can be submitted before this one is finished: the GPU then always has work.
What lies behind the heads is read ahead by threads, where there are any to spare.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor

from gaussiantalker_ns.data.prefetcher import Prefetcher
from gaussiantalker_ns.engine.transfers import Download, on_gpu, upload
from gaussiantalker_ns.frame_signals import FrameCondition
from gaussiantalker_ns.gaussians.gaussians import Gaussians
from gaussiantalker_ns.inference.external_audio import mean_silence_features, motion_sampler
from gaussiantalker_ns.inference.motion import MotionConfig
from gaussiantalker_ns.inference.scene import (
    ReplacedBackground,
    Scene,
    check_size,
    over_torso,
    read_background,
)
from gaussiantalker_ns.inference.trained_talker import TrainedTalker
from gaussiantalker_ns.kernels.compile import num_threads
from gaussiantalker_ns.kernels.tiles import paint_head
from gaussiantalker_ns.rendering.background import Background, TorsoMode
from gaussiantalker_ns.rendering.compositing import composite_uint8, to_bytes
from gaussiantalker_ns.rendering.splatting import HeadExtent, RenderedHead, Views, crop_views

MOST_READERS = 8
"""Threads that read what lies behind the heads, at most."""

FRAMES_AHEAD = 16
"""Frames whose backgrounds are read before their turn."""

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels, ends exclusive."""


@dataclass(frozen=True)
class Block:
    """Frames that have been submitted."""

    frames: Int[np.ndarray, " b"]
    """Their numbers since the beginning of the video."""
    box: Box
    """The part of the pictures with the heads."""
    behind: list[UInt8[np.ndarray, "h wd c"]]
    """What lies behind the heads, to be painted over."""
    parts: tuple[Download, ...]
    """The pixels of the box: finished by a GPU, or colours and alphas that are still to be laid
    over what is behind them."""


class FrameRenderer:
    """Renders the frames of one video; everything that stays the same is made once."""

    def __init__(self, checkpoint: TrainedTalker, scene: Scene, motion: MotionConfig) -> None:
        """Prepare for a video.

        Raises:
            ValueError: If the scene cannot be shown with this model.
            FileNotFoundError: If a picture or data file that was named is not there.
        """
        model = checkpoint.model
        self.motion = motion
        self._model, self._bank = model, model.bank
        trained = model.background
        self._mode: TorsoMode = scene.torso_mode or trained.mode
        self._check_mode(trained.mode, trained.layers.has_source_frames, scene)
        layers = trained.layers
        self.size = scene.size or layers.size
        check_size(self.size)
        layers = layers.at_size(self.size)
        self.has_alpha = scene.background == "alpha"
        if scene.background not in ("clip", "alpha"):
            layers = ReplacedBackground(layers, read_background(scene.background, self.size))
        self._layers: Any = layers
        # Cameras stay in main memory too, where the background read single numbers of them.
        self._K = trained.K.cpu().clone()
        self._K[:2] *= self.size / trained.layers.size
        self._background = Background(layers, self._K, self._mode)
        self._own_poses = self._bank.poses.cpu()
        self._sampler = motion_sampler(self._bank, motion)
        self.overlaps = on_gpu(model.device)
        """Whether blocks are better submitted before the one before them is finished."""
        # On a GPU the heads take less time than their background, and the cores are free.
        readers = min(MOST_READERS, os.cpu_count() or 1) if self.overlaps else 1
        reads_ahead = self.overlaps or num_threads() > 1
        self._behind = Prefetcher(self._read_behind, FRAMES_AHEAD if reads_ahead else 0, readers)
        self._extent: HeadExtent | None = None

    @property
    def window_frames(self) -> int:
        """Frames that the temporal attention sees."""
        return self._bank.window_frames

    @property
    def mean_silence_features(self) -> Float32[np.ndarray, "w a"] | None:
        """The mean feature row of silence; None where the gate is off or the model has none."""
        return mean_silence_features(self._bank) if self.motion.silence_gate else None

    def _check_mode(self, trained: TorsoMode, has_source_frames: bool, scene: Scene) -> None:
        if (self._mode == "gaussians") != (trained == "gaussians"):
            raise ValueError(
                f"--torso-mode is {self._mode!r}, but the model was trained with {trained!r}: its"
                " Gaussians do not model the same part of the person. Leave the option out, or"
                " train with the other mode."
            )
        if self._mode == "paste-back" and not has_source_frames:
            raise ValueError(
                "--torso-mode is 'paste-back', but a talker file does not hold the clip's own"
                " frames; expected a run with its data set. Name it with --load-config, or leave"
                " the option out."
            )
        if self._mode == "paste-back" and scene.background != "clip":
            raise ValueError(
                f"--background is {scene.background!r} with --torso-mode paste-back, which shows"
                " the clip's own frames; expected `clip`. Choose --torso-mode layer."
            )
        pose, smoothing = self.motion.pose, self.motion.pose_smoothing_frames
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
            frames: Numbers of the frames since the beginning of the video.
        """
        yield from self.finish(self.submit(windows, frames))

    def submit(
        self, windows: Float32[np.ndarray, "b t w a"], frames: Int[np.ndarray, " b"]
    ) -> Block:
        """Begin a block: a GPU is given all its work, and is not waited for; see `render`."""
        device = self._model.device
        views = self._views(frames)
        with torch.no_grad():
            box = self._head_extent().box(views)
            inside = crop_views(views, box)
            poses, Ks = upload(inside.T_camera_head, device), upload(inside.Ks, device)
            gaussians = self._model.deformed_gaussians(self._condition(windows, frames, poses))
            head = self._model.splat(gaussians, Views(poses, Ks, inside.width, inside.height))
            return self._compose(head, box, frames)

    def finish(self, block: Block) -> Iterator[UInt8[np.ndarray, "h wd c"]]:
        """Yield the frames of a block, which is waited for."""
        parts = [part.result().numpy() for part in block.parts]
        for index in range(len(block.frames)):
            yield self._paint(block, parts, index)

    def close(self) -> None:
        """End the threads."""
        self._behind.close()

    def _views(self, frames: Int[np.ndarray, " b"]) -> Views:
        """The cameras of some frames, in main memory."""
        poses = torch.from_numpy(self._sampler.poses(frames)).float()
        return Views(poses, self._K.expand(len(frames), 3, 3), self.size, self.size)

    def _head_extent(self) -> HeadExtent:
        """The outline of the head, in main memory, where boxes cost no wait for the GPU."""
        if self._extent is None:
            head = self._model.canonical_gaussians()
            self._extent = HeadExtent(Gaussians(**{k: v.cpu() for k, v in vars(head).items()}))
        return self._extent

    def _condition(
        self,
        windows: Float32[np.ndarray, "b t w a"],
        frames: Int[np.ndarray, " b"],
        poses: Float[Tensor, "b 4 4"],
    ) -> FrameCondition:
        bank, device = self._bank, self._model.device
        source = upload(torch.from_numpy(self._clip_frames(frames)), device)
        condition = bank.condition(source, poses)
        eye = condition.eye
        closures = self._sampler.closures(frames)
        if closures is not None:
            eye = bank.with_blink(eye, upload(torch.from_numpy(closures).to(eye.dtype), device))
        rows = upload(torch.from_numpy(windows), device)
        audio = bank.audio_signal(rows, self.motion.lip_gain)
        return FrameCondition(audio, eye, condition.viewpoint)

    def _clip_frames(self, frames: Int[np.ndarray, " b"]) -> Int[np.ndarray, " b"]:
        return np.ascontiguousarray(self._sampler.clip_frames(frames))

    def _compose(self, head: RenderedHead, box: Box, frames: Int[np.ndarray, " b"]) -> Block:
        """Lay the heads over what is behind them, where they were rendered."""
        x0, y0, x1, y1 = box
        behind = [self._behind.get(int(frame)) for frame in frames]
        if self.has_alpha or head.rgb.device.type == "cpu":
            parts = Download(head.rgb), Download(head.alpha)
        else:
            windows = np.stack([picture[y0:y1, x0:x1] for picture in behind])
            below = upload(torch.from_numpy(windows), head.rgb.device)
            parts = (Download(composite_uint8(head.rgb, head.alpha, below)),)
        return Block(frames, box, behind, parts)

    def _read_behind(self, frame: int) -> UInt8[np.ndarray, "h wd c"]:
        """What lies behind the head in a frame of the video, in an array of its own."""
        frames = np.array([frame])
        clip_frame = int(self._clip_frames(frames)[0])
        if self.has_alpha:
            return self._torso(clip_frame)
        own_pose = self._own_poses[clip_frame]
        behind = self._background.picture(clip_frame, own_pose, self._views(frames), 0)
        # Backgrounds that all frames share must not be painted over.
        return behind.numpy().copy()

    def _paint(
        self, block: Block, parts: list[np.ndarray], index: int
    ) -> UInt8[np.ndarray, "h wd c"]:
        """Put the head of one frame of a block into its picture."""
        x0, y0, x1, y1 = block.box
        picture = block.behind[index]
        window = picture[y0:y1, x0:x1]
        if len(parts) == 1:
            window[:] = parts[0][index]
        elif self.has_alpha:
            window[:] = over_torso(parts[0][index], parts[1][index], window)
        else:
            paint_head(parts[0][index], parts[1][index], window)
        return self._pasted(picture, block, index) if self._mode == "paste-back" else picture

    def _pasted(
        self, picture: UInt8[np.ndarray, "h wd 3"], block: Block, index: int
    ) -> UInt8[np.ndarray, "h wd 3"]:
        """A finished picture, blended into the clip's own frame."""
        frames = block.frames[index : index + 1]
        clip_frame = int(self._clip_frames(frames)[0])
        rendered = torch.from_numpy(picture).float() / 255.0
        own_pose = self._own_poses[clip_frame]
        views = self._views(frames)
        return to_bytes(self._background.blended(rendered, clip_frame, own_pose, views, 0)).numpy()

    def _torso(self, clip_frame: int) -> UInt8[np.ndarray, "h wd 4"]:
        """The torso layer, or nothing where Gaussians model the whole person."""
        if self._mode == "gaussians":
            return np.zeros((self.size, self.size, 4), np.uint8)
        return self._layers.torso(clip_frame).numpy().copy()
