"""Reading speech and turning it into one feature window per video frame."""
