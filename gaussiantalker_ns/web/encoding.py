"""How exactly the numbers of a talker are kept in a page: 8, 16 or 32 bits each."""

import gzip
import re
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from gaussiantalker_ns.web.networks import Arrays

Precision = Literal["int8", "float16", "float32"]

EXACT = re.compile(r"track\.|audio\.(mean|std|silence)$|whisper\.mel\.")
"""Names of tensors that are small and keep 32 bits."""

COARSE = re.compile(r"whisper\.(conv\d|\d\.(query|key|value|out|widen|narrow))\.weight$|.*features$")
"""Names of the large matrices, of which 8 bits a number, with a factor a column, are enough."""

POSITIONS = "head.means"
"""Sixteen bits within the head's box place a Gaussian to a micrometre; float16 does not."""


def kind_of(name: str, precision: Precision) -> str:
    """The form of a tensor: f32, f16, i8 (a factor for each column) or u16 (a range for each)."""
    if precision == "float32" or EXACT.match(name):
        return "f32"
    if name == POSITIONS:
        return "u16" if precision == "int8" else "f32"
    return "i8" if precision == "int8" and COARSE.match(name) else "f16"


def encode(values: Float32[np.ndarray, "..."], kind: str) -> bytes:
    """The bytes of a tensor, little-endian; factors or ranges stand before the numbers."""
    if kind == "f32":
        return values.astype("<f4").tobytes()
    if kind == "f16":
        return np.clip(values, -65504, 65504).astype("<f2").tobytes()
    assert values.ndim == 2, "columns have factors"
    if kind == "i8":
        factors = np.maximum(np.abs(values).max(axis=0), 1e-12) / np.float32(127)
        numbers = np.clip(np.round(values / factors), -127, 127).astype(np.int8)
        return factors.astype("<f4").tobytes() + numbers.tobytes()
    low, high = values.min(axis=0), values.max(axis=0)
    steps = np.round((values - low) / np.maximum(high - low, 1e-12) * 65535)
    return np.stack([low, high]).astype("<f4").tobytes() + steps.astype("<u2").tobytes()


def encode_all(arrays: Arrays, precision: Precision) -> tuple[dict[str, Any], bytes]:
    """Index and compressed bytes of named tensors.

    Returns:
        Name -> shape, kind and first byte (a multiple of four) before compression; the bytes.
    """
    index: dict[str, Any] = {}
    parts, place = [], 0
    for name, values in arrays.items():
        kind = kind_of(name, precision)
        data = encode(values, kind)
        data += bytes(-len(data) % 4)
        index[name] = {"shape": list(values.shape), "kind": kind, "at": place}
        parts.append(data)
        place += len(data)
    return index, gzip.compress(b"".join(parts), 9, mtime=0)
