"""Many videos: a table of jobs, planned, shared out by the scheduler, and reported."""
