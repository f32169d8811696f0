"""What every material looks like: skin, eyes, mouth and cloth (Numba, one thread)."""

import math

import numpy as np

from gaussiantalker_ns.kernels.compile import fast_jit
from gaussiantalker_ns.scripts.dev.sample.parts import BUTTON, EYE, GUM, SHIRT, SKIN, TEETH
from gaussiantalker_ns.scripts.dev.sample.shading import (
    clamp01,
    key_visibility,
    noise_at,
    shade_surface,
    smoothstep,
)

CATCH = np.array([-0.36, -0.36, -0.86])
"""Where the eyes see the key light: a little nearer the camera than it is, for a livelier look."""
TILE = 0.15
"""Width of the noise tile on the skin, in metres."""


@fast_jit
def skin_look(p, mask, noise, tone, n, albedo):
    """Set a skin sample's albedo and roughen its normal; return gloss strength and exponent.

    Masks: lip, mouth, lid, ear, scalp, blush, shade, occlusion.
    """
    u = math.atan2(p[0], p[2] + 0.06) * 0.095 / TILE
    v = p[1] / TILE
    noise_at(noise, u, v, tone)
    pores, mottle, blotch, freckle = tone[0], tone[1], tone[2], tone[3]
    lip, mouth, lid, scalp, blush, shade = mask[0], mask[1], mask[2], mask[4], mask[5], mask[6]
    lip = smoothstep(0.25, 0.75, lip)
    red, green, blue = 0.585, 0.350, 0.250
    value = 1.0 + 0.020 * mottle + 0.022 * blotch + 0.008 * pores
    red, green, blue = red * value, green * value, blue * value
    warm = clamp01(0.85 * blush + 0.05 * blotch)
    green *= 1.0 - 0.24 * warm
    blue *= 1.0 - 0.22 * warm
    spots = freckle * smoothstep(0.15, 0.75, blush) * 0.34
    red *= 1.0 - 0.45 * spots
    green *= 1.0 - 0.62 * spots
    blue *= 1.0 - 0.70 * spots
    red *= 1.0 - 0.10 * lid - 0.16 * shade
    green *= 1.0 - 0.17 * lid - 0.20 * shade
    blue *= 1.0 - 0.15 * lid - 0.18 * shade
    lip_value = 1.0 + 0.05 * mottle + 0.04 * pores
    red += lip * (0.445 * lip_value - red)
    green += lip * (0.195 * lip_value - green)
    blue += lip * (0.160 * lip_value - blue)
    inside = smoothstep(0.3, 0.8, mouth)
    red += inside * (0.36 - red)
    green += inside * (0.10 - green)
    blue += inside * (0.09 - blue)
    under = scalp * 0.93
    albedo[0] = red + under * (0.055 - red)
    albedo[1] = green + under * (0.029 - green)
    albedo[2] = blue + under * (0.016 - blue)
    rough = 0.035 * (1.0 - lip * 0.4)
    n[0] += rough * (pores + 0.35 * mottle)
    n[1] += rough * (0.7 * mottle - 0.6 * pores)
    norm = 1.0 / math.sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2])
    n[0] *= norm
    n[1] *= norm
    n[2] *= norm
    shine = 0.020 + 0.012 * blush + 0.024 * lip
    return shine * (1.0 - under) * (1.0 - 0.5 * inside), 20.0 + 26.0 * lip


@fast_jit
def eye_look(d, n, light, noise, tone, albedo):
    """Set an eye's albedo from its direction `d` (gaze along z); return the catch light's strength.

    `light` is the key direction in the camera frame, `n` the surface normal there.
    """
    radius = math.sqrt(d[0] * d[0] + d[1] * d[1])
    around = math.atan2(d[1], d[0])
    noise_at(noise, around * 0.9549, radius * 0.55, tone)
    vein = tone[1]
    white = 0.70 - 0.10 * smoothstep(0.55, 0.95, radius)
    albedo[0] = white
    albedo[1] = white * (0.945 - 0.05 * smoothstep(0.6, 0.95, radius))
    albedo[2] = white * (0.915 - 0.07 * smoothstep(0.6, 0.95, radius))
    if d[2] > 0:
        iris = 1.0 - smoothstep(0.475, 0.515, radius)
        pupil = 1.0 - smoothstep(0.175, 0.205, radius)
        ring = smoothstep(0.34, 0.50, radius)
        fibre = 1.0 + 0.22 * tone[0] + 0.10 * vein
        glow = 0.62 + 0.75 * smoothstep(-0.5, 0.5, -(d[0] * light[0] - d[1] * light[1]) / 0.5)
        amber = 1.0 - smoothstep(0.20, 0.36, radius)
        r = (0.115 + 0.140 * amber) * fibre * glow * (1.0 - 0.80 * ring)
        g = (0.135 + 0.055 * amber) * fibre * glow * (1.0 - 0.78 * ring)
        b = (0.085 - 0.035 * amber) * fibre * glow * (1.0 - 0.70 * ring)
        albedo[0] += iris * (r - albedo[0])
        albedo[1] += iris * (g - albedo[1])
        albedo[2] += iris * (b - albedo[2])
        for k in range(3):
            albedo[k] *= 1.0 - 0.97 * pupil
    # A window-shaped highlight: the reflected view ray meets a rectangle around the key light.
    rx, ry, rz = 2 * n[2] * -n[0], 2 * n[2] * -n[1], 1 - 2 * n[2] * n[2]
    side = (rx - CATCH[0]) * 0.93 - (rz - CATCH[2]) * 0.37
    height = ry - CATCH[1]
    if rz > 0.3:
        return 0.0
    return (1.0 - smoothstep(0.13, 0.20, abs(side))) * (1.0 - smoothstep(0.15, 0.22, abs(height)))


