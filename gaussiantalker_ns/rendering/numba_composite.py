"""Compositing of splats into pixels, nearest first, one tile after the other.

alpha = min(max_alpha, o exp(-sigma)); alpha below 1/255 counts as 0; a pixel stops before the splat
that would bring its transmittance T to 1e-4. A tile is 16 x 16 pixels in two halves of eight
columns; a vector is one row of a half. Only the rows that the ellipse reaches are visited.
"""

import numpy as np
from llvmlite import ir
from numba import prange
from numba.core import types
from numba.extending import intrinsic

from gaussiantalker_ns.numba_runtime import jit, parallel_kernel
from gaussiantalker_ns.rendering.numba_bins import (
    BEND,
    OPACITY,
    RECORD,
    SHEAR,
    SLOPE,
    TILE_HEIGHT,
    TILE_WIDTH,
    U,
    V,
    clipped_rows,
)
from gaussiantalker_ns.rendering.numba_channels import (
    add_scaled,
    load_bundle,
    splat_bundle,
    store_bundle,
)
from gaussiantalker_ns.rendering.numba_simd import (
    LANES,
    absolute,
    fma,
    lane_numbers,
    load,
    select,
    splat,
    store,
    total,
)

F4 = np.float32
MIN_ALPHA = F4(1 / 255)
MIN_TRANSMITTANCE = F4(1e-4)
HALVES = TILE_WIDTH // LANES
NUM_VECTORS = HALVES * TILE_HEIGHT
"""Vectors of pixels in a tile."""
_BATCH = 16
# exp(-8 y) = P(y)^8 to 2.5e-6 for y up to 0.75; an alpha of 1/255 lies at y = 0.69.
_E0, _E1, _E2, _E3, _E4, _E5 = (
    F4(1), F4(-0.99999398), F4(0.49988833), F4(-0.16597579), F4(0.03975337), F4(-0.00582640),
)  # fmt: skip
_LAST_Y = F4(0.75)


@intrinsic
def next_job(typingctx, queue):
    """Take the next number from a shared counter, an int64 array of one element."""

    def emit(context, builder, sig, args):
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", data, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(queue), emit


@jit
def falloff(t, k):
    """exp(-8 (t^2 + k)) for arguments below 6, and less than 1/255 beyond."""
    y = fma(t, t, k)
    y = select(y < _LAST_Y, y, _LAST_Y)
    e = fma(y, _E5, _E4)
    e = fma(e, y, _E3)
    e = fma(e, y, _E2)
    e = fma(e, y, _E1)
    e = fma(e, y, _E0)
    e = e * e
    e = e * e
    return e * e


@jit
def _blend_half(records, at, colour, left, begin, end, top, base, pixels, channels, max_alpha):
    """Blend one splat into the rows `begin` to `end` of one half of a tile."""
    dx = splat(-left) - lane_numbers()
    k = records[at + BEND] * dx * dx
    slope, opacity = records[at + SLOPE], records[at + OPACITY]
    start = slope * (records[at + V] - F4(top) - F4(0.5))
    t0 = fma(records[at + SHEAR], dx, start)
    stride = np.uint64((1 + len(channels)) * LANES)
    where = np.uint64(base + begin) * stride
    row = splat(F4(begin))
    for _ in range(begin, end + 1):
        e = falloff(fma(row, -slope, t0), k)
        row = row + F4(1)
        alpha = opacity * e
        alpha = select(alpha < max_alpha, alpha, max_alpha)
        alpha = select(alpha >= MIN_ALPHA, alpha, F4(0))
        # A stopped pixel keeps its transmittance with the sign turned.
        kept = load(pixels, where)
        active = select(kept > F4(0), kept, F4(0))
        weight = alpha * active
        left_over = active - weight
        goes_on = left_over > MIN_TRANSMITTANCE
        weight = select(goes_on, weight, F4(0))
        store(pixels, where, select(goes_on, left_over, F4(0) - absolute(kept)))
        sums = load_bundle(pixels, where + np.uint64(LANES), channels)
        store_bundle(pixels, where + np.uint64(LANES), add_scaled(sums, weight, colour))
        where += stride


