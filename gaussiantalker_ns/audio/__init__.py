"""From sound to per-frame features: reading, loudness normalisation, encoders, windows, and the
sync offset.

Every array of samples in this package is mono float32 at `SAMPLE_RATE_HZ`, and video frame `i`
lasts from `i / FPS` to `(i + 1) / FPS` seconds. The modules are imported one by one; this one stays
light.
"""
