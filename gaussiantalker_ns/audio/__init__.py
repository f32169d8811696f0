"""From sound to per-frame features: reading, levelling, encoders, windows, and the sync offset.

Every array of samples in this package is mono float32 at `SAMPLE_RATE_HZ`, and video frame `i`
lasts from `i / FPS` to `(i + 1) / FPS` seconds. The modules are imported one by one; this one stays
light.
"""

SAMPLE_RATE_HZ = 16_000
"""The sampling rate of every encoder."""

FPS = 25
"""The frame rate of every data set."""

SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // FPS
