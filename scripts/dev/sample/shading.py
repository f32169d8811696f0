"""Deferred soft shading of the surface buffer in linear light (Numba, one thread).

Directions are in the camera frame (x right, y down, z forward). One key light casts a soft shadow;
a fill, a rim and a sky-ground ambient term do not. Skin wraps light around its terminator, red
farther than blue, which is what scattering under the skin looks like from outside.
"""

import math

import numpy as np

from gaussiantalker_ns.kernels.compile import fast_jit

KEY = (-0.52, -0.55, -0.65)
FILL = (0.80, -0.10, -0.60)
RIM = (0.62, -0.50, 0.60)
KEY_COLOUR = (1.62, 1.50, 1.34)
FILL_COLOUR = (0.26, 0.30, 0.36)
RIM_COLOUR = (0.95, 0.98, 1.05)
SKY = (0.44, 0.46, 0.50)
GROUND = (0.23, 0.19, 0.165)
SHADOW_TAPS = 9

_golden = np.arange(SHADOW_TAPS) * 2.399963
_radius = np.sqrt((np.arange(SHADOW_TAPS) + 0.5) / SHADOW_TAPS)
TAPS = np.stack([_radius * np.cos(_golden), _radius * np.sin(_golden)], axis=1).astype(np.float32)
"""Offsets of the shadow filter, in units of its radius."""


def _unit(vector: tuple) -> np.ndarray:
    """Return a unit vector in single precision."""
    array = np.array(vector, np.float32)
    return array / np.linalg.norm(array)


LIGHTS = np.stack([_unit(KEY), _unit(FILL), _unit(RIM)])
COLOURS = np.array([KEY_COLOUR, FILL_COLOUR, RIM_COLOUR, SKY, GROUND], np.float32)


@fast_jit
def clamp01(value):
    """Clamp to [0, 1]."""
    return min(max(value, 0.0), 1.0)


@fast_jit
def smoothstep(low, high, value):
    """Return the smooth step of a value between two limits."""
    t = clamp01((value - low) / (high - low))
    return t * t * (3.0 - 2.0 * t)


@fast_jit
def noise_at(noise, u, v, out):
    """Read the noise tile bilinearly at coordinates in tiles, wrapping around."""
    size = noise.shape[0]
    x = (u - math.floor(u)) * size
    y = (v - math.floor(v)) * size
    x0, y0 = int(x) % size, int(y) % size
    x1, y1 = (x0 + 1) % size, (y0 + 1) % size
    fx, fy = x - math.floor(x), y - math.floor(y)
    for k in range(4):
        top = noise[y0, x0, k] * (1 - fx) + noise[y0, x1, k] * fx
        bottom = noise[y1, x0, k] * (1 - fx) + noise[y1, x1, k] * fx
        out[k] = top * (1 - fy) + bottom * fy


@fast_jit
def key_visibility(shadow, lookup, scale, centre, x, y, z, bias, radius, softness):
    """Return how much of the key light reaches a camera-space point, filtered over a disc."""
    size = shadow.shape[0]
    dx, dy, dz = x - centre[0], y - centre[1], z - centre[2]
    u = (lookup[0, 0] * dx + lookup[0, 1] * dy + lookup[0, 2] * dz) * scale + size * 0.5
    v = (lookup[1, 0] * dx + lookup[1, 1] * dy + lookup[1, 2] * dz) * scale + size * 0.5
    d = lookup[2, 0] * dx + lookup[2, 1] * dy + lookup[2, 2] * dz + 2.0 - bias
    total = 0.0
    for k in range(TAPS.shape[0]):
        col = int(u + TAPS[k, 0] * radius * scale)
        row = int(v + TAPS[k, 1] * radius * scale)
        if col < 0 or row < 0 or col >= size or row >= size:
            total += 1.0
            continue
        behind = d - shadow[row, col]
        if behind <= 0.0:
            total += 1.0
        else:
            total += math.exp(-behind / softness)
    return total / TAPS.shape[0]


