"""Finds the places where a program waits for a GPU, in torch's fake CUDA mode.

What waits: reading a number, copies between main memory and GPU that are not asked to take their
turn, and operations whose result has a size that depends on numbers. Most of the last raise in the
fake mode on their own.
"""

import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

COPIES = ("_to_copy", "copy_")
READS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2")
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")

_watching: list["HostWaits"] = []


def tell_of_wait(what: str) -> None:
    """Count a wait that no operation shows, such as one inside a kernel's wrapper."""
    for watch in _watching:
        watch.found[what] += 1


class HostWaits(TorchDispatchMode):
    """Counts the waits inside its `with` block by what waits and the line of ours it comes from."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __enter__(self) -> Any:
        _watching.append(self)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        _watching.remove(self)
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if waits(func.overloadpacket.__name__, args, kwargs):
            self.found[f"{func.overloadpacket.__name__} in {our_line()}"] += 1
        return func(*args, **kwargs)


def waits(name: str, args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether an operation makes the host wait for the GPU."""
    if name in COPIES:
        first, second = args[0].device, kwargs.get("device")
        if name == "copy_":
            second = args[1].device
        taking_turns = kwargs.get("non_blocking", False) or (len(args) > 2 and args[2])
        crosses = second is not None and torch.device(second).type != first.type
        return crosses and not taking_turns
    on_gpu = bool(args) and isinstance(args[0], Tensor) and args[0].device.type == "cuda"
    if name in INDEXING and on_gpu:
        picked = [x for x in args[1] if x is not None]
        return any(x.dtype == torch.bool or (x.dim() and x.device.type == "cpu") for x in picked)
    return name in READS and on_gpu


def our_line() -> str:
    """File and function of ours that is being run."""
    for frame in reversed(traceback.extract_stack()):
        parts = Path(frame.filename).parts
        if "gaussiantalker_ns" in parts or "dataparsers" in parts:
            return f"{parts[-1]}:{frame.name}"
    return "elsewhere"