@jit
def _blend_tile(
    records, colors, splats, first, last, left, top, height, pixels, channels, max_alpha
):
    """Blend the entries `first` to `last` of a tile; returns where it could stop."""
    stride = np.uint64((1 + len(channels)) * LANES)
    num_rows = min(TILE_HEIGHT, height - top)
    for start in range(first, last, _BATCH):
        most = splat(F4(0))
        for vector in range(np.uint64(NUM_VECTORS)):
            kept = load(pixels, vector * stride)
            most = select(kept > most, kept, most)
        if not total(most) > F4(0):
            return start
        for entry in range(start, min(start + _BATCH, last)):
            index = np.uint64(splats[entry])
            at = index * np.uint64(RECORD)
            colour = splat_bundle(colors, index * np.uint64(len(channels)), channels)
            for half in range(HALVES):
                x = F4(left + half * LANES) + F4(0.5) - records[at + np.uint64(U)]
                begin, end = clipped_rows(records, at, x, x + F4(LANES - 1), top, num_rows)
                _blend_half(
                    records, at, colour, x, begin, end, top, half * TILE_HEIGHT, pixels, channels,
                    max_alpha,
                )  # fmt: skip
    return last


@jit
def clear_tile(pixels, stride, width, height):
    """Set every pixel of a tile to transmittance 1 and no colour, pixels off the picture to -1."""
    for k in range(pixels.size):
        pixels[k] = F4(0)
    for half in range(HALVES):
        for y in range(TILE_HEIGHT):
            at = (half * TILE_HEIGHT + y) * stride
            for lane in range(LANES):
                inside = y < height and half * LANES + lane < width
                pixels[at + lane] = F4(1) if inside else F4(-1)


@jit
def _write_tile(pixels, stride, background, left, top, width, height, image, alphas):
    """Copy a finished tile, over its background, into the pictures."""
    num_channels = image.shape[2]
    for y in range(height):
        for x in range(width):
            at = np.uint64(((x // LANES) * TILE_HEIGHT + y) * stride + x % LANES)
            rest = abs(pixels[at])
            alphas[top + y, left + x] = F4(1) - rest
            for c in range(num_channels):
                colour = pixels[at + np.uint64((c + 1) * LANES)]
                image[top + y, left + x, c] = colour + rest * background[c]


@parallel_kernel
def composite_forward(
    records, colors, splats, starts, stops, backgrounds, channels, max_alpha, queue, num_workers,
    images, alphas,
):  # fmt: skip
    """Composite the tiles of all cameras.

    Args:
        records: Records of the splats.
        colors: float32 [b * n * D].
        splats, starts: Tile lists.
        stops: Output int64 [b * tiles]: end of the part of each list that was needed.
        backgrounds: [b, D].
        channels: Tuple of length D.
        max_alpha: Largest alpha of one splat in one pixel.
        queue: int64 [1], zero: the next tile to do.
        num_workers: Number of threads.
        images, alphas: Outputs [b, h, w, D] and [b, h, w].
    """
    num_cameras, height, width = alphas.shape
    num_columns = (width + TILE_WIDTH - 1) // TILE_WIDTH
    num_tiles = num_columns * ((height + TILE_HEIGHT - 1) // TILE_HEIGHT)
    stride = (1 + len(channels)) * LANES
    for _ in prange(num_workers):
        pixels = np.empty(NUM_VECTORS * stride, np.float32)
        while True:
            job = next_job(queue)
            if job >= num_cameras * num_tiles:
                break
            camera, tile = job // num_tiles, job % num_tiles
            left, top = tile % num_columns * TILE_WIDTH, tile // num_columns * TILE_HEIGHT
            w, h = min(TILE_WIDTH, width - left), min(TILE_HEIGHT, height - top)
            clear_tile(pixels, stride, w, h)
            stops[job] = _blend_tile(
                records, colors, splats, starts[job], starts[job + 1], left, top, height, pixels,
                channels, max_alpha,
            )  # fmt: skip
            _write_tile(
                pixels, stride, backgrounds[camera], left, top, w, h, images[camera],
                alphas[camera],
            )  # fmt: skip