@fast_jit
def ambient(ny, sky, ground, k):
    """Return sky-ground light for a normal's downward component."""
    up = 0.5 - 0.5 * ny
    return ground[k] + (sky[k] - ground[k]) * up


@fast_jit
def gloss(n, light, power):
    """Return a Blinn-Phong lobe for the view along -z (the camera looks along +z)."""
    hx, hy, hz = light[0], light[1], light[2] - 1.0
    inverse = 1.0 / math.sqrt(hx * hx + hy * hy + hz * hz + 1e-9)
    cosine = max((n[0] * hx + n[1] * hy + n[2] * hz) * inverse, 0.0)
    return cosine**power * (power + 8.0) * 0.0398


@fast_jit
def shade_surface(
    albedo, n, lit, visible, wrap, scatter, shine, power, sheen, lights, colours, out
):
    """Shade one opaque sample: wrapped diffuse, two gloss lobes, ambient, rim and sheen.

    `lit` is the key light's visibility, `visible` the ambient one; `wrap` is the wrap of the red
    channel (green and blue get less when `scatter` is 1).
    """
    key = n[0] * lights[0, 0] + n[1] * lights[0, 1] + n[2] * lights[0, 2]
    fill = n[0] * lights[1, 0] + n[1] * lights[1, 1] + n[2] * lights[1, 2]
    rim = n[0] * lights[2, 0] + n[1] * lights[2, 1] + n[2] * lights[2, 2]
    facing = max(-n[2], 0.0)
    edge = (1.0 - facing) ** 3
    specular = 0.0
    if key > 0:
        specular = shine * (
            0.65 * gloss(n, lights[0], power) + 0.35 * gloss(n, lights[0], power * 3.5)
        )
        specular *= lit * smoothstep(0.0, 0.2, key)
    for k in range(3):
        w = wrap * (1.0 - scatter * 0.30 * k)
        diffuse = max(key + w, 0.0) / (1.0 + w)
        diffuse = diffuse * diffuse / (diffuse + 0.12 * w + 1e-6) if diffuse > 0 else 0.0
        reach = lit ** (1.0 + scatter * (0.22 * k - 0.25))
        soft = visible ** (1.0 + scatter * (0.20 * k - 0.28))
        light = colours[0, k] * diffuse * reach
        light += colours[1, k] * max(fill + 0.25, 0.0) * 0.8 * soft
        light += colours[2, k] * max(rim + 0.10, 0.0) * visible * (0.35 + 0.65 * edge)
        light += ambient(n[1], colours[3], colours[4], k) * soft
        out[k] = albedo[k] * light
        out[k] += specular * colours[0, k]
        out[k] += sheen * edge * visible * (0.35 * colours[3, k] + max(rim, 0.0) * colours[2, k])
    fill_gloss = 0.5 * shine * gloss(n, lights[1], power) * visible
    for k in range(3):
        out[k] += fill_gloss * colours[1, k]


@fast_jit
def shade_strand(tangent, albedo, lit, visible, hair_gloss, shift, lights, colours, out):
    """Shade a strand with Kajiya and Kay's model and two shifted highlights."""
    for k in range(3):
        out[k] = albedo[k] * visible * (0.9 * colours[3, k] + 0.3 * colours[4, k])
    for m in range(3):
        along = tangent[0] * lights[m, 0] + tangent[1] * lights[m, 1] + tangent[2] * lights[m, 2]
        sine = math.sqrt(max(1.0 - along * along, 0.0))
        view = -tangent[2]
        view_sine = math.sqrt(max(1.0 - view * view, 0.0))
        reach = lit if m == 0 else visible
        first = max(sine * view_sine - (along + shift) * view, 0.0) ** 40
        second = max(sine * view_sine - (along - 1.6 * shift) * view, 0.0) ** 14
        strength = 0.30 if m == 2 else 1.0
        for k in range(3):
            out[k] += (
                strength
                * reach
                * colours[m, k]
                * (
                    0.72 * albedo[k] * sine
                    + hair_gloss * (0.030 * first + 0.85 * albedo[k] * second)
                )
            )
