"""Head crops of the training frames, kept in memory as compactly as a byte budget asks for.

A training batch holds the pixels around the head alone. Farther out the frame is its background but
for noise, faults of the layers and what moves there: nothing that Gaussians are to learn. Every
frame has its own window, all windows of a batch have one size. What is kept is each frame's window
of the largest size, in which those of all batches lie: masks compressed, backgrounds as compressed
difference to the background, pictures raw until the budget is spent and then decoded on demand.
"""

import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

import numpy as np
from jaxtyping import Int64, UInt8

from gaussiantalker_ns.data.dataset import TalkingHeadDataset

WINDOW_MULTIPLE = 16
"""Window sides are rounded up to this, so that nearly all batches have one shape."""

TYPICAL_QUANTILE = 0.98
"""Fraction of the frames whose head fits into the typical window, the smallest one of a batch."""

NUM_SAMPLED = 64
"""Frames, evenly spread, that are looked at for the size of the typical window."""

COMPRESSION = 1  # zlib's fastest level.


@dataclass(frozen=True)
class HeadCrop:
    """One frame's pixels inside its window."""

    image: UInt8[np.ndarray, "h wd 3"]
    background: UInt8[np.ndarray, "h wd 3"]
    head_mask: UInt8[np.ndarray, "h wd"]


@dataclass(frozen=True)
class _PackedMask:
    """What a mask holds inside its bounding box, compressed."""

    inside: bytes
    box: Int64[np.ndarray, "4"]
    """Bounding box: x0, y0, x1, y1, ends exclusive."""
    window: Int64[np.ndarray, "4"]
    """Box of mask and lips with the margin, inside the image."""


@dataclass
class _StoredFrame:
    """What is kept of a frame inside its largest window; `image` is None beyond the budget."""

    background: bytes
    image: UInt8[np.ndarray, "h wd 3"] | None


