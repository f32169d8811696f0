"""The shading pass: every sample of a surface buffer gets its material's colour (Numba)."""

import math

import numpy as np

from gaussiantalker_ns.kernels.compile import fast_jit
from gaussiantalker_ns.scripts.dev.sample.materials import shade_mesh_sample
from gaussiantalker_ns.scripts.dev.sample.parts import HAIR, SHIRT, SKIN
from gaussiantalker_ns.scripts.dev.sample.shading import key_visibility, shade_strand


@fast_jit
def interpolate(f, local, faces, normals, texture, masks, n, p, mask):
    """Interpolate unit normal, texture point and masks inside a triangle."""
    a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
    wb, wc = local[0], local[1]
    wa = 1.0 - wb - wc
    for k in range(3):
        n[k] = wa * normals[a, k] + wb * normals[b, k] + wc * normals[c, k]
        p[k] = wa * texture[a, k] + wb * texture[b, k] + wc * texture[c, k]
    for k in range(8):
        mask[k] = wa * masks[a, k] + wb * masks[b, k] + wc * masks[c, k]
    norm = 1.0 / math.sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2] + 1e-12)
    for k in range(3):
        n[k] *= norm


@fast_jit
def shade_strand_sample(
    s, t, pos, segments, segment_material, strand_points, strand_colour, strand_occlusion,
    shadow, frame, scale, centre, lights, colours, tangent, albedo, out,
):  # fmt: skip
    """Shade a sample of hair segment `s` at position `t` along it."""
    a, b = segments[s, 0], segments[s, 1]
    length = 1e-14
    for k in range(3):
        tangent[k] = strand_points[b, k] - strand_points[a, k]
        length += tangent[k] * tangent[k]
        albedo[k] = strand_colour[a, k]
    length = 1.0 / math.sqrt(length)
    for k in range(3):
        tangent[k] *= length
    visible = strand_occlusion[a] * (1 - t) + strand_occlusion[b] * t
    is_hair = segment_material[s] == HAIR
    bias = 0.0045 if is_hair else 0.006
    lit = key_visibility(shadow, frame, scale, centre, pos[0], pos[1], pos[2], bias, 0.004, 0.010)
    # Neighbouring strands gleam at slightly different places.
    shift = 0.10 + 0.02 * (((a // 12) * 7919 % 17) / 8.0 - 1.0)
    strength = 0.5 if is_hair else 0.1
    shade_strand(tangent, albedo, lit, visible, strength, shift, lights, colours, out)


@fast_jit
def uniform_block(primitive, depth, faces, material, masks, row, col, side):
    """Tell whether a block of samples shows one smooth piece of skin, cloth or backdrop."""
    first = primitive[row, col]
    if first >= faces.shape[0]:
        return False
    near, far = depth[row, col], depth[row, col]
    for dy in range(side):
        for dx in range(side):
            f = primitive[row + dy, col + dx]
            if first < 0:
                if f >= 0:
                    return False
                continue
            if f < 0 or f >= faces.shape[0] or material[f] != material[first]:
                return False
            near, far = min(near, depth[row + dy, col + dx]), max(far, depth[row + dy, col + dx])
    if first < 0:
        return True
    kind, corner = material[first], faces[first, 0]
    if kind == SKIN and (masks[corner, 0] > 0.05 or masks[corner, 1] > 0.05):
        return False
    return kind in (SKIN, SHIRT) and far - near < 0.0015


@fast_jit
def shade_buffer(
    primitive, local, depth, background, faces, material, vertices, normals, texture, masks,
    segments, segment_material, strand_points, strand_colour, strand_occlusion,
    noise, lips_z, focal, cx, cy, shadow, frame, scale, centre, lights, colours, side, image,
):  # fmt: skip
    """Shade a surface buffer into a linear image, in blocks of `side` x `side` samples.

    A block that shows one smooth surface is shaded once, at its middle sample.
    """
    height, width = primitive.shape
    n, p, pos = np.zeros(3), np.zeros(3), np.zeros(3)
    mask, tone, albedo, out = np.zeros(8), np.zeros(4), np.zeros(3), np.zeros(3)
    num_faces = faces.shape[0]
    for block in range((height // side) * (width // side)):
        row0, col0 = (block // (width // side)) * side, (block % (width // side)) * side
        once = uniform_block(primitive, depth, faces, material, masks, row0, col0, side)
        for sample in range(1 if once else side * side):
            row = row0 + (side // 2 if once else sample // side)
            col = col0 + (side // 2 if once else sample % side)
            f, z = primitive[row, col], depth[row, col]
            pos[0], pos[1], pos[2] = (col + 0.5 - cx) * z / focal, (row + 0.5 - cy) * z / focal, z
            if f < 0:
                for k in range(3):
                    out[k] = background[row // side, col // side, k]
            elif f < num_faces:
                interpolate(f, local[row, col], faces, normals, texture, masks, n, p, mask)
                shade_mesh_sample(
                    material[f], pos, n, p, mask, noise, lips_z, shadow, frame, scale, centre,
                    lights, colours, tone, albedo, out,
                )  # fmt: skip
            else:
                shade_strand_sample(
                    f - num_faces, local[row, col, 0], pos, segments, segment_material,
                    strand_points, strand_colour, strand_occlusion, shadow, frame, scale, centre,
                    lights, colours, n, albedo, out,
                )  # fmt: skip
            if once:
                for dy in range(side):
                    for dx in range(side):
                        for k in range(3):
                            image[row0 + dy, col0 + dx, k] = out[k]
            else:
                for k in range(3):
                    image[row, col, k] = out[k]
