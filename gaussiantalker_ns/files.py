"""Files on disk: checksums, and text files that are whole or not there."""

import hashlib
import os
from pathlib import Path

HASH_BLOCK_BYTES = 1 << 20
"""Bytes of a file in memory at a time."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as hexadecimal digits, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file under a temporary name beside its place and rename it.

    An interruption leaves what was there before; the folder must exist.
    """
    partial = path.with_name(f".partial-{path.name}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
