"""Copies between main memory and a GPU for which the host does not wait.

A plain `.to("cuda")` waits until the GPU has done all that it was given before; a copy from or to
page-locked memory takes its turn instead, and the host goes on.
"""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Shaped
from torch import Tensor

if TYPE_CHECKING:
    from nerfstudio.cameras.cameras import Cameras


def on_gpu(device: torch.device | str) -> bool:
    """Whether a device is a GPU of CUDA."""
    return torch.device(device).type == "cuda"


def upload(tensor: Shaped[Tensor, "..."], device: torch.device | str) -> Shaped[Tensor, "..."]:
    """Bring a tensor to a device; to a GPU by way of page-locked memory, without waiting."""
    if not on_gpu(device) or tensor.device.type != "cpu":
        return tensor.to(device)
    return _pinned(tensor).to(device, non_blocking=True)


def _pinned(tensor: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """The tensor in page-locked memory; expanded ones are written out first."""
    return tensor.contiguous().pin_memory()


def pinned(batch: dict[str, Any]) -> dict[str, Any]:
    """Bring the tensors of a batch to page-locked memory, for `upload_batch` to find them there."""
    return {k: _pinned(v) if isinstance(v, Tensor) else v for k, v in batch.items()}


def pinned_cameras(cameras: "Cameras") -> "Cameras":
    """Bring cameras to page-locked memory."""
    return cameras._apply_fn_to_fields(_pinned)


def upload_batch(batch: dict[str, Any], device: torch.device | str) -> dict[str, Any]:
    """Bring the tensors of a batch to a device without waiting."""
    return {k: upload(v, device) if isinstance(v, Tensor) else v for k, v in batch.items()}


def upload_cameras(cameras: "Cameras", device: torch.device | str) -> "Cameras":
    """Bring cameras to a device without waiting; `Cameras.to` waits once for every field."""
    return cameras._apply_fn_to_fields(lambda field: upload(field, device))


class Download:
    """A tensor on its way to main memory; `result` waits until it is there, and for nothing else.

    Work given to the GPU later is not waited for.
    """

    def __init__(self, tensor: Shaped[Tensor, "..."]) -> None:
        """Start the copy; a tensor that is in main memory stays as it is."""
        self._done: torch.cuda.Event | None = None
        self._result = tensor
        if tensor.is_cuda:
            self._result = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._result.copy_(tensor, non_blocking=True)
            self._done = torch.cuda.Event()
            self._done.record(torch.cuda.current_stream(tensor.device))

    def result(self) -> Shaped[Tensor, "..."]:
        """The tensor in main memory."""
        if self._done is not None:
            self._done.synchronize()
        return self._result
