"""Backward pass of `kernels.tiles`: front to back again, with the same alphas and stops.

It has more than 300 lines, so that the gathering of gradients stands beside their summing.

With g the gradient of the pixel's colour, w_i = T_i alpha_i, and R what lies behind splat i,

    R = C . g - T_final dL/dalpha_out - sum_{j <= i} w_j (c_j . g),
    dL/dalpha_i = T_i (c_i . g) - R / (1 - alpha_i).

C includes the background, so that its part needs no code. Per entry, sums over pixels of
s = o exp(-sigma) dL/dalpha times 1, dx, t, dx^2, dx t, t^2 go to the entry's slot;
`kernels.tiles_backward` adds the slots of each Gaussian and turns the sums into gradients.

With s summed over the pixels of a Gaussian, sigma = (p dx^2 + c (dy + m dx)^2) / 2, f = sqrt(c) / 4
and t = f (dy + m dx):

    dL/du = m dL/dv - p sum s dx,   dL/dv = -16 f sum s t,   dL/dopacity = sum s / opacity,
    dL/dp = -sum s dx^2 / 2,   dL/dm = -16 f sum s dx t,   dL/dc = -sum s t^2 / (2 f^2).
"""

import numpy as np

from gaussiantalker_ns.kernels.bundles import (
    add_scaled,
    dot,
    load_bundle,
    splat_bundle,
    store_totals,
    zero_bundle,
)
from gaussiantalker_ns.kernels.compile import inline_jit, jit, next_job, pooled_kernel
from gaussiantalker_ns.kernels.records import (
    BEND,
    OPACITY,
    RECORD,
    SHEAR,
    SLOPE,
    TILE_HEIGHT,
    TILE_WIDTH,
    TILT,
    U,
    V,
)
from gaussiantalker_ns.kernels.simd import (
    LANES,
    absolute,
    both,
    fma,
    lane_numbers,
    load,
    prefetch,
    select,
    splat,
    store,
    total,
)
from gaussiantalker_ns.kernels.tiles import (
    AHEAD,
    F4,
    HALVES,
    MIN_ALPHA,
    MIN_TRANSMITTANCE,
    NUM_VECTORS,
    falloff,
)

NUM_MOMENTS = 8
"""Sums of a slot before those of the colours: s, s dx, s t, s dx^2, s dx t, s t^2, |s u|, |s v|."""


@inline_jit
def _half_gradient(
    records, at, colour, left, begin, end, top, base, pixels, channels, absolutes, max_alpha, sums
):
    """Add one splat's gradients over the rows `begin` to `end` of one half of a tile.

    Args:
        sums: Moment vectors, absolute sums and colour gradients gathered so far.

    Returns:
        The same, with this half added.
    """
    s_1, s_x, s_t, s_xx, s_xt, s_tt, abs_x, abs_y, v_colour = sums
    dx = splat(-left) - lane_numbers()
    k = records[at + BEND] * dx * dx
    slope, opacity = records[at + SLOPE], records[at + OPACITY]
    start = slope * (records[at + V] - F4(top) - F4(0.5))
    t0 = fma(records[at + SHEAR], dx, start)
    # d sigma / du = p dx + 16 f m t, d sigma / dv = 16 f t.
    along_x = F4(16) * records[at + BEND] * dx
    along_t = F4(16) * records[at + SHEAR]
    stride = np.uint64((2 + len(channels)) * LANES)
    where = np.uint64(base + begin) * stride
    row = splat(F4(begin))
    m_1, m_t, m_tt = splat(F4(0)), splat(F4(0)), splat(F4(0))
    for _ in range(begin, end + 1):
        t = fma(row, -slope, t0)
        full = opacity * falloff(t, k)
        row = row + F4(1)
        alpha = select(full < max_alpha, full, max_alpha)
        seen = alpha >= MIN_ALPHA
        alpha = select(seen, alpha, F4(0))
        active = load(pixels, where)
        weight = alpha * active
        left_over = active - weight
        # A stopped pixel has transmittance 0, so that it never goes on again.
        goes_on = left_over > MIN_TRANSMITTANCE
        weight = select(goes_on, weight, F4(0))
        store(pixels, where, select(goes_on, left_over, F4(0)))
        g = load_bundle(pixels, where + np.uint64(2 * LANES), channels)
        v_colour = add_scaled(v_colour, weight, g)
        gain = dot(colour, g)
        behind = load(pixels, where + np.uint64(LANES)) - weight * gain
        store(pixels, where + np.uint64(LANES), behind)
        v_alpha = active * gain - behind / (F4(1) - alpha)
        s = select(both(both(seen, goes_on), full <= max_alpha), full * v_alpha, F4(0))
        st = s * t
        m_1 = m_1 + s
        m_t = m_t + st
        m_tt = fma(st, t, m_tt)
        if len(absolutes) > 0:
            abs_x = abs_x + absolute(s * fma(t, along_t, along_x))
            abs_y = abs_y + absolute(st)
        where += stride
    mx = m_1 * dx
    return (
        s_1 + m_1, s_x + mx, s_t + m_t, fma(mx, dx, s_xx), fma(m_t, dx, s_xt), s_tt + m_tt,
        abs_x, abs_y, v_colour,
    )  # fmt: skip


