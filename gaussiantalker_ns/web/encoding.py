"""How exactly the numbers of a talker are kept in a page: 8, 16 or 32 bits each."""

import gzip
import re
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from gaussiantalker_ns.web.networks import Arrays

TOLERANT = re.compile(r"whisper\.\d\.(widen|narrow)\.weight$")
"""Names of matrices, half of all, that seven bits a number serve as well."""

MOST_STEPS, FEWER_STEPS = 127, 63
"""Largest number of eight and of seven bits."""

SMALLEST_FACTOR = 1e-6
"""Of columns that hold next to nothing; float16 ends soon below."""

Precision = Literal["int8", "float16", "float32"]

EXACT = re.compile(r"track\.|audio\.(mean|std|silence)$|whisper\.mel\.")
"""Names of tensors that are small and keep 32 bits."""

COARSE = re.compile(
    r"whisper\.(conv\d|\d\.(query|key|value|out|widen|narrow))\.weight$|.*features$"
)
"""Names of the large matrices, of which 8 bits a number are enough."""

GROUP = 128
"""Rows of a column that share a factor; with one factor for the whole column the error of the
articulation code is twice as large."""

POSITIONS = "head.means"
"""Sixteen bits within the head's box place a Gaussian to a micrometre; float16 does not."""


def kind_of(name: str, precision: Precision) -> str:
    """The form of a tensor: f32, f16, i8 (with factors) or u16 (a range for each column)."""
    if precision == "float32" or EXACT.match(name):
        return "f32"
    if name == POSITIONS:
        return "u16" if precision == "int8" else "f32"
    return "i8" if precision == "int8" and COARSE.match(name) else "f16"


def encode(values: Float32[np.ndarray, "..."], kind: str, steps: int = MOST_STEPS) -> bytes:
    """The bytes of a tensor, little-endian; factors or ranges stand before the numbers."""
    if kind == "f32":
        return values.astype("<f4").tobytes()
    if kind == "f16":
        return np.clip(values, -65504, 65504).astype("<f2").tobytes()
    assert values.ndim == 2, "columns have factors"
    if kind == "i8":
        return grouped(values, steps)
    low, high = values.min(axis=0), values.max(axis=0)
    places = np.round((values - low) / np.maximum(high - low, 1e-12) * 65535)
    return np.stack([low, high]).astype("<f4").tobytes() + places.astype("<u2").tobytes()


def grouped(values: Float32[np.ndarray, "k c"], steps: int) -> bytes:
    """Whole numbers up to `steps`, a byte each, behind a float16 factor for each group."""
    starts = range(0, len(values), GROUP)
    largest = np.stack([np.abs(values[start : start + GROUP]).max(axis=0) for start in starts])
    factors = np.maximum(largest / steps, SMALLEST_FACTOR).astype("<f2")
    by_row = factors.astype(np.float32).repeat(GROUP, axis=0)[: len(values)]
    numbers = np.clip(np.round(values / by_row), -steps, steps).astype(np.int8)
    return factors.tobytes() + bytes(-factors.nbytes % 4) + numbers.tobytes()


def encode_all(arrays: Arrays, precision: Precision) -> tuple[dict[str, Any], bytes]:
    """Index and compressed bytes of named tensors.

    Returns:
        Name -> shape, kind and first byte (a multiple of four) before compression; the bytes.
    """
    index: dict[str, Any] = {}
    parts, place = [], 0
    for name, values in arrays.items():
        kind = kind_of(name, precision)
        steps = FEWER_STEPS if TOLERANT.match(name) else MOST_STEPS
        data = encode(values, kind, steps)
        data += bytes(-len(data) % 4)
        index[name] = {"shape": list(values.shape), "kind": kind, "at": place}
        parts.append(data)
        place += len(data)
    return index, gzip.compress(b"".join(parts), 9, mtime=0)
