"""Training data: frames, head crops in memory, the data manager, and conditions of every frame."""
