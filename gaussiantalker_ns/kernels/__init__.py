"""Numba kernels: compiled forms of what `fields`, `losses` and `rendering` state in torch.

The package itself holds constants that kernels share with the torch forms, and loads no Numba.
"""

WINDOW_SIZE = 11
"""Size of the SSIM window in pixels."""
WINDOW_SIGMA = 1.5
"""Standard deviation of the SSIM window in pixels."""
