"""Batches of head crops for training and full frames for evaluation.

Nerfstudio's `FullImageDatamanager` is subclassed because its tools ask for it, but none of its
loading is used: it holds every frame in memory and pins it, which fails without a driver.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed
from jaxtyping import Int64
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.configs.dataparser_configs import AnnotatedDataParserUnion
from nerfstudio.data.datamanagers.full_images_datamanager import (
    FullImageDatamanager,
    FullImageDatamanagerConfig,
)
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from gaussiantalker_ns.data.crop_cache import HeadCrops
from gaussiantalker_ns.data.dataset import BOXES, TalkingHeadDataset
from gaussiantalker_ns.data.device_crops import DeviceCrops, has_room
from gaussiantalker_ns.data.prefetcher import Prefetcher
from gaussiantalker_ns.dataparsers.talking_head import TalkingHeadDataParserConfig
from gaussiantalker_ns.engine.transfers import (
    on_gpu,
    pinned,
    pinned_cameras,
    upload_batch,
    upload_cameras,
)

Batch = dict[str, Any]


@dataclass
class GaussianTalkerDataManagerConfig(FullImageDatamanagerConfig):
    """How training frames are cropped, cached and put into batches."""

    _target: type = field(default_factory=lambda: GaussianTalkerDataManager)
    dataparser: AnnotatedDataParserUnion = field(default_factory=TalkingHeadDataParserConfig)
    """The data set; `talking-head` is the only parser whose data this manager understands."""
    cache_images: Literal["cpu", "gpu"] = "cpu"
    """Without effect: frames are kept compactly in main memory, see `cache_gigabytes`."""
    cache_images_type: Literal["uint8", "float32"] = "uint8"
    """Without effect: pictures are always handed out as uint8."""
    batch_size: int = 1
    """Frames per step and process, >= 1; the pipeline changes it with the stage."""
    crop_to_head: bool = True
    """Hand out the head's background alone; the loss does not see what lies beyond them."""
    crop_margin: int = 6
    """Pixels around the head that belong to the crop, >= 0."""
    crops_on_gpu: bool = True
    """Keep all crops in the GPU's memory where a quarter of what is free there holds them."""
    cache_gigabytes: float = 1.5
    """Main memory for decoded crops, >= 0; what does not fit is decoded whenever it is needed."""
    prefetch_batches: int = 4
    """Batches that are prepared in advance, >= 0; 0 prepares each when it is asked for."""
    num_workers: int | None = None
    """Threads that prepare batches, >= 1; None takes one without a GPU, else half of the cores."""

    def __post_init__(self) -> None:
        for name, lowest in (
            ("batch_size", 1),
            ("crop_margin", 0),
            ("cache_gigabytes", 0),
            ("prefetch_batches", 0),
            ("num_workers", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise ValueError(
                    f"{name} is {value}; expected at least {lowest}. "
                    f"Change --pipeline.datamanager.{name.replace('_', '-')}."
                )


class EpochOrder:
    """An endless sequence of item numbers: every epoch is a permutation of its own.

    It is a pure function of the seed, so a resumed run goes on with the order of the first one.
    Example: the first four of `EpochOrder(2, seed)` are both items in some order, then both again.
    """

    def __init__(self, num_items: int, seed: int) -> None:
        self.num_items = num_items
        self.seed = seed

    def take(self, start: int, count: int) -> list[int]:
        """Items at the places `start` to `start + count - 1`."""
        places = range(start, start + count)
        epochs = {place // self.num_items for place in places}
        order = {
            epoch: np.random.default_rng([self.seed, epoch]).permutation(self.num_items)
            for epoch in epochs
        }
        return [int(order[p // self.num_items][p % self.num_items]) for p in places]


class FullFrames(Sequence[tuple[Cameras, Batch]]):
    """All frames of a split as (camera of size [1], full frame), decoded one at a time."""

    def __init__(self, dataset: TalkingHeadDataset, device: torch.device | str) -> None:
        self._dataset = dataset
        self._device = device

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, index: int
    ) -> tuple[Cameras, Batch]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        camera = upload_cameras(self._dataset.cameras[index : index + 1], self._device)
        data = self._dataset.get_data(index, image_type="uint8")
        return camera, upload_batch(data, self._device)


class GaussianTalkerDataManager(FullImageDatamanager[TalkingHeadDataset]):
    """Hands out b cameras of one size and their pixels, the same for a seed and step every time.

    With several processes each gets its own b frames of a joint batch of b times `world_size`. All
    windows of the joint batch have one size, so that terms that are means over the crops have the
    gradient of one process on the joint batch.
    """

    config: GaussianTalkerDataManagerConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    train_dataset: TalkingHeadDataset
    eval_dataset: TalkingHeadDataset

    def __init__(
        self,
        config: GaussianTalkerDataManagerConfig,
        device: torch.device | str = "cpu",
        test_mode: Literal["test", "val", "inference"] = "val",
        world_size: int = 1,
        local_rank: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(config, device, test_mode, world_size, local_rank, **kwargs)
        # With several machines the local rank repeats, the global one does not.
        initialized = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.rank = torch.distributed.get_rank() if initialized else local_rank
        self.batch_size = config.batch_size
        seed = config.train_cameras_sampling_seed
        self._train_order = EpochOrder(len(self.train_dataset), seed)
        self._eval_order = EpochOrder(len(self.eval_dataset), seed)
        self._crops: HeadCrops | None = None
        self._device_crops: DeviceCrops | None = None
        self._batches: Prefetcher[tuple[Cameras, Batch]] | None = None
        self._pixels_per_batch = self.train_dataset.size**2 * self.batch_size

    def set_batch_size(self, batch_size: int) -> None:
        """Change the number of frames per step and process; batches prepared so far are dropped."""
        assert batch_size >= 1, f"a batch has at least one frame, not {batch_size}"
        if batch_size == self.batch_size:
            return
        self.batch_size = batch_size
        self.close()

    def close(self) -> None:
        """Drop the batches prepared so far and end their threads; the next one starts anew."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None

    @property
    def num_threads(self) -> int:
        """Threads that read frames."""
        if self.config.num_workers is not None:
            return self.config.num_workers
        return max(1, min(8, (os.cpu_count() or 1) // 2)) if on_gpu(self.device) else 1

    @property
    def crops(self) -> HeadCrops:
        """The training crops; all masks are looked at when they are first asked for."""
        if self._crops is None:
            size = self.train_dataset.size
            margin = self.config.crop_margin if self.config.crop_to_head else size
            budget = int(self.config.cache_gigabytes * 2**30)
            self._crops = HeadCrops(self.train_dataset, margin, budget, max(self.num_threads, 2))
        return self._crops

    def next_train(self, step: int) -> tuple[Cameras, Batch]:
        """Return cameras of size [b] and the crops of their frames.

        Keys: `image`, `background` uint8 `[b, h, wd, 3]`, `head_mask` uint8 `[b, h, wd]`,
        `face_box`, `lips_box`, `eyes_box` int64 `[b, 4]` in crop pixels, `frame` int64 `[b]`.
        """
        self.train_count += 1
        if self._batches is None:
            self._find_crops()
            self._batches = Prefetcher(
                self._prepare, self.config.prefetch_batches, self.num_threads
            )
        cameras, batch = self._batches.get(step)
        size = batch.pop("size")
        self._pixels_per_batch = len(cameras) * size[0] * size[1]
        batch = upload_batch(batch, self.device)
        if self._device_crops is not None:
            batch.update(self._device_crops.cut(batch.pop("places"), size))
        return upload_cameras(cameras, self.device), batch

    def _find_crops(self) -> None:
        """Look at the masks, and bring the crops to the GPU where it has room for them."""
        wanted = on_gpu(self.device) and self.config.crops_on_gpu and self._device_crops is None
        if wanted and has_room(self.crops, self.device):
            self._device_crops = DeviceCrops(self.crops, self.device, self.num_threads)
            size = self._device_crops.gigabytes
            CONSOLE.log(f"The crops of all frames are in the GPU's memory: {size:.1f} GiB")
        _ = self.crops

    def _prepare(self, step: int) -> tuple[Cameras, Batch]:
        """Put together this process's part of the joint batch of a step, in main memory.

        `size` is the windows' width and height. Where the crops are on the GPU, `places` stands for
        the pixels that are cut out there.
        """
        count = self.batch_size
        joint = self._train_order.take(step * count * self.world_size, count * self.world_size)
        mine = joint[self.rank * count : (self.rank + 1) * count]
        size = self.crops.window_size(joint)
        corners = torch.tensor([self.crops.window_corner(index, size) for index in mine])
        frames = torch.tensor([self.train_dataset.frames[index] for index in mine])
        batch: Batch = {"frame": frames, "size": size}
        if self._device_crops is not None:
            batch["places"] = self._device_crops.places(mine, corners)
        else:
            crops = [self.crops.crop(index, size) for index in mine]
            for name in ("image", "background", "head_mask"):
                batch[name] = torch.from_numpy(np.stack([getattr(crop, name) for crop in crops]))
        for name in BOXES:
            boxes = self.train_dataset.metadata["boxes"][name][frames]
            batch[f"{name}_box"] = shift_boxes(boxes, corners, size)
        cameras = crop_cameras(self.train_dataset.cameras[torch.tensor(mine)], corners, size)
        if on_gpu(self.device):
            # Here, in a thread of the loader, and not when the training asks for the batch.
            cameras, batch = pinned_cameras(cameras), pinned(batch)
        return cameras, batch

    def next_eval(self, step: int) -> tuple[Cameras, Batch]:
        """Return a camera of size [1] and a full frame of the held-out split."""
        return self.next_eval_image(step)

    def next_eval_image(self, step: int) -> tuple[Cameras, Batch]:
        """Return a camera of size [1] and a full frame; the step chooses which.

        The keys are those of a training batch, without the leading axis.
        """
        self.eval_count += 1
        (index,) = self._eval_order.take(step, 1)
        return FullFrames(self.eval_dataset, self.device)[index]

    @property
    def fixed_indices_eval_dataloader(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
    ) -> Sequence[tuple[Cameras, Batch]]:
        """All held-out frames in order, decoded one at a time."""
        return FullFrames(self.eval_dataset, self.device)

    def get_train_rays_per_batch(self) -> int:
        """Return the pixels of the latest training batch."""
        return self._pixels_per_batch

    def _load_images(
        self, split: Literal["train", "eval"], cache_images_device: Literal["cpu", "gpu"]
    ) -> list[Batch]:
        raise NotImplementedError("Frames are not cached as a whole; use next_train or FullFrames.")


def crop_cameras(cameras: Cameras, corners: Int64[Tensor, "b 2"], size: tuple[int, int]) -> Cameras:
    """Return cameras that see only a window of `size` (width, height) with its corner at x, y."""
    cameras.cx = cameras.cx - corners[:, :1]
    cameras.cy = cameras.cy - corners[:, 1:]
    cameras.width = torch.full_like(cameras.width, size[0])
    cameras.height = torch.full_like(cameras.height, size[1])
    return cameras


def shift_boxes(
    boxes: Int64[Tensor, "b 4"], corners: Int64[Tensor, "b 2"], size: tuple[int, int]
) -> Int64[Tensor, "b 4"]:
    """Move boxes into windows with corners at x, y and clip them; at least one pixel remains.

    Example: the box 10, 10, 20, 20 in a window of 8 x 8 at (12, 4) is 0, 6, 8, 8.
    """
    limit = torch.tensor(size)
    low = (boxes[:, :2] - corners).clamp(min=0).minimum(limit - 1)
    high = (boxes[:, 2:] - corners).maximum(low + 1).minimum(limit)
    return torch.cat([low, high], dim=1)
