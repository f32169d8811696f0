"""Frames of one split at the working size, decoded when they are asked for."""

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset

from gaussiantalker_ns.dataparsers.background_layers import BackgroundLayers
from gaussiantalker_ns.dataparsers.frames import read_picture

BOXES = ("face", "lips", "eyes")


class TalkingHeadDataset(InputDataset):
    """Pictures, backgrounds and masks of a split of a `talking-head` data set.

    `dataset[i]` is Nerfstudio's light view (the picture as float32); `get_data(i, "uint8")` has all
    that training and metrics need.
    """

    def __init__(self, dataparser_outputs: DataparserOutputs, scale_factor: float = 1.0) -> None:
        if scale_factor != 1.0:
            raise ValueError(
                f"camera_res_scale_factor is {scale_factor}; expected 1, because masks and layers "
                "are resized by the data parser. Set its image_size instead."
            )
        super().__init__(dataparser_outputs, scale_factor)
        self.metadata = dataparser_outputs.metadata
        self.layers: BackgroundLayers = self.metadata["layers"]
        assert self.cameras.metadata is not None
        self.frames: list[int] = self.cameras.metadata["frame"][:, 0].tolist()

    @property
    def size(self) -> int:
        """Working side of the square frames."""
        return self.layers.size

    def __getitem__(self, image_idx: int) -> dict[str, Any]:
        """Return the picture as float32 in [0, 1] with its frame number."""
        return {
            "image_idx": image_idx,
            "image": self.get_image_float32(image_idx),
            "frame": torch.tensor(self.frames[image_idx]),
        }

    def get_numpy_image(self, image_idx: int) -> UInt8[np.ndarray, "h wd 3"]:
        """Decode a picture, RGB."""
        return read_picture(self.image_filenames[image_idx], self.size)

    def get_data(
        self, image_idx: int, image_type: Literal["uint8", "float32"] = "float32"
    ) -> dict[str, Any]:
        """Return the full frame with the keys of a training batch, without a batch axis.

        `image` and `background` (RGB), `head_mask` (0..255), `face_box`, `lips_box`, `eyes_box`
        (x0, y0, x1, y1 in pixels, ends exclusive) and `frame`.
        """
        frame = self.frames[image_idx]
        data = super().get_data(image_idx, image_type)
        data["background"] = self.layers.composite(frame)
        data["head_mask"] = self.layers.mask(frame)
        data["frame"] = torch.tensor(frame)
        for name in BOXES:
            data[f"{name}_box"] = self.metadata["boxes"][name][frame]
        return data
