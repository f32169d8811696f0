"""Head crops of the training frames in the memory of a GPU, where it has room for them."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from gaussiantalker_ns.data.crop_cache import HeadCrops
from gaussiantalker_ns.engine.transfers import upload

DEVICE_FRACTION = 0.25
"""Fraction of the GPU's free memory that the crops may take; the training needs the rest."""

FRAMES_PER_COPY = 64
"""Frames that are decoded before they go to the GPU together."""

BYTES_PER_PIXEL = 7
"""Picture and background of three channels, and the mask."""


def has_room(crops: HeadCrops, device: torch.device | str) -> bool:
    """Whether `DEVICE_FRACTION` of a GPU's free memory holds the largest windows of all frames."""
    width, height = crops.largest
    free, _ = torch.cuda.mem_get_info(torch.device(device))
    return len(crops.dataset) * width * height * BYTES_PER_PIXEL <= DEVICE_FRACTION * free


class DeviceCrops:
    """The largest windows of all frames; batches are cut out of them on the device."""

    image: UInt8[Tensor, "n h wd 3"]
    background: UInt8[Tensor, "n h wd 3"]
    head_mask: UInt8[Tensor, "n h wd"]

    def __init__(self, crops: HeadCrops, device: torch.device | str, num_threads: int) -> None:
        """Decode every frame once and copy it to the device.

        Args:
            crops: Windows and pixels; it keeps no pixels of what is read here.
            device: Where batches are wanted.
            num_threads: Threads that decode.
        """
        width, height = crops.largest
        count = len(crops.dataset)
        shape = (count, height, width)
        self.image = torch.empty(*shape, 3, dtype=torch.uint8, device=device)
        self.background = torch.empty(*shape, 3, dtype=torch.uint8, device=device)
        self.head_mask = torch.empty(*shape, dtype=torch.uint8, device=device)
        corners = [crops.window_corner(index, crops.largest) for index in range(count)]
        self._corners = np.array(corners)
        with ThreadPoolExecutor(num_threads) as pool:
            for start in range(0, count, FRAMES_PER_COPY):
                indices = range(start, min(start + FRAMES_PER_COPY, count))
                found = list(pool.map(crops.read, indices))
                for name in ("image", "background", "head_mask"):
                    block = np.stack([getattr(crop, name) for crop in found])
                    place = getattr(self, name)[start : start + len(block)]
                    place.copy_(upload(torch.from_numpy(block), device))

    @property
    def gigabytes(self) -> float:
        """Memory on the device, in units of 2**30 bytes."""
        return self.head_mask.numel() * BYTES_PER_PIXEL / 2**30

    def places(self, indices: list[int], corners: Int64[Tensor, "b 2"]) -> Int64[Tensor, "b 3"]:
        """Where windows with their corners at x, y lie: item, and x and y inside what is kept."""
        inside = corners.numpy() - self._corners[indices]
        return torch.from_numpy(np.concatenate([np.array(indices)[:, None], inside], axis=1))

    def cut(
        self, places: Int64[Tensor, "b 3"], size: tuple[int, int]
    ) -> dict[str, UInt8[Tensor, "..."]]:
        """Cut windows of `size` (width, height) out of the frames.

        Args:
            places: Result of `places`, on the device.
            size: Width and height, at most those of the largest window.
        """
        items, x, y = places.unbind(1)
        columns = torch.arange(size[0], device=places.device) + x[:, None]
        rows = torch.arange(size[1], device=places.device) + y[:, None]
        pick = items[:, None, None], rows[:, :, None], columns[:, None, :]
        return {
            "image": self.image[pick],
            "background": self.background[pick],
            "head_mask": self.head_mask[pick],
        }
