"""The scheduler: tasks that need each other, done here, in processes, or on a Ray cluster."""
