"""What a driven head is laid over: the clip's plate, another picture, a colour, or nothing."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gaussiantalker_ns.dataparsers.frames import decode_rgb
from gaussiantalker_ns.rendering.compositing import resize_to_cover

HEX_COLOUR = re.compile(r"#([0-9a-fA-F]{6})")


def read_backdrop(source: str, size: int) -> UInt8[np.ndarray, "h wd 3"]:
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
    return resize_to_cover(decode_rgb(path.read_bytes(), path), size, size)


class ReplacedPlate:
    """The clip's layers with another picture in place of the plate."""

    def __init__(self, layers: Any, plate: UInt8[np.ndarray, "h wd 3"]) -> None:
        self._layers = layers
        self._plate = plate

    def plate_behind(self, frame: int) -> UInt8[Tensor, "h wd 3"]:
        """The picture behind the person, the same in all frames."""
        del frame
        return torch.from_numpy(self._plate)

    def torso(self, frame: int) -> UInt8[Tensor, "h wd 4"]:
        """The torso layer of a frame, RGBA with straight alpha."""
        return self._layers.torso(frame)

    def composite(self, frame: int) -> UInt8[Tensor, "h wd 3"]:
        """The torso layer over the picture."""
        torso = self.torso(frame).numpy().astype(np.uint16)
        alpha = torso[..., 3:]
        mixed = (torso[..., :3] * alpha + self._plate * (255 - alpha) + 127) // 255
        return torch.from_numpy(mixed.astype(np.uint8))


def head_over_torso(
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
