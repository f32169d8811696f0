"""Splat records for binning and compositing: one record of floats, and the rows it reaches."""

from math import log, sqrt

import numpy as np

from gaussiantalker_ns.gaussians.raster_scene import MIN_ALPHA
from gaussiantalker_ns.kernels.compile import inline_jit
from gaussiantalker_ns.kernels.simd import (
    LANES,
    both,
    lane_numbers,
    maximum,
    minimum,
    negative,
    root,
    round_down,
    round_up,
    select,
    splat,
    store,
)

F4 = np.float32

TILE_HEIGHT = 16
"""Rows of a tile."""
TILE_WIDTH = 2 * LANES
"""Columns of a tile: two halves of one vector each."""
RECORD = 16
"""Floats of a splat's record, the fields below: one line of the cache."""
U, V, BEND, SLOPE, SHEAR, OPACITY, TILT, REACH, CURVE, HALF_WIDTH, TOP = range(11)
"""Fields of a record. With f = sqrt(c) / 4, exp(-8 (t^2 + k)) falls off over a pixel at (x, y) as
t = f (v - y) + SHEAR (u - x), k = BEND (u - x)^2, where SLOPE = f, SHEAR = f m, BEND = p / 16.
The visible ellipse spans u +- HALF_WIDTH; its rows at x are v - TILT (x - u) +- sqrt(REACH - CURVE
(x - u)^2), TILT being m; its highest row lies at u + TOP and its lowest at u - TOP."""


@inline_jit
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


@inline_jit
def visible_rows(records, at, column, height, rows):
    """First and last row of the picture that a splat's ellipse reaches in eight half tiles.

    Args:
        records: Records of all splats.
        at: Where the splat's record starts.
        column: First pixel column of the first half; the others lie to its right.
        height: Rows of the picture.
        rows: Output, 16 floats: eight first and eight last rows, the first larger for none.
    """
    left = lane_numbers() * F4(LANES) + (F4(column) + F4(0.5) - records[at + U])
    right = left + F4(LANES - 1)
    half_width = records[at + HALF_WIDTH]
    tilt, top = records[at + TILT], splat(records[at + TOP])
    reach, curve = records[at + REACH], records[at + CURVE]
    origin = records[at + V] - F4(0.5)
    x = minimum(maximum(top, left), right)
    high = root(maximum(reach - curve * x * x, splat(F4(0)))) - tilt * x + origin
    x = minimum(maximum(negative(top), left), right)
    low = origin - root(maximum(reach - curve * x * x, splat(F4(0)))) - tilt * x
    # Clipped before they become integers, so that far-away rows fit.
    low = round_up(minimum(maximum(low, splat(F4(0))), splat(F4(height))))
    high = round_down(maximum(minimum(high, splat(F4(height - 1))), splat(F4(-1))))
    reached = both(left <= half_width, right >= -half_width)
    store(rows, 0, select(reached, low, F4(0)))
    store(rows, LANES, select(reached, high, F4(-1)))


@inline_jit
def tiles_under_box(u, v, radius_x, radius_y, width, height):
    """Upper bound of the number of tiles that a splat reaches."""
    # One pixel more than the radius makes up for the margin in the record, and for rounding.
    left = max(u - radius_x - 1.0, 0.0) // TILE_WIDTH
    right = min(u + radius_x + 1.0, width - 1.0) // TILE_WIDTH
    top = max(v - radius_y - 1.0, 0.0) // TILE_HEIGHT
    bottom = min(v + radius_y + 1.0, height - 1.0) // TILE_HEIGHT
    return max(0, int(right - left) + 1) * max(0, int(bottom - top) + 1)
