"""Per-frame signals: conditions of some frames, their track over a clip, and overrides."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor


@dataclass
class FrameCondition:
    """What drives the head in each of b frames, standardised the way the model was trained."""

    audio: Float[Tensor, "b t w a"]
    """Windows of w feature rows for the t frames seen by the temporal attention, unit standard
    deviation."""
    eye: Float[Tensor, "b e"]
    """Blink value in [0, 1] (e = 1) or standardised upper-face blendshapes (e = 17)."""
    viewpoint: Float[Tensor, "b 12"]
    """Standardised head pose: rotation row by row, then translation."""

    def __len__(self) -> int:
        return len(self.audio)

    def __getitem__(self, frames: "int | slice | Tensor") -> "FrameCondition":
        """Pick frames; a single number keeps the batch axis, of length one."""
        if isinstance(frames, int):
            frames = slice(frames, frames + 1 or None)
        return FrameCondition(self.audio[frames], self.eye[frames], self.viewpoint[frames])

    def to(self, device: torch.device | str) -> "FrameCondition":
        """Move all signals to a device."""
        return FrameCondition(self.audio.to(device), self.eye.to(device), self.viewpoint.to(device))


@dataclass
class ConditionTrack:
    """The signals of a whole clip, all splits together, as measured."""

    audio: Float[Tensor, "m w a"]
    """Windows of w rows of encoder features for every frame, float32 or float16."""
    audio_encoder: str
    """Name of the encoder that made them."""
    blink: Float[Tensor, " m"]
    """Eye closure in [0, 1]."""
    blendshapes: Float[Tensor, "m 52"] | None
    """Blendshape scores in [0, 1]; None for data sets without them."""
    mouth: Float[Tensor, "m c"] | None
    """Description of the mouth: opening, width (eye distances), then blendshapes of jaw and mouth
    where there are some; NaN rows without a face. None for data sets without landmarks."""
    T_camera_head: Float32[Tensor, "m 4 4"]
    """OpenCV head poses in scene units (decimetres)."""
    valid: Bool[Tensor, " m"]
    """Frames in which a face was found."""
    train_frames: Int64[Tensor, " p"]
    """Frames of the training split."""
    fps: float
    """Frames per second."""


@dataclass
class Overrides:
    """Signals that replace those of the frame at run time; None leaves a signal as it is."""

    blink: float | None = None
    """Eye closure in [0, 1]: 0 wide open, 1 closed; gaze and squint then rest at their mean."""
    expression: Float[Tensor, "17"] | None = None
    """Raw upper-face blendshapes in [0, 1] for every frame; `blink` goes before their eyes."""
    expression_frame: int | None = None
    """Frame of the training clip whose expression is held."""
    viewpoint_frame: int | None = None
    """Frame of the training clip whose head pose is shown to the network (not to the camera)."""


def flatten_pose(T_camera_head: Float[Tensor, "m 4 4"]) -> Float[Tensor, "m 12"]:
    """The viewpoint signal of OpenCV head poses: rotation row by row, then translation."""
    return torch.cat([T_camera_head[:, :3, :3].flatten(1), T_camera_head[:, :3, 3]], dim=1)
