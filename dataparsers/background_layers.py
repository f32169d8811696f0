"""Background layers, read lazily: backgrounds and each frame's torso layer."""

import os
from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from threading import Lock
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Int32, UInt8
from torch import Tensor

from gaussiantalker_ns.dataparsers.dataset_layout import DatasetLayout
from gaussiantalker_ns.dataparsers.frames import (
    FOREIGN_PICTURES,
    Foreground,
    colors_to_labels,
    has_torso_layers,
    read_mask,
    read_picture,
)
from gaussiantalker_ns.files import resize

CACHE_FRACTION = 1 / 8
"""Fraction of the main memory that the layers which were shown may take."""

CACHE_LIMITS_BYTES = 256 * 2**20, 2 * 2**30
"""Least and most of it."""


def default_cache_bytes() -> int:
    """Memory for layers on this machine: decoding one costs 6 ms at 512 px."""
    low, high = CACHE_LIMITS_BYTES
    if not hasattr(os, "sysconf"):
        return low
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(max(int(CACHE_FRACTION * memory), low), high)


def read_background_periods(layout: DatasetLayout) -> Int32[np.ndarray, " n"] | None:
    """Read which background belongs behind each frame; None for data sets with a single background.

    Raises:
        ValueError: The file cannot be read, or is no list of indices.
        FileNotFoundError: A background that it names is missing.
    """
    path = layout.plate_of_frame
    if not path.exists():
        return None
    expected = "expected the index of a background for every frame, int32 [N]. " + layout.remedy(
        "layers", "Delete the folder, and one background serves all frames."
    )
    try:
        indices = np.load(path, allow_pickle=False)
    # NumPy has no error of its own: an empty file ends early, half a file cannot be reshaped, and
    # objects would need pickle.
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as an array ({error}); {expected}") from error
    if not isinstance(indices, np.ndarray):
        raise ValueError(f"{path} is an archive of several arrays; {expected}")
    if indices.ndim != 1 or indices.dtype != np.int32 or len(indices) == 0 or indices.min() < 0:
        raise ValueError(f"{path} holds {indices.dtype} of shape {indices.shape}; {expected}")
    for index in np.unique(indices).tolist():
        if not layout.period_background(index).is_file():
            raise FileNotFoundError(
                f"There is no {layout.period_background(index)}, which {path} puts behind frame "
                f"{int(np.flatnonzero(indices == index)[0])}; expected a picture. "
                f"{layout.remedy('layers', FOREIGN_PICTURES)}"
            )
    return indices


