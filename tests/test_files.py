"""Checksums, and text files that are whole or not there."""

import hashlib

import pytest

from gaussiantalker_ns.files import HASH_BLOCK_BYTES, sha256_of, write_text


@pytest.mark.parametrize("size", [0, 3, HASH_BLOCK_BYTES, 2 * HASH_BLOCK_BYTES + 1])
def test_checksum_is_sha256(tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(b"a" * size)
    assert sha256_of(path) == hashlib.sha256(b"a" * size).hexdigest()


def test_text_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "table.md"
    path.write_text("old")
    write_text(path, "\u00e4 | b\n")
    assert path.read_bytes() == "\u00e4 | b\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_keeps_the_old_text(tmp_path):
    path = tmp_path / "table.md"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half of it, then \ud800")
    assert path.read_text() == "old"