@jit
def _tile_gradient(
    records, colors, entries, first, last, left, top, pixels, channels, absolutes, max_alpha,
    partial,
):  # fmt: skip
    """Write the slots of a tile's entries."""
    width = np.uint64(NUM_MOMENTS + len(channels))
    for entry in range(np.uint64(first), np.uint64(last)):
        ahead = np.uint64(entries[min(entry + AHEAD, np.uint64(last - 1)), 0])
        prefetch(records, ahead * np.uint64(RECORD))
        prefetch(colors, ahead * np.uint64(len(channels)))
        prefetch(partial, np.uint64(entries[min(entry + AHEAD, np.uint64(last - 1)), 1]) * width)
        index, rows = np.uint64(entries[entry, 0]), entries[entry, 2]
        at = index * np.uint64(RECORD)
        colour = splat_bundle(colors, index * np.uint64(len(channels)), channels)
        zero = splat(F4(0))
        sums = (zero, zero, zero, zero, zero, zero, zero, zero, zero_bundle(channels))
        x = F4(left) + F4(0.5) - records[at + np.uint64(U)]
        for half in range(HALVES):
            begin, end = rows & 15, rows >> 4 & 15
            sums = _half_gradient(
                records, at, colour, x, begin, end, top, half * TILE_HEIGHT, pixels, channels,
                absolutes, max_alpha, sums,
            )  # fmt: skip
            x += F4(LANES)
            rows >>= 8
        slot = np.uint64(entries[entry, 1]) * width
        partial[slot] = total(sums[0])
        partial[slot + np.uint64(1)] = total(sums[1])
        partial[slot + np.uint64(2)] = total(sums[2])
        partial[slot + np.uint64(3)] = total(sums[3])
        partial[slot + np.uint64(4)] = total(sums[4])
        partial[slot + np.uint64(5)] = total(sums[5])
        if len(absolutes) > 0:
            partial[slot + np.uint64(6)] = total(sums[6])
            partial[slot + np.uint64(7)] = total(sums[7])
        store_totals(partial, slot + np.uint64(NUM_MOMENTS), sums[8])


@inline_jit
def _load_row(pixels, at, image, alphas, v_image, v_alphas, pixel, num_lanes, num_channels):
    """Set up T, R and g of the pixels of one vector from the flat pictures and gradients."""
    source = np.uint64(pixel) * num_channels
    for lane in range(np.uint64(num_lanes)):
        one = np.uint64(pixel) + lane
        pixels[at + lane] = F4(1)
        behind = (alphas[one] - F4(1)) * v_alphas[one]
        for c in range(num_channels):
            g = v_image[source + lane * num_channels + c]
            pixels[at + lane + (c + np.uint64(2)) * np.uint64(LANES)] = g
            behind += image[source + lane * num_channels + c] * g
        pixels[at + lane + np.uint64(LANES)] = behind


@jit
def _load_tile(pixels, channels, image, alphas, v_image, v_alphas, pixel, pitch, width, height):
    """Set up a tile; pixels off the picture are stopped. Arguments as in `_write_tile`."""
    num_channels = np.uint64(len(channels))
    stride = (num_channels + np.uint64(2)) * np.uint64(LANES)
    if width < TILE_WIDTH or height < TILE_HEIGHT:
        for k in range(np.uint64(pixels.size)):
            pixels[k] = F4(0)
    for half in range(HALVES):
        for y in range(height):
            at = np.uint64(half * TILE_HEIGHT + y) * stride
            source = pixel + y * pitch + half * LANES
            if width >= (half + 1) * LANES:
                _load_row(pixels, at, image, alphas, v_image, v_alphas, source, LANES, num_channels)
            else:
                lanes = max(width - half * LANES, 0)
                _load_row(pixels, at, image, alphas, v_image, v_alphas, source, lanes, num_channels)


