"""Audio feature encoders: one module each, chosen by name in `registry`."""
