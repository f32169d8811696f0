"""Training machinery: optimisers and schedules, the trainer, threads and devices."""
