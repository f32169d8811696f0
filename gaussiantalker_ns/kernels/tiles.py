"""Compositing of splats into pixels, nearest first, one tile after the other; and of the finished
head into a picture.

alpha = min(max_alpha, o exp(-sigma)); alpha below 1/255 counts as 0; a pixel stops before the splat
that would bring its transmittance T to 1e-4. A tile is 16 x 16 pixels in two halves of eight
columns; a vector is one row of a half. Only the rows that the ellipse reaches are visited.
"""

import numpy as np
from jaxtyping import Float32, UInt8

from gaussiantalker_ns.gaussians import raster_scene
from gaussiantalker_ns.kernels.bundles import add_scaled, load_bundle, splat_bundle, store_bundle
from gaussiantalker_ns.kernels.compile import inline_jit, jit, next_job, pooled_kernel
from gaussiantalker_ns.kernels.records import (
    BEND,
    OPACITY,
    RECORD,
    SHEAR,
    SLOPE,
    TILE_HEIGHT,
    TILE_WIDTH,
    U,
    V,
)
from gaussiantalker_ns.kernels.simd import (
    LANES,
    absolute,
    fma,
    lane_numbers,
    load,
    negative,
    prefetch,
    select,
    splat,
    store,
    total,
)

F4 = np.float32
MIN_ALPHA = F4(raster_scene.MIN_ALPHA)
MIN_TRANSMITTANCE = F4(raster_scene.MIN_TRANSMITTANCE)
HALVES = TILE_WIDTH // LANES
NUM_VECTORS = HALVES * TILE_HEIGHT
"""Vectors of pixels in a tile."""
_BATCH = 16
AHEAD = np.uint64(4)
# exp(-8 y) = P(y)^8 to 7e-7, relatively to 2.4e-6, for y up to 0.6935, where alpha is 1/255.
_E0, _E1, _E2, _E3, _E4, _E5 = (
    F4(0.999999992), F4(-0.999998291), F4(0.499940024),
    F4(-0.166177735), F4(0.040072298), F4(-0.006003045),
)  # fmt: skip
_LAST_Y = F4(0.75)


@inline_jit
def falloff(t, k):
    """exp(-8 (t^2 + k)) for arguments below 6, and less than 1/255 beyond."""
    y = fma(t, t, k)
    y = select(y < _LAST_Y, y, _LAST_Y)
    square = y * y
    e = fma(square, fma(square, fma(y, _E5, _E4), fma(y, _E3, _E2)), fma(y, _E1, _E0))
    e = e * e
    e = e * e
    return e * e


@inline_jit
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
        store(pixels, where, select(goes_on, left_over, negative(absolute(kept))))
        sums = load_bundle(pixels, where + np.uint64(LANES), channels)
        store_bundle(pixels, where + np.uint64(LANES), add_scaled(sums, weight, colour))
        where += stride


@jit
def _blend_tile(records, colors, entries, first, last, left, top, pixels, channels, max_alpha):
    """Blend the entries `first` to `last` of a tile; returns where it could stop."""
    stride = np.uint64((1 + len(channels)) * LANES)
    for start in range(first, last, _BATCH):
        most = splat(F4(0))
        for vector in range(np.uint64(NUM_VECTORS)):
            kept = load(pixels, vector * stride)
            most = select(kept > most, kept, most)
        if not total(most) > F4(0):
            return start
        for entry in range(np.uint64(start), np.uint64(min(start + _BATCH, last))):
            ahead = np.uint64(entries[min(entry + AHEAD, np.uint64(last - 1)), 0])
            prefetch(records, ahead * np.uint64(RECORD))
            prefetch(colors, ahead * np.uint64(len(channels)))
            index, rows = np.uint64(entries[entry, 0]), entries[entry, 2]
            at = index * np.uint64(RECORD)
            colour = splat_bundle(colors, index * np.uint64(len(channels)), channels)
            x = F4(left) + F4(0.5) - records[at + np.uint64(U)]
            for half in range(HALVES):
                begin, end = rows & 15, rows >> 4 & 15
                _blend_half(
                    records, at, colour, x, begin, end, top, half * TILE_HEIGHT, pixels, channels,
                    max_alpha,
                )  # fmt: skip
                x += F4(LANES)
                rows >>= 8
    return last


@jit
def clear_tile(pixels, stride, width, height):
    """Set every pixel of a tile to transmittance 1 and no colour, pixels off the picture to -1."""
    for k in range(np.uint64(pixels.size)):
        pixels[k] = F4(0)
    for half in range(HALVES):
        lanes = lane_numbers() + F4(half * LANES)
        row = select(lanes < F4(width), splat(F4(1)), F4(-1))
        for y in range(TILE_HEIGHT):
            at = np.uint64((half * TILE_HEIGHT + y) * stride)
            store(pixels, at, row if y < height else splat(F4(-1)))


