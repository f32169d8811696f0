"""The parts of the synthetic sample clip: speech, motion, head model, renderer, truth."""