class CachedLayers:
    """Backgrounds and torso layers of frames in pictures of one size; safe to use from several
    threads.

    What was asked for is kept in memory up to `cache_bytes`, without the rows above the torso; the
    least recently used goes first. Deep copies share the instance.
    """

    has_source_frames = True
    """Whether `source` and `mask` give the clip's own frames."""

    def __init__(self, size: int, foreground: Foreground, cache_bytes: int | None) -> None:
        """Prepare an empty cache; see `BackgroundLayers`."""
        self.size = size
        self.foreground: Foreground = foreground
        self.cache_bytes = default_cache_bytes() if cache_bytes is None else cache_bytes
        self._lock = Lock()
        self._cache: OrderedDict[tuple[str, int], UInt8[np.ndarray, "_ wd c"]] = OrderedDict()
        self._cached_bytes = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> "CachedLayers":
        return self

    def _background_behind(self, frame: int) -> UInt8[np.ndarray, "h wd 3"]:
        """The background of a frame; not to be written into."""
        raise NotImplementedError

    def _straight_torso(self, frame: int) -> UInt8[np.ndarray, "_ _ 4"]:
        """The torso layer as it is stored, RGBA with straight alpha, at any size."""
        raise NotImplementedError

    def background_behind(self, frame: int) -> UInt8[Tensor, "h wd 3"]:
        """The background of a frame's period, RGB: a camera or a background may move in the
        clip."""
        return torch.from_numpy(self._background_behind(frame))

    def torso(self, frame: int) -> UInt8[Tensor, "h wd 4"]:
        """The torso layer of a frame, RGBA with straight (not premultiplied) alpha."""
        lower = self._kept("torso", frame, self._torso_lower)
        above = np.zeros((self.size - len(lower), self.size, 4), np.uint8)
        return torch.from_numpy(np.concatenate([above, lower]))

    def composite(self, frame: int) -> UInt8[Tensor, "h wd 3"]:
        """The torso layer over the background; the background alone if Gaussians model the whole
        person."""
        if self.foreground == "person":
            return torch.from_numpy(self._background_behind(frame).copy())
        lower = self._kept("composite", frame, self._composite_lower)
        return torch.from_numpy(self._below_background(lower, frame))

    def composite_uncached(self, frame: int) -> UInt8[np.ndarray, "h wd 3"]:
        """`composite` as an array, for callers that keep what they need themselves."""
        if self.foreground == "person":
            return self._background_behind(frame).copy()
        return self._below_background(self._composite_lower(frame), frame)

    def _below_background(
        self, lower: UInt8[np.ndarray, "_ wd 3"], frame: int
    ) -> UInt8[np.ndarray, "h wd 3"]:
        return np.concatenate([self._background_behind(frame)[: self.size - len(lower)], lower])

    def _torso_lower(self, frame: int) -> UInt8[np.ndarray, "_ wd 4"]:
        """The torso with straight alpha, from its first row downwards."""
        premultiplied = self._lower(frame).astype(np.uint16)
        alpha = premultiplied[..., 3:]
        color = premultiplied[..., :3] * 255 // np.maximum(alpha, 1)
        return np.concatenate([np.minimum(color, 255), alpha], axis=-1).astype(np.uint8)

    def _lower(self, frame: int) -> UInt8[np.ndarray, "_ wd 4"]:
        """The premultiplied torso layer from its first row downwards."""
        layer = self._premultiplied(frame)
        rows = np.flatnonzero(layer[..., 3].max(axis=1))
        return np.ascontiguousarray(layer[int(rows[0]) if len(rows) else self.size :])

    def _composite_lower(self, frame: int) -> UInt8[np.ndarray, "h wd 3"]:
        """The composite from the first row of the torso downwards."""
        layer = self._lower(frame)
        if len(layer) == 0:
            return np.zeros((0, self.size, 3), np.uint8)
        transparency = cv2.cvtColor(255 - layer[..., 3], cv2.COLOR_GRAY2RGB)
        background = self._background_behind(frame)[-len(layer) :]
        behind = cv2.multiply(background, transparency, scale=1 / 255)
        return np.asarray(cv2.add(cv2.cvtColor(layer, cv2.COLOR_RGBA2RGB), behind), np.uint8)

    def _premultiplied(self, frame: int) -> UInt8[np.ndarray, "h wd 4"]:
        """The torso layer at the working size, RGBA with colour times alpha."""
        layer = self._straight_torso(frame)
        alpha = np.ascontiguousarray(layer[..., 3])
        if cv2.countNonZero(cv2.inRange(alpha, np.array(1), np.array(254))) == 0:
            layer = np.asarray(cv2.bitwise_and(layer, layer, mask=alpha))
        else:
            opacity = cv2.merge([alpha, alpha, alpha, np.full_like(alpha, 255)])
            layer = np.asarray(cv2.multiply(layer, opacity, scale=1 / 255))
        return np.asarray(resize(layer, self.size), np.uint8)

    def _kept(
        self, kind: str, frame: int, make: Callable[[int], UInt8[np.ndarray, "_ wd c"]]
    ) -> UInt8[np.ndarray, "_ wd c"]:
        """What was made of a frame before, or is made now and kept if there is room."""
        key = kind, frame
        with self._lock:
            lower = self._cache.get(key)
            if lower is not None:
                self._cache.move_to_end(key)
                return lower
        lower = make(frame)
        with self._lock:
            if key not in self._cache and lower.nbytes <= self.cache_bytes:
                self._cache[key] = lower
                self._cached_bytes += lower.nbytes
                while self._cached_bytes > self.cache_bytes:
                    _, oldest = self._cache.popitem(last=False)
                    self._cached_bytes -= oldest.nbytes
        return lower


