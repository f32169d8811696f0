"""Gaussians: their bundle, initialization and densification, and the scene to rasterize."""
