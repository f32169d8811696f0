"""Streams of frames and how far they run behind their sound."""
