"""The scene around a driven head: size, background (clip, picture, colour, none) and torso."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gaussiantalker_ns.files import read_rgb
from gaussiantalker_ns.rendering.background import TorsoMode
from gaussiantalker_ns.rendering.compositing import resize_to_cover


@dataclass(frozen=True)
class Scene:
    """What is shown besides the head, and at which size."""

    size: int | None = None
    """Side of the frames in pixels, even; None renders at the size of the training."""
    background: str = "clip"
    """`clip`, `alpha` (frames are RGBA), a colour such as #20a040, or the path of a picture."""
    torso_mode: TorsoMode | None = None
    """What the head is laid over; None takes what the model was trained with."""

    def __post_init__(self) -> None:
        if self.size is not None:
            check_size(self.size)
        if self.background.startswith("#") and not HEX_COLOUR.fullmatch(self.background):
            raise ValueError(
                f"--background is {self.background!r}; expected six hexadecimal digits for a"
                " colour, such as #20a040."
            )


def check_size(size: int) -> None:
    """Check that frames may have a size.

    Raises:
        ValueError: They may not.
    """
    if size % 2 or not 16 <= size <= 4096:
        raise ValueError(f"--size is {size}; expected an even number from 16 to 4096.")


HEX_COLOUR = re.compile(r"#([0-9a-fA-F]{6})")


def another_picture(path: Path) -> str:
    """What to do about a background that is no picture."""
    return "Choose another file with --background."


def read_background(source: str, size: int) -> UInt8[np.ndarray, "h wd 3"]:
    """Make a square picture of `size` pixels from a colour `#rrggbb` or an image file.

    Raises:
        FileNotFoundError: If `source` is neither a colour nor a file.
    """
    match = HEX_COLOUR.fullmatch(source)
    if match:
        colour = np.frombuffer(bytes.fromhex(match[1]), np.uint8)
        return np.broadcast_to(colour, (size, size, 3)).copy()
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(
            f"--background is {source!r}, which is neither an image file nor a colour; expected"
            " `clip`, `alpha`, a colour such as #20a040, or the path of a picture."
        )
    return resize_to_cover(read_rgb(path, remedy=another_picture), size, size)


class ReplacedBackground:
    """The clip's layers with another picture in place of the background."""

    def __init__(self, layers: Any, background: UInt8[np.ndarray, "h wd 3"]) -> None:
        self._layers = layers
        self._background = background

    def background_behind(self, frame: int) -> UInt8[Tensor, "h wd 3"]:
        """The picture behind the person, the same in all frames."""
        del frame
        return torch.from_numpy(self._background)

    def torso(self, frame: int) -> UInt8[Tensor, "h wd 4"]:
        """The torso layer of a frame, RGBA with straight alpha."""
        return self._layers.torso(frame)

    def composite(self, frame: int) -> UInt8[Tensor, "h wd 3"]:
        """The torso layer over the picture."""
        torso = self.torso(frame).numpy().astype(np.uint16)
        alpha = torso[..., 3:]
        mixed = (torso[..., :3] * alpha + self._background * (255 - alpha) + 127) // 255
        return torch.from_numpy(mixed.astype(np.uint8))


def over_torso(
    head: Float[np.ndarray, "h wd 3"],
    coverage: Float[np.ndarray, "h wd 1"],
    torso: UInt8[np.ndarray, "h wd 4"],
) -> UInt8[np.ndarray, "h wd 4"]:
    """Lay a premultiplied head over a torso layer; the result has straight alpha."""
    torso_alpha = torso[..., 3:].astype(np.float32) / 255.0
    alpha = coverage + (1.0 - coverage) * torso_alpha
    color = head + (1.0 - coverage) * torso_alpha * (torso[..., :3].astype(np.float32) / 255.0)
    straight = color / np.maximum(alpha, 1e-4)
    rgba = np.concatenate([straight, alpha], axis=-1)
    return (np.clip(rgba, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
