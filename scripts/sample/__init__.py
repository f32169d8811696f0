"""The parts of the synthetic presenter that `make_sample` renders."""
