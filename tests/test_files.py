"""Checksums, and texts and pictures that are whole or not there."""

import hashlib
import json
import resource

import cv2
import numpy as np
import pytest

from gaussiantalker_ns import files
from gaussiantalker_ns.files import (
    HASH_BLOCK_BYTES,
    ProgressFile,
    sha256_of,
    write_image,
    write_text,
)


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


def test_progress_is_written_twice_a_second_and_at_once_where_that_matters(tmp_path, monkeypatch):
    now = {"s": 100.0}
    monkeypatch.setattr(files.time, "monotonic", lambda: now["s"])
    path = tmp_path / "made" / "progress.json"
    told = ProgressFile(path)
    seen = []
    for at_s, done in ((100.0, 0), (100.3, 1), (100.6, 2), (100.7, 3)):
        now["s"] = at_s
        told.tell({"done": done}, at_once=done == 3)
        seen.append(json.loads(path.read_text())["done"])
    assert seen == [0, 0, 2, 3]
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_keeps_the_old_text(tmp_path):
    path = tmp_path / "table.md"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half of it, then \ud800")
    assert path.read_text() == "old"


@pytest.mark.parametrize("channels", [3, 4])
def test_pictures_come_back_as_they_were(tmp_path, channels):
    image = np.random.default_rng(0).integers(0, 255, (5, 7, channels)).astype(np.uint8)
    write_image(tmp_path / "a.png", image)
    read = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(read[..., [2, 1, 0, 3][:channels]], image)
    write_image(tmp_path / "a.jpg", image[..., :3], [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "a.png"]


@pytest.mark.parametrize("missing_bytes", [1, 5000])
def test_a_picture_that_does_not_fit_keeps_the_old_one(tmp_path, missing_bytes):
    """The limit stands in for a full disk; OpenCV's `imwrite` does not notice that one is lost."""
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    path = tmp_path / "a.png"
    write_image(path, noise)
    whole = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) - missing_bytes, hard))
    try:
        with pytest.raises(OSError, match=r"a\.png could not be written \(.+\)\. Check the free"):
            write_image(path, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == whole and list(tmp_path.iterdir()) == [path]


def test_pictures_need_their_folder(tmp_path):
    with pytest.raises(OSError, match="could not be written"):
        write_image(tmp_path / "nowhere" / "a.png", np.zeros((2, 2, 3), np.uint8))
