"""A talker in a browser: its run-time, and pages and files that carry it."""