class BackgroundLayers(CachedLayers):
    """Backgrounds and torso layers of a data set at the working size."""

    def __init__(
        self,
        layout: DatasetLayout,
        size: int,
        foreground: Foreground = "head",
        cache_bytes: int | None = None,
        static_background: bool = False,
    ) -> None:
        """Open the layers of a data set.

        Args:
            layout: The data set.
            size: Side of the pictures in pixels.
            foreground: What the Gaussians model, and so what the composites leave out.
            cache_bytes: Memory for torso layers and composites; None goes by the machine.
            static_background: Put the background of the whole clip behind every frame, so that the
                background stands still when the clip is played in ping-pong.
        """
        super().__init__(size, foreground, cache_bytes)
        self.layout = layout
        self._background = read_picture(layout.background, size)
        self._stored_torsos = has_torso_layers(layout)
        periods = None if static_background else read_background_periods(layout)
        self._period_of_frame = periods
        used = [] if periods is None else np.unique(periods).tolist()
        self._period_backgrounds = {
            index: read_picture(layout.period_background(index), size) for index in used
        }

    @cached_property
    def static(self) -> "BackgroundLayers":
        """The same layers with the background of the whole clip behind every frame."""
        return BackgroundLayers(
            self.layout, self.size, self.foreground, self.cache_bytes, static_background=True
        )

    def at_size(self, size: int) -> "BackgroundLayers":
        """The layers in pictures of another size, with the background of the whole clip."""
        return BackgroundLayers(self.layout, size, self.foreground, static_background=True)

    def mask(self, frame: int) -> UInt8[Tensor, "h wd"]:
        """The mask of what the Gaussians model in a frame, 0..255."""
        return torch.from_numpy(read_mask(self.layout.parsing(frame), self.size, self.foreground))

    def source(self, frame: int) -> UInt8[Tensor, "h wd 3"]:
        """The clip's own frame, with the person in it."""
        return torch.from_numpy(read_picture(self.layout.frame(frame), self.size))

    def _background_behind(self, frame: int) -> UInt8[np.ndarray, "h wd 3"]:
        if self._period_of_frame is None:
            return self._background
        if frame >= len(self._period_of_frame):
            raise ValueError(
                f"{self.layout.plate_of_frame} holds {len(self._period_of_frame)} rows, none for "
                f"frame {frame}; expected one for every frame. "
                f"{self.layout.remedy('layers', FOREIGN_PICTURES)}"
            )
        return self._period_backgrounds[int(self._period_of_frame[frame])]

    def _straight_torso(self, frame: int) -> UInt8[np.ndarray, "_ _ 4"]:
        return self._stored_torso(frame) if self._stored_torsos else self._made_torso(frame)

    def _made_torso(self, frame: int) -> UInt8[np.ndarray, "_ _ 4"]:
        """The layer as `process` would have written it; cheap enough that nothing is stored."""
        # It brings SciPy along, for which data sets with stored layers should not wait.
        from gaussiantalker_ns.dataparsers.torso_layer import make_torso_layer

        image = read_picture(self.layout.frame(frame))
        labels = colors_to_labels(read_picture(self.layout.parsing(frame)))
        if labels.shape != image.shape[:2]:
            side = image.shape[1], image.shape[0]
            labels = np.asarray(cv2.resize(labels, side, interpolation=cv2.INTER_NEAREST), np.uint8)
        return make_torso_layer(image, labels)

    def _stored_torso(self, frame: int) -> UInt8[np.ndarray, "_ _ 4"]:
        path = self.layout.torso(frame)
        data = np.frombuffer(path.read_bytes() if path.exists() else b"", np.uint8)
        layer = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
        if layer is None or layer.ndim != 3 or layer.shape[2] != 4:
            raise ValueError(
                f"{path} is missing or no RGBA picture; expected the torso layer of frame {frame}. "
                f"{self.layout.remedy('layers', FOREIGN_PICTURES)}"
            )
        return np.asarray(cv2.cvtColor(layer, cv2.COLOR_BGRA2RGBA), np.uint8)
