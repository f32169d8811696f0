"""Measures of image fidelity and lip motion."""
