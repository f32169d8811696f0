"""A trained talker in one file, `NAME.talker`: safe to share, and all that driving needs.

docs/talker-file.md describes the format for those who write other readers.
"""
