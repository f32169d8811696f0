"""Faces: landmarks, mesh topology, scalar measures, alignment, choice of the subject."""
