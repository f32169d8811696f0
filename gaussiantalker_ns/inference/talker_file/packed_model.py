"""The model in a talker file: what `FrameRenderer` asks of a trained model, without Nerfstudio."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gaussiantalker_ns.audio.articulation import ArticulationConfig
from gaussiantalker_ns.data.conditions import FrameConditions
from gaussiantalker_ns.data.eye_signal import EyeForm
from gaussiantalker_ns.dataparsers.background_layers import CachedLayers
from gaussiantalker_ns.face.topology import UPPER_FACE_BLENDSHAPES
from gaussiantalker_ns.fields.talking_head import TalkingHead, TalkingHeadConfig
from gaussiantalker_ns.frame_signals import ConditionTrack, FrameCondition
from gaussiantalker_ns.gaussians.gaussians import Gaussians
from gaussiantalker_ns.inference.talker_file import webp
from gaussiantalker_ns.inference.talker_file.schema import AudioInput, Description, torso_name
from gaussiantalker_ns.rendering.background import Background
from gaussiantalker_ns.rendering.compositing import resize_to_cover
from gaussiantalker_ns.rendering.rasterize import Backend
from gaussiantalker_ns.rendering.splatting import RenderedHead, Views, splat_colors
from gaussiantalker_ns.timebase import FPS

NUM_BLENDSHAPES = 52
BLENDSHAPE_EYE, BLINK_EYE = 17, 1
"""Length of the two forms of the eye signal."""


class PackedLayers(CachedLayers):
    """Background and torso layers of a talker file, decoded when they are shown."""

    has_source_frames = False

    def __init__(
        self,
        background: UInt8[np.ndarray, "h wd 3"],
        torsos: list[memoryview],
        path: Path,
        size: int | None = None,
        cache_bytes: int | None = None,
    ) -> None:
        """Keep what was read.

        Args:
            background: The background at the file's size.
            torsos: One WebP a frame, with the rows from the torso's first one downwards; none
                where Gaussians model the whole person.
            path: The file, for messages.
            size: Side of the pictures that are wanted; None for the file's own.
            cache_bytes: Memory for layers that were shown; None goes by the machine.
        """
        self._own_background, self._torsos, self._path = background, torsos, path
        size = size or len(background)
        super().__init__(size, "head" if torsos else "person", cache_bytes)
        self._background = resize_to_cover(background, size, size)

    @property
    def static(self) -> "PackedLayers":
        """The layers themselves: a file has one background."""
        return self

    def at_size(self, size: int) -> "PackedLayers":
        """The same layers in pictures of another size."""
        return PackedLayers(self._own_background, self._torsos, self._path, size, self.cache_bytes)

    def _background_behind(self, frame: int) -> UInt8[np.ndarray, "h wd 3"]:
        return self._background

    def _straight_torso(self, frame: int) -> UInt8[np.ndarray, "_ _ 4"]:
        side = len(self._own_background)
        whole = np.zeros((side, side, 4), np.uint8)
        if self._torsos:
            lower = webp.decode(self._torsos[frame], 4, torso_name(frame), self._path)
            whole[side - len(lower) :] = lower
        return whole


class PackedModel(nn.Module):
    """A trained head with its features looked up already, its conditions and its background."""

    features: Float[Tensor, "n f"]

    def __init__(
        self,
        description: Description,
        features: Float[Tensor, "n f"],
        layers: PackedLayers,
        bank: FrameConditions,
        head: TalkingHead,
    ) -> None:
        """Put the parts together; see `read_talker`."""
        super().__init__()
        self.head, self.bank = head, bank
        self.register_buffer("features", features)
        camera = description.camera
        K = [[camera.fx, 0.0, camera.cx], [0.0, camera.fy, camera.cy], [0.0, 0.0, 1.0]]
        self.background = Background(layers, torch.tensor(K), description.torso_mode)
        self.sh_degree = description.sh_degree
        self.rasterizer: Backend = "auto"

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.features.device

    def canonical_gaussians(self) -> Gaussians:
        """The mean shape of the head."""
        return self.head.canonical()

    def deformed_gaussians(self, condition: FrameCondition) -> Gaussians:
        """The head in b frames."""
        return self.head.canonical().deformed(self.head.deltas(self.features, condition))

    def splat(self, gaussians: Gaussians, views: Views, absgrad: bool = False) -> RenderedHead:
        """Render the head alone."""
        return splat_colors(gaussians, views, self.sh_degree, self.rasterizer, absgrad)


def packed_conditions(
    audio: AudioInput,
    eye_form: EyeForm,
    viewpoint_gain: float,
    T_camera_head: Float[Tensor, "m 4 4"],
    eye: Float[Tensor, "m e"],
    articulation: ArticulationConfig | None = None,
) -> FrameConditions:
    """The conditions of a motion track, which has no sound of its own.

    The statistics are those of the track until the file's are loaded.
    """
    num_frames = len(eye)
    blendshapes = None
    if eye_form == "expression":
        blendshapes = eye.new_zeros(num_frames, NUM_BLENDSHAPES)
        blendshapes[:, list(UPPER_FACE_BLENDSHAPES)] = eye
    track = ConditionTrack(
        audio=torch.zeros(1, *audio.window_shape).expand(num_frames, -1, -1),
        audio_encoder=audio.encoder,
        blink=torch.zeros(num_frames) if eye_form == "expression" else eye[:, 0],
        blendshapes=blendshapes,
        mouth=None if articulation is None else torch.zeros(num_frames, 2),
        T_camera_head=T_camera_head,
        valid=torch.ones(num_frames, dtype=torch.bool),
        train_frames=torch.arange(num_frames),
        fps=float(FPS),
    )
    return FrameConditions(
        track,
        eye_form,
        audio.context_frames,
        viewpoint_gain=viewpoint_gain,
        articulation=articulation,
    )


class WithoutNumbers(TorchFunctionMode):
    """Leaves weights as they are while a network is built, as a file brings its own.

    Drawing numbers that nobody stores takes torch seconds at the first time, on the meta device.
    """

    DRAWN = frozenset({"uniform_", "normal_", "fill_", "zero_"})

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Skip what fills a tensor, and make empty ones of random ones."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        if name in self.DRAWN:
            return args[0]
        if func in (torch.rand, torch.randn):
            return torch.empty(*args, **kwargs)
        return func(*args, **kwargs)


def packed_head(
    config: TalkingHeadConfig,
    gaussians: dict[str, Tensor],
    mouth_border: Float[Tensor, "2"],
    audio_shape: tuple[int, int],
    eye_size: int,
) -> TalkingHead:
    """The network of a file, its weights without memory until they are loaded.

    Features were looked up and attributes predicted when it was packed, so that planes of two cells
    stand for those of the training and nothing is predicted.
    """
    levels = len(config.triplane.resolutions)
    small = replace(
        config,
        triplane=replace(config.triplane, resolutions=(2,) * levels),
        canonical=replace(config.canonical, canonical_attributes=()),
    )
    bounds = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
    with torch.device("meta"), WithoutNumbers():
        return TalkingHead(small, gaussians, bounds, mouth_border, audio_shape, eye_size)
