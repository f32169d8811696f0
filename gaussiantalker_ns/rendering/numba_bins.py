"""Which Gaussians touch which tile of the picture, nearest first.

One radix sort of the depths per camera; then every Gaussian, in that order, emits the tiles that
its ellipse really reaches, so that each tile's list comes out sorted. A (Gaussian, tile) pair is an
*entry*. It owns a *slot*: the slots of a Gaussian are neighbours, which lets the backward pass sum
them without atomics. All cameras are binned together; nothing depends on the number of threads.
"""

from math import ceil, floor, log, sqrt

import numpy as np
from numba import prange

from gaussiantalker_ns.numba_runtime import jit, parallel_kernel
from gaussiantalker_ns.rendering.numba_project import MIN_ALPHA
from gaussiantalker_ns.rendering.numba_simd import LANES

TILE_HEIGHT = 16
"""Rows of a tile."""
TILE_WIDTH = 2 * LANES
"""Columns of a tile: two halves of one vector each."""
RECORD = 12
"""Floats of a splat's record, the fields below."""
U, V, BEND, SLOPE, SHEAR, OPACITY, TILT, REACH, CURVE, HALF_WIDTH, TOP = range(11)
"""Fields of a record. With f = sqrt(c) / 4, exp(-8 (t^2 + k)) falls off over a pixel at (x, y) as
t = f (v - y) + SHEAR (u - x), k = BEND (u - x)^2, where SLOPE = f, SHEAR = f m, BEND = p / 16.
The visible ellipse spans u +- HALF_WIDTH; its rows at x are v - TILT (x - u) +- sqrt(REACH - CURVE
(x - u)^2), TILT being m; its highest row lies at u + TOP and its lowest at u - TOP."""

_RADIX_BITS = 11
_BINS = 1 << _RADIX_BITS


@jit
def write_record(records, at, u, v, p, m, c, opacity):
    """Fill the record of a splat."""
    # The margin keeps rounding from cutting off a pixel that passes the alpha test.
    reach = 2 * log(opacity / MIN_ALPHA) * 1.0001 + 1e-4
    f = 0.25 * sqrt(c)
    records[at + U] = u
    records[at + V] = v
    records[at + BEND] = p / 16
    records[at + SLOPE] = f
    records[at + SHEAR] = f * m
    records[at + OPACITY] = opacity
    records[at + TILT] = m
    records[at + REACH] = reach / c
    records[at + CURVE] = p / c
    records[at + HALF_WIDTH] = sqrt(reach / p)
    # Sxx, Sxy and Syy are 1 / p, -m / p and 1 / c + m^2 / p.
    records[at + TOP] = -m / p * sqrt(reach / (1 / c + m * m / p))


@jit
def rows_between(records, at, left, right):
    """First and last row (counted from the splat's centre) of its ellipse over columns.

    Args:
        records: Records of all splats.
        at: Where the splat's record starts.
        left, right: Centres of the first and last column, relative to the splat's centre.

    Returns:
        Lowest and highest y relative to the centre; an empty span when it does not reach there.
    """
    half_width = records[at + HALF_WIDTH]
    if left > half_width or right < -half_width:
        return np.float32(1), np.float32(-1)
    tilt, top = records[at + TILT], records[at + TOP]
    reach, curve = records[at + REACH], records[at + CURVE]
    zero = np.float32(0)
    x = min(max(top, left), right)
    high = sqrt(max(reach - curve * x * x, zero)) - tilt * x
    x = min(max(-top, left), right)
    low = -sqrt(max(reach - curve * x * x, zero)) - tilt * x
    return low, high


@jit
def clipped_rows(records, at, left, right, first_row, num_rows):
    """First and last row, within rows that begin at `first_row`, whose pixels the ellipse reaches."""
    low, high = rows_between(records, at, left, right)
    half = np.float32(0.5)
    origin = records[at + V] - np.float32(first_row) - half
    if low > high:
        return 0, -1
    begin = ceil(max(origin + low, np.float32(0)))
    end = floor(min(origin + high, np.float32(num_rows - 1)))
    return int(begin), int(end)


@parallel_kernel
def write_records(means2d, factors, opacities, radii, size, records, boxes):
    """Fill the records, and count the tiles under each splat's box.

    Args:
        means2d, factors, radii: As projected, [b, n, ...].
        opacities: [b or 1, n].
        size: Width and height in pixels.
        records: Output [b * n * RECORD].
        boxes: Output int64 [b * n], an upper bound of the number of entries.
    """
    num_cameras, n = radii.shape[:2]
    width, height = size
    for index in prange(num_cameras * n):
        camera, i = index // n, index % n
        boxes[index] = 0
        if radii[camera, i, 0] == 0:
            continue
        u, v = np.float64(means2d[camera, i, 0]), np.float64(means2d[camera, i, 1])
        write_record(
            records, index * RECORD, u, v,
            np.float64(factors[camera, i, 0]),
            np.float64(factors[camera, i, 1]),
            np.float64(factors[camera, i, 2]),
            np.float64(opacities[min(camera, opacities.shape[0] - 1), i]),
        )  # fmt: skip
        rx, ry = radii[camera, i, 0] + 1.0, radii[camera, i, 1] + 1.0
        left, right = max(u - rx, 0.0) // TILE_WIDTH, min(u + rx, width - 1.0) // TILE_WIDTH
        top, bottom = max(v - ry, 0.0) // TILE_HEIGHT, min(v + ry, height - 1.0) // TILE_HEIGHT
        boxes[index] = max(0, int(right - left) + 1) * max(0, int(bottom - top) + 1)


@jit
def _sort_camera(keys, order, spare_keys, spare_order):
    """Stable radix sort of unsigned keys; returns whether the result is in the spare arrays."""
    low, high = keys[0], keys[0]
    for key in keys:
        low, high = min(low, key), max(high, key)
    counts = np.empty(_BINS, np.int64)
    shift = np.uint32(0)
    swapped = False
    while (high - low) >> shift > 0:
        counts[:] = 0
        for key in keys:
            counts[((key - low) >> shift) & np.uint32(_BINS - 1)] += 1
        start = 0
        for bin in range(_BINS):
            counts[bin], start = start, start + counts[bin]
        for k in range(keys.size):
            bin = ((keys[k] - low) >> shift) & np.uint32(_BINS - 1)
            spare_keys[counts[bin]] = keys[k]
            spare_order[counts[bin]] = order[k]
            counts[bin] += 1
        keys, spare_keys = spare_keys, keys
        order, spare_order = spare_order, order
        swapped = not swapped
        shift += np.uint32(_RADIX_BITS)
    return swapped


@parallel_kernel
def sort_by_depth(depth_bits, radii, order, num_visible):
    """List each camera's visible Gaussians, nearest first; equal depths by index.

    Args:
        depth_bits: Depths [b, n] as uint32: for positive floats the bits have the floats' order.
        radii: int32 [b, n, 2].
        order: Output int32 [b, n]: place -> Gaussian.
        num_visible: Output int64 [b].
    """
    num_cameras, n = depth_bits.shape
    for camera in prange(num_cameras):
        keys, spare_keys = np.empty(n, np.uint32), np.empty(n, np.uint32)
        spare_order = np.empty(n, np.int32)
        count = 0
        for i in range(n):
            if radii[camera, i, 0] > 0:
                keys[count] = depth_bits[camera, i]
                order[camera, count] = i
                count += 1
        num_visible[camera] = count
        if count and _sort_camera(
            keys[:count], order[camera, :count], spare_keys[:count], spare_order[:count]
        ):
            order[camera, :count] = spare_order[:count]