class HeadCrops:
    """Windows around the head and their pixels; safe to use from several threads."""

    def __init__(
        self, dataset: TalkingHeadDataset, margin: int, budget_bytes: int, num_threads: int
    ) -> None:
        self.dataset = dataset
        self.margin = margin
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self._masks: dict[int, _PackedMask] = {}
        self._stored: dict[int, _StoredFrame] = {}
        self._lock = Lock()
        with ThreadPoolExecutor(num_threads) as pool:
            boxes = np.array(list(pool.map(self.box, range(len(dataset)))))
        sides = boxes[:, 2:] - boxes[:, :2]
        sampled = np.linspace(0, len(dataset) - 1, min(NUM_SAMPLED, len(dataset))).astype(int)
        self._typical = self._rounded(np.quantile(sides[sampled], TYPICAL_QUANTILE, axis=0))
        width, height = self._rounded(sides.max(axis=0)).tolist()
        self.largest: tuple[int, int] = width, height
        """Width and height of the largest window that a batch can have."""

    def box(self, index: int) -> Int64[np.ndarray, "4"]:
        """Box of a frame's head and lips with the margin: x0, y0, x1, y1, ends exclusive."""
        return self._packed(index).window

    def window_size(self, indices: Sequence[int]) -> tuple[int, int]:
        """Width and height of the windows of a batch: the typical ones, or larger if a head is."""
        boxes = np.array([self.box(index) for index in indices])
        largest = self._rounded((boxes[:, 2:] - boxes[:, :2]).max(axis=0))
        width, height = np.maximum(self._typical, largest).tolist()
        return width, height

    def window_corner(self, index: int, size: tuple[int, int]) -> tuple[int, int]:
        """Left and top edge of a frame's window: centred on the head, inside the image."""
        box = self.box(index)
        center = (box[:2] + box[2:]) // 2
        corner = np.clip(center - np.array(size) // 2, 0, self.dataset.size - np.array(size))
        return int(corner[0]), int(corner[1])

    def crop(self, index: int, size: tuple[int, int]) -> HeadCrop:
        """The pixels of a frame inside its window of `size` (width, height), at most `largest`."""
        assert size[0] <= self.largest[0] and size[1] <= self.largest[1], (size, self.largest)
        x0, y0 = self.window_corner(index, self.largest)
        whole = slice(y0, y0 + self.largest[1]), slice(x0, x0 + self.largest[0])
        background = self._background(index)[whole]
        stored = self._stored.get(index) or self._store(index)
        image = stored.image
        if image is None:
            image = self.dataset.get_numpy_image(index)[whole]
        difference = np.frombuffer(zlib.decompress(stored.background), np.uint8)
        # Both windows are centred on the head and pushed inside the image: one lies in the other.
        left, top = self.window_corner(index, size)
        part = slice(top - y0, top - y0 + size[1]), slice(left - x0, left - x0 + size[0])
        background = difference.reshape(background.shape)[part] ^ background[part]
        mask = self._unpack_mask(index)[whole][part]
        return HeadCrop(image[part], background, mask)

    def read(self, index: int) -> HeadCrop:
        """The pixels of a frame inside its window of the largest size, of which nothing is kept."""
        x0, y0 = self.window_corner(index, self.largest)
        window = slice(y0, y0 + self.largest[1]), slice(x0, x0 + self.largest[0])
        image = self.dataset.get_numpy_image(index)[window]
        return HeadCrop(image, self._composite(index)[window], self._unpack_mask(index)[window])

    def _store(self, index: int) -> _StoredFrame:
        found = self.read(index)
        x0, y0 = self.window_corner(index, self.largest)
        height, width = found.head_mask.shape
        difference = found.background ^ self._background(index)[y0 : y0 + height, x0 : x0 + width]
        image = found.image.copy()
        stored = _StoredFrame(zlib.compress(difference.tobytes(), COMPRESSION), image)
        with self._lock:
            if self.used_bytes + image.nbytes + len(stored.background) > self.budget_bytes:
                stored.image = None
            else:
                self.used_bytes += image.nbytes
            self.used_bytes += len(stored.background)
            self._stored[index] = stored
        return stored

    def _background(self, index: int) -> UInt8[np.ndarray, "h wd 3"]:
        return self.dataset.layers.background_behind(self.dataset.frames[index]).numpy()

    def _composite(self, index: int) -> UInt8[np.ndarray, "h wd 3"]:
        return self.dataset.layers.composite_uncached(self.dataset.frames[index])

    def _packed(self, index: int) -> _PackedMask:
        """A frame's mask, read at the first call; the face box stands in for an empty one."""
        known = self._masks.get(index)
        if known is not None:
            return known
        frame, boxes = self.dataset.frames[index], self.dataset.metadata["boxes"]
        mask = self.dataset.layers.mask(frame).numpy()
        rows, columns = np.flatnonzero(mask.max(axis=1)), np.flatnonzero(mask.max(axis=0))
        if len(rows) == 0:
            box = boxes["face"][frame].numpy()
        else:
            box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        lips = boxes["lips"][frame].numpy()
        low = np.minimum(box[:2], lips[:2]) - self.margin
        high = np.maximum(box[2:], lips[2:]) + self.margin
        inside = np.ascontiguousarray(mask[box[1] : box[3], box[0] : box[2]])
        packed = _PackedMask(
            zlib.compress(inside.tobytes(), COMPRESSION),
            box,
            np.concatenate([low.clip(0), high.clip(max=self.dataset.size)]),
        )
        self._masks[index] = packed
        return packed

    def _unpack_mask(self, index: int) -> UInt8[np.ndarray, "h wd"]:
        packed = self._packed(index)
        x0, y0, x1, y1 = packed.box.tolist()
        mask = np.zeros((self.dataset.size, self.dataset.size), np.uint8)
        inside = np.frombuffer(zlib.decompress(packed.inside), np.uint8)
        mask[y0:y1, x0:x1] = inside.reshape(y1 - y0, x1 - x0)
        return mask

    def _rounded(self, sides: np.ndarray) -> Int64[np.ndarray, "2"]:
        multiples = np.ceil(sides / WINDOW_MULTIPLE) * WINDOW_MULTIPLE
        return np.minimum(multiples, self.dataset.size).astype(np.int64)
