"""Head tracking: focal length, face mesh, one rigid pose per frame."""
