"""Segmentation: every pixel is background, torso, neck or head."""