@pooled_kernel
def composite_backward(
    queue, records, colors, entries, starts, stops, images, alphas, v_images, v_alphas, channels,
    absolutes, max_alpha, size, partial,
):  # fmt: skip
    """Gradients of every entry.

    Args:
        records, colors, entries, starts, stops, images, alphas, channels, max_alpha: As in the
            forward pass, with its outputs.
        v_images, v_alphas: Gradients of the pictures.
        absolutes: Empty tuple, or a tuple of one when absolute sums are wanted.
        partial: Output float32 [slots * (NUM_MOMENTS + D)].
    """
    num_cameras, height, width = size
    num_columns = (width + TILE_WIDTH - 1) // TILE_WIDTH
    num_tiles = num_columns * ((height + TILE_HEIGHT - 1) // TILE_HEIGHT)
    slot_width = NUM_MOMENTS + len(channels)
    pixels = np.empty(NUM_VECTORS * (2 + len(channels)) * LANES, np.float32)
    while True:
        job = next_job(queue)
        if job >= num_cameras * num_tiles:
            break
        camera, tile = job // num_tiles, job % num_tiles
        left, top = tile % num_columns * TILE_WIDTH, tile // num_columns * TILE_HEIGHT
        w, h = min(TILE_WIDTH, width - left), min(TILE_HEIGHT, height - top)
        if starts[job] < stops[job]:
            _load_tile(
                pixels, channels, images, alphas, v_images, v_alphas,
                (camera * height + top) * width + left, width, w, h,
            )  # fmt: skip
            _tile_gradient(
                records, colors, entries, starts[job], stops[job], left, top, pixels, channels,
                absolutes, max_alpha, partial,
            )  # fmt: skip
        for entry in range(stops[job], starts[job + 1]):
            at = np.uint64(entries[entry, 1] * slot_width)
            for k in range(np.uint64(slot_width)):
                partial[at + k] = F4(0)


FAR_AHEAD = 8
"""Gaussians between asking for slots and adding them."""
LINE = 16
"""Floats of a line of the cache."""
BLOCK = 512
"""Gaussians of one unit of parallel work."""


@pooled_kernel
def sum_slots(
    queue, records, factors, places, slots, counts, partial, absolutes,
    v_means2d, v_factors, v_opacities, v_colors, absgrad,
):  # fmt: skip
    """Add the slots of every Gaussian and turn the moments into gradients.

    Args:
        records, factors, places, slots, counts, partial, absolutes: As before.
        v_means2d, v_factors, v_opacities, v_colors: Outputs [b, n, ...].
        absgrad: Output [b, n, 2], untouched unless absolute sums were asked for.
    """
    num_cameras, n, num_channels = v_colors.shape
    width = NUM_MOMENTS + num_channels
    num_blocks = (n + BLOCK - 1) // BLOCK
    while True:
        job = next_job(queue)
        if job >= num_cameras * num_blocks:
            break
        camera, block = job // num_blocks, job % num_blocks
        for i in range(block * BLOCK, min(n, (block + 1) * BLOCK)):
            # The next Gaussians' slots are fetched while this one's are added.
            ahead = max(places[camera, min(i + FAR_AHEAD, n - 1)], 0)
            prefetch(partial, slots[camera, ahead] * width)
            prefetch(partial, slots[camera, ahead] * width + LINE)
            s_1, s_x, s_t, s_xx, s_xt, s_tt = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            a_x, a_y = 0.0, 0.0
            f, m, p, opacity = 1.0, 0.0, 0.0, 1.0
            for c in range(num_channels):
                v_colors[camera, i, c] = 0
            place = places[camera, i]
            first_slot, last_slot = 0, 0
            if place >= 0:
                first_slot = slots[camera, place]
                last_slot = first_slot + counts[camera, place]
                at = (camera * n + i) * RECORD
                f, m = np.float64(records[at + SLOPE]), np.float64(records[at + TILT])
                p, opacity = np.float64(factors[camera, i, 0]), np.float64(records[at + OPACITY])
            for slot in range(first_slot, last_slot):
                at = slot * width
                s_1 += partial[at]
                s_x += partial[at + 1]
                s_t += partial[at + 2]
                s_xx += partial[at + 3]
                s_xt += partial[at + 4]
                s_tt += partial[at + 5]
                if len(absolutes) > 0:
                    a_x += partial[at + 6]
                    a_y += partial[at + 7]
                for c in range(num_channels):
                    v_colors[camera, i, c] += partial[at + NUM_MOMENTS + c]
            c_by_f = 16 * f
            v_v = -c_by_f * s_t
            v_means2d[camera, i, 0] = m * v_v - p * s_x
            v_means2d[camera, i, 1] = v_v
            v_factors[camera, i, 0] = -0.5 * s_xx
            v_factors[camera, i, 1] = -c_by_f * s_xt
            v_factors[camera, i, 2] = -0.5 * s_tt / (f * f)
            v_opacities[camera, i] = s_1 / opacity
            if len(absolutes) > 0:
                absgrad[camera, i, 0] = a_x
                absgrad[camera, i, 1] = a_y * c_by_f
