"""The run-time: a trained talker, its motion, its frames, and videos with provenance."""
