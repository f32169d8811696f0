"""From Gaussians to pixels: one rasterizer with several backends, and compositing."""
