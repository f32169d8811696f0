"""Seamless noise for skin and cloth, and the backdrop."""

import numpy as np
from jaxtyping import Float

NOISE_SIZE = 512


def _band(rng: np.random.Generator, size: int, low: float, high: float) -> np.ndarray:
    """Return seamless noise with spatial frequencies between two limits (cycles per tile)."""
    frequency = np.hypot(
        *np.meshgrid(np.fft.fftfreq(size, 1 / size), np.fft.fftfreq(size, 1 / size))
    )
    spectrum = np.fft.fft2(rng.normal(size=(size, size)))
    keep = np.exp(
        -((np.log(np.maximum(frequency, 0.5)) - np.log((low * high) ** 0.5)) ** 2)
        / (0.5 * np.log(high / low)) ** 2
    )
    field = np.fft.ifft2(spectrum * keep).real
    return field / field.std()


def skin_noise(rng: np.random.Generator) -> Float[np.ndarray, "512 512 4"]:
    """Return a tile of noise, 15 cm wide on the skin: unit spread, freckles in [0, 1]."""
    pores = _band(rng, NOISE_SIZE, 60.0, 160.0)
    mottle = _band(rng, NOISE_SIZE, 14.0, 40.0)
    blotch = _band(rng, NOISE_SIZE, 3.0, 9.0)
    spots = np.zeros((NOISE_SIZE, NOISE_SIZE))
    rows, columns = np.mgrid[0:NOISE_SIZE, 0:NOISE_SIZE]
    for _ in range(900):
        y, x = rng.random(2) * NOISE_SIZE
        size = rng.uniform(0.9, 2.3)
        dy = (rows[:, 0] - y + NOISE_SIZE / 2) % NOISE_SIZE - NOISE_SIZE / 2
        dx = (columns[0] - x + NOISE_SIZE / 2) % NOISE_SIZE - NOISE_SIZE / 2
        spot = np.exp(-0.5 * (dy / size) ** 2)[:, None] * np.exp(-0.5 * (dx / size) ** 2)[None]
        spots = np.maximum(spots, rng.uniform(0.3, 1.0) * spot)
    return np.stack([pores, mottle, blotch, spots], axis=-1).astype(np.float32)


def backdrop(rng: np.random.Generator, size: int) -> Float[np.ndarray, "h wd 3"]:
    """Return a linear-light studio backdrop: a soft pool of light, a vignette and faint canvas."""
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size
    pool = np.exp(-(((x - 0.36) / 0.55) ** 2 + ((y - 0.34) / 0.62) ** 2))
    vignette = 1 - 0.42 * np.clip(np.hypot(x - 0.5, y - 0.5) / 0.72, 0, 1) ** 2.2
    low = np.array([0.085, 0.105, 0.125])
    high = np.array([0.36, 0.40, 0.42])
    colour = low + (high - low) * (0.18 + 0.82 * pool[..., None])
    broad = _band(rng, 512, 3.0, 10.0)
    fine = _band(rng, 512, 40.0, 120.0)
    index = (np.arange(size) * 512 / size).astype(int)
    texture = 1 + 0.022 * broad[np.ix_(index, index)] + 0.012 * fine[np.ix_(index, index)]
    return (colour * (vignette * texture)[..., None]).astype(np.float32)
