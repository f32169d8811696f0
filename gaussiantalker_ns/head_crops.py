"""Head crops of the training frames, kept in memory as compactly as a byte budget asks for.

A training batch needs the pixels around the head alone: outside, target and background are equal.
Every frame has its own window, all windows of a batch have one size. Masks are kept compressed,
backgrounds as compressed difference to the plate, pictures raw until the budget is spent and then
decoded on demand.
"""

import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

import numpy as np
from jaxtyping import Int64, UInt8

from gaussiantalker_ns.dataset import TalkingHeadDataset

WINDOW_MULTIPLE = 16
"""Window sides are rounded up to this, so that nearly all batches have one shape."""

TYPICAL_QUANTILE = 0.95
"""Share of the frames whose head fits into the typical window, the one that is kept in memory."""

COMPRESSION = 1  # zlib's fastest level.


@dataclass(frozen=True)
class HeadCrop:
    """One frame's pixels inside its window."""

    image: UInt8[np.ndarray, "h wd 3"]
    background: UInt8[np.ndarray, "h wd 3"]
    head_mask: UInt8[np.ndarray, "h wd"]


@dataclass
class _StoredFrame:
    """What is kept of a frame inside its typical window; `image` is None beyond the budget."""

    background: bytes
    image: UInt8[np.ndarray, "h wd 3"] | None


class HeadCrops:
    """Windows around the head and their pixels; safe to use from several threads."""

    def __init__(
        self, dataset: TalkingHeadDataset, margin: int, budget_bytes: int, num_threads: int
    ) -> None:
        self.dataset = dataset
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self._stored: dict[int, _StoredFrame] = {}
        self._lock = Lock()
        with ThreadPoolExecutor(num_threads) as pool:
            packed = list(pool.map(self._pack_mask, range(len(dataset))))
        self._masks = [mask for mask, _ in packed]
        self._mask_boxes = np.array([box for _, box in packed])
        lips = dataset.metadata["boxes"]["lips"][dataset.frames].numpy()
        low = np.minimum(self._mask_boxes[:, :2], lips[:, :2]) - margin
        high = np.maximum(self._mask_boxes[:, 2:], lips[:, 2:]) + margin
        self.boxes = np.concatenate([low.clip(0), high.clip(max=dataset.size)], axis=1)
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        self._typical = self._rounded(np.quantile(sides, TYPICAL_QUANTILE, axis=0))

    def window_size(self, indices: Sequence[int]) -> tuple[int, int]:
        """Width and height of the windows of a batch: the typical ones, or larger if a head is."""
        boxes = self.boxes[list(indices)]
        largest = self._rounded((boxes[:, 2:] - boxes[:, :2]).max(axis=0))
        width, height = np.maximum(self._typical, largest).tolist()
        return width, height

    def window_corner(self, index: int, size: tuple[int, int]) -> tuple[int, int]:
        """Left and top edge of a frame's window: centred on the head, inside the image."""
        center = (self.boxes[index, :2] + self.boxes[index, 2:]) // 2
        corner = np.clip(center - np.array(size) // 2, 0, self.dataset.size - np.array(size))
        return int(corner[0]), int(corner[1])

    def crop(self, index: int, size: tuple[int, int]) -> HeadCrop:
        """The pixels of a frame inside its window of `size` (width, height)."""
        x0, y0 = self.window_corner(index, size)
        rows, columns = slice(y0, y0 + size[1]), slice(x0, x0 + size[0])
        mask = self._unpack_mask(index)[rows, columns]
        if size != tuple(self._typical):
            return HeadCrop(
                self.dataset.get_numpy_image(index)[rows, columns],
                self._composite(index)[rows, columns],
                mask,
            )
        plate = self.dataset.layers.plate.numpy()[rows, columns]
        stored = self._stored.get(index) or self._store(index, rows, columns, plate)
        image = stored.image
        if image is None:
            image = self.dataset.get_numpy_image(index)[rows, columns]
        difference = np.frombuffer(zlib.decompress(stored.background), np.uint8)
        return HeadCrop(image, difference.reshape(plate.shape) ^ plate, mask)

    def _store(
        self, index: int, rows: slice, columns: slice, plate: UInt8[np.ndarray, "h wd 3"]
    ) -> _StoredFrame:
        image = self.dataset.get_numpy_image(index)[rows, columns].copy()
        difference = self._composite(index)[rows, columns] ^ plate
        stored = _StoredFrame(zlib.compress(difference.tobytes(), COMPRESSION), image)
        with self._lock:
            if self.used_bytes + image.nbytes + len(stored.background) > self.budget_bytes:
                stored.image = None
            else:
                self.used_bytes += image.nbytes
            self.used_bytes += len(stored.background)
            self._stored[index] = stored
        return stored

    def _composite(self, index: int) -> UInt8[np.ndarray, "h wd 3"]:
        return self.dataset.layers.composite_array(self.dataset.frames[index])

    def _pack_mask(self, index: int) -> tuple[bytes, Int64[np.ndarray, "4"]]:
        """A frame's compressed mask inside its box, and the box; the face box if it is empty."""
        mask = self.dataset.layers.mask(self.dataset.frames[index]).numpy()
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows) == 0:
            box = self.dataset.metadata["boxes"]["face"][self.dataset.frames[index]].numpy()
        else:
            box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        inside = np.ascontiguousarray(mask[box[1] : box[3], box[0] : box[2]])
        return zlib.compress(inside.tobytes(), COMPRESSION), box.astype(np.int64)

    def _unpack_mask(self, index: int) -> UInt8[np.ndarray, "h wd"]:
        x0, y0, x1, y1 = self._mask_boxes[index].tolist()
        mask = np.zeros((self.dataset.size, self.dataset.size), np.uint8)
        inside = np.frombuffer(zlib.decompress(self._masks[index]), np.uint8)
        mask[y0:y1, x0:x1] = inside.reshape(y1 - y0, x1 - x0)
        return mask

    def _rounded(self, sides: np.ndarray) -> Int64[np.ndarray, "2"]:
        multiples = np.ceil(sides / WINDOW_MULTIPLE) * WINDOW_MULTIPLE
        return np.minimum(multiples, self.dataset.size).astype(np.int64)
