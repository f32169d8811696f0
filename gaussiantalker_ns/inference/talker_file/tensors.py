"""Tensors of a talker file: safetensors whose header is checked before anything is allocated."""

import math
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from gaussiantalker_ns.inference.talker_file.archive import wrong
from gaussiantalker_ns.inference.talker_file.typed_json import Mismatch, parse

MOST_TENSOR_BYTES = 96 * 2**20
MOST_HEADER_BYTES = 256 * 2**10

DTYPES = {"F32": torch.float32, "F16": torch.float16}
"""safetensors' names of what a talker may hold."""

Shapes = dict[str, tuple[int, ...]]
"""Name of a tensor -> its shape."""


def header_of(data: memoryview, path: Path) -> dict[str, Any]:
    """Name -> type, shape and place of every tensor.

    Raises:
        TalkerFileError: The header is damaged or too long.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > MOST_HEADER_BYTES or 8 + length > len(data):
        raise wrong(path, "holds tensors without a header, or was cut")
    if len(data) > MOST_TENSOR_BYTES:
        raise wrong(path, f"holds tensors of {len(data)} bytes; {MOST_TENSOR_BYTES} are read")
    try:
        header = parse(data[8 : 8 + length])
    except Mismatch as error:
        raise wrong(path, f"holds tensors with a header that {error}") from error
    if not isinstance(header, dict) or not all(isinstance(v, dict) for v in header.values()):
        raise wrong(path, "holds tensors with a header that is no table")
    return {name: entry for name, entry in header.items() if name != "__metadata__"}


def read_tensors(
    data: memoryview, shapes: Shapes, halved: set[str], path: Path
) -> dict[str, Tensor]:
    """Read tensors as float32.

    Args:
        data: The member.
        shapes: The tensors that have to be there, and no others.
        halved: Those that are stored as float16; all others are float32.
        path: The file, for messages.

    Raises:
        TalkerFileError: A tensor is missing, unknown, of another type or shape, or not finite.
    """
    header = header_of(data, path)
    for name in sorted(set(shapes) ^ set(header)):
        state = "lacks the tensor" if name in shapes else "holds the unknown tensor"
        raise wrong(path, f"{state} {name[:80]!r}")
    for name, shape in shapes.items():
        dtype, found = header[name].get("dtype"), header[name].get("shape")
        wanted = "F16" if name in halved else "F32"
        if dtype != wanted:
            raise wrong(path, f"holds {name} as {str(dtype)[:20]}, not {wanted}")
        if found != list(shape):
            raise wrong(path, f"holds {name} in the shape {str(found)[:60]}, not {list(shape)}")
    num_bytes = sum(math.prod(s) * (2 if name in halved else 4) for name, s in shapes.items())
    if num_bytes > len(data):
        raise wrong(path, "holds fewer bytes of tensors than their shapes need")
    try:
        tensors = safetensors.torch.load(bytes(data))
    except safetensors.SafetensorError as error:
        raise wrong(path, f"holds tensors that cannot be read ({str(error)[:120]})") from error
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise wrong(path, f"holds {name} with numbers that are not finite")
    # Copied to where torch itself would put them: libraries round differently for other addresses.
    return {name: tensor.to(torch.float32, copy=True) for name, tensor in tensors.items()}


def tensor_bytes(tensors: dict[str, Tensor], halved: set[str]) -> bytes:
    """The member of named tensors; those named are stored as float16.

    Raises:
        ValueError: A number is not finite, or too large for float16.
    """
    stored = {}
    for name, tensor in tensors.items():
        dtype = torch.float16 if name in halved else torch.float32
        kept = tensor.detach().cpu().to(dtype).contiguous()
        if not bool(torch.isfinite(kept).all()):
            kind = "finite numbers" if dtype == torch.float32 else "numbers within float16"
            raise ValueError(
                f"The tensor {name} of the model does not hold {kind}; expected a sound model."
                " Choose --precision float32, or train again."
            )
        stored[name] = kept.clone()
    return safetensors.torch.save(stored)