@inline_jit
def _write_row(pixels, at, background, image, alphas, pixel, num_lanes, num_channels):
    """Copy the pixels of one vector, over their background, to the flat pictures."""
    to = np.uint64(pixel) * num_channels
    for lane in range(np.uint64(num_lanes)):
        rest = abs(pixels[at + lane])
        alphas[np.uint64(pixel) + lane] = F4(1) - rest
        for c in range(num_channels):
            colour = pixels[at + lane + (c + np.uint64(1)) * np.uint64(LANES)]
            image[to + lane * num_channels + c] = colour + rest * background[c]


@jit
def _write_tile(pixels, channels, background, pixel, pitch, width, height, image, alphas):
    """Copy a finished tile to the flat pictures.

    Args:
        pixel: Number of the tile's first pixel.
        pitch: Pixels of a row of the picture.
        width, height: Size of the tile, smaller at the border of the picture.
    """
    num_channels = np.uint64(len(channels))
    stride = (num_channels + np.uint64(1)) * np.uint64(LANES)
    for half in range(HALVES):
        for y in range(height):
            at = np.uint64(half * TILE_HEIGHT + y) * stride
            to = pixel + y * pitch + half * LANES
            if width >= (half + 1) * LANES:
                # The usual case by itself, where the number of lanes is a constant.
                _write_row(pixels, at, background, image, alphas, to, LANES, num_channels)
            else:
                lanes = max(width - half * LANES, 0)
                _write_row(pixels, at, background, image, alphas, to, lanes, num_channels)


@pooled_kernel
def composite_forward(
    queue, records, colors, entries, starts, stops, backgrounds, channels, max_alpha, size,
    images, alphas,
):  # fmt: skip
    """Composite the tiles of all cameras.

    Args:
        records: Records of the splats.
        colors: float32 [b * n * D].
        entries, starts: Tile lists.
        stops: Output int64 [b * tiles]: end of the part of each list that was needed.
        backgrounds: [b, D].
        channels: Tuple of length D.
        max_alpha: Largest alpha of one splat in one pixel.
        size: b, height and width of the pictures.
        images, alphas: Outputs [b * h * w * D] and [b * h * w].
    """
    num_cameras, height, width = size
    num_columns = (width + TILE_WIDTH - 1) // TILE_WIDTH
    num_tiles = num_columns * ((height + TILE_HEIGHT - 1) // TILE_HEIGHT)
    stride = (1 + len(channels)) * LANES
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
            records, colors, entries, starts[job], starts[job + 1], left, top, pixels, channels,
            max_alpha,
        )  # fmt: skip
        _write_tile(
            pixels, channels, backgrounds[camera], (camera * height + top) * width + left, width,
            w, h, images, alphas,
        )  # fmt: skip


@jit
def paint_rows(rgb, alpha, window, below, cover):
    """Lay a premultiplied head over the pixels of a window; the torch form is `composite_uint8`.

    Every operation rounds as torch's does, so that both give the same bytes. The passes over a row
    are apart, because only one of them can be written in vectors of whole pixels.

    Args:
        rgb: Colours in [0, 1], float32 [h, wd * 3].
        alpha: Coverage, float32 [h, wd].
        window: The picture, uint8 [h, wd, 3], with rows of any pitch; it is painted over.
        below, cover: Working memory, float32 [wd * 3].
    """
    height, width = alpha.shape
    for y in range(height):
        row = window[y]
        for x in range(width):
            rest = F4(1) - alpha[y, x]
            for c in range(3):
                cover[3 * x + c] = rest
        for x in range(width):
            for c in range(3):
                below[3 * x + c] = F4(row[x, c])
        for i in range(np.uint64(3 * width)):
            value = rgb[y, i] + cover[i] * (below[i] / F4(255))
            value = min(max(value, F4(0)), F4(1))
            below[i] = value * F4(255) + F4(0.5)
        for x in range(width):
            for c in range(3):
                row[x, c] = np.uint8(below[3 * x + c])


def paint_head(
    rgb: Float32[np.ndarray, "h wd 3"],
    alpha: Float32[np.ndarray, "h wd 1"],
    window: UInt8[np.ndarray, "h wd 3"],
) -> None:
    """Lay a premultiplied head over a part of a picture, in place."""
    height, width = alpha.shape[:2]
    work = np.empty((2, 3 * width), np.float32)
    paint_rows(
        rgb.reshape(height, 3 * width), alpha.reshape(height, width), window, work[0], work[1]
    )