@fast_jit
def cloth_look(p, collar, noise, tone, n, albedo):
    """Set the shirt's albedo (woven, with a placket) and fold its normal a little."""
    noise_at(noise, p[0] / 0.40 + 0.3 * p[1], p[1] / 0.55 + p[2], tone)
    fold = tone[2]
    noise_at(noise, p[0] * 22.0, p[1] * 22.0, tone)
    weave = 1.0 + 0.05 * tone[0] + 0.02 * tone[1]
    line = 0.0
    if collar < 0.5 and p[2] > -0.02:
        line = math.exp(-(((abs(p[0]) - 0.017) / 0.0011) ** 2)) * 0.45
    weave *= 1.0 - line
    albedo[0] = 0.026 * weave * (1.0 + 0.35 * collar)
    albedo[1] = 0.082 * weave * (1.0 + 0.30 * collar)
    albedo[2] = 0.122 * weave * (1.0 + 0.28 * collar)
    bend = 0.20 * (1.0 - 0.8 * collar)
    n[0] += bend * fold
    n[1] += 0.5 * bend * fold
    norm = 1.0 / math.sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2])
    n[0] *= norm
    n[1] *= norm
    n[2] *= norm


@fast_jit
def mouth_look(kind, p, lips_z, albedo):
    """Set the albedo of teeth, gums and tongue; return how much light gets that deep."""
    if kind == TEETH:
        albedo[0], albedo[1], albedo[2] = 0.86, 0.81, 0.72
        reach = 0.024
    elif kind == GUM:
        albedo[0], albedo[1], albedo[2] = 0.42, 0.13, 0.12
        reach = 0.022
    else:
        albedo[0], albedo[1], albedo[2] = 0.47, 0.165, 0.155
        reach = 0.022
    return math.exp(-max(lips_z - 0.008 - p[2], 0.0) / reach)


@fast_jit
def shade_mesh_sample(
    kind,
    pos,
    n,
    p,
    mask,
    noise,
    lips_z,
    shadow,
    frame,
    scale,
    centre,
    lights,
    colours,
    tone,
    albedo,
    out,
):
    """Shade one triangle sample; `p` is its texture point, `pos` its camera position."""
    if n[2] > 0.25 and kind == SHIRT:
        n[0], n[1], n[2] = -n[0], -n[1], -n[2]
    elif n[2] > 0.0:
        n[2] -= min(n[2], 0.15)
    radius = 0.0065 if kind in (SKIN, SHIRT) else 0.0035
    lit = key_visibility(
        shadow, frame, scale, centre, pos[0], pos[1], pos[2], 0.0040, radius, 0.006
    )
    visible = mask[7]
    if kind == SKIN:
        shine, power = skin_look(p, mask, noise, tone, n, albedo)
        inside = smoothstep(0.3, 0.8, mask[1])
        deep = 1.0 - inside * (1.0 - 0.55 * math.exp(-max(lips_z - p[2], 0.0) / 0.014))
        lit *= deep
        visible = (0.10 + 0.90 * visible) * deep
        shade_surface(albedo, n, lit, visible, 0.38, 1.0, shine, power, 0.035, lights, colours, out)
    elif kind == EYE:
        catch = eye_look(p, n, lights[0], noise, tone, albedo)
        lid_shadow = (
            1.0 - 0.62 * smoothstep(0.10, 0.62, p[1]) - 0.25 * smoothstep(0.45, 0.9, abs(p[0]))
        )
        visible = max(0.35 + 0.65 * visible, 0.4) * lid_shadow
        lit *= lid_shadow
        shade_surface(albedo, n, lit, visible, 0.30, 0.4, 0.05, 90.0, 0.0, lights, colours, out)
        for k in range(3):
            out[k] += catch * colours[0, k] * 0.75 * clamp01(lit * 1.6)
    elif kind == SHIRT:
        cloth_look(p, mask[0], noise, tone, n, albedo)
        shade_surface(albedo, n, lit, visible, 0.10, 0.0, 0.006, 10.0, 0.05, lights, colours, out)
    elif kind == BUTTON:
        albedo[0], albedo[1], albedo[2] = 0.50, 0.52, 0.52
        shade_surface(albedo, n, lit, visible, 0.1, 0.0, 0.05, 40.0, 0.0, lights, colours, out)
    else:
        deep = mouth_look(kind, p, lips_z, albedo)
        visible = (0.24 + 0.76 * visible) * deep
        shade_surface(
            albedo, n, lit * deep * 0.85, visible, 0.3, 0.8, 0.030, 45.0, 0.0, lights, colours, out
        )  # fmt: skip
