"""Last step of the compositing's backward pass: from the sums of the entries to gradients.

With s summed over the pixels of a Gaussian, sigma = (p dx^2 + c (dy + m dx)^2) / 2, f = sqrt(c) / 4
and t = f (dy + m dx):

    dL/du = m dL/dv - p sum s dx,   dL/dv = -16 f sum s t,   dL/dopacity = sum s / opacity,
    dL/dp = -sum s dx^2 / 2,   dL/dm = -16 f sum s dx t,   dL/dc = -sum s t^2 / (2 f^2).
"""

import numpy as np

from gaussiantalker_ns.numba_runtime import next_job, pooled_kernel
from gaussiantalker_ns.numba_simd import prefetch
from gaussiantalker_ns.rendering.numba_composite_backward import NUM_MOMENTS
from gaussiantalker_ns.rendering.numba_records import OPACITY, RECORD, SLOPE, TILT

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
