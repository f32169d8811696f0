"""The commands a user types; each sub-command lives in the module named after it."""
