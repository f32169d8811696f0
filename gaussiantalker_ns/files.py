"""Files: checksums, reading of images, writes that are whole or absent, ordered threads."""

import codecs
import hashlib
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from jaxtyping import UInt8

HASH_BLOCK_BYTES = 1 << 20
"""Bytes of a file in memory at a time."""

JPEG_ENDINGS = (".jpg", ".JPG", ".jpeg", ".JPEG")
"""How the name of a JPEG may end; the first is written."""

JPEG_END = b"\xff\xd9"
JPEG_TAIL_BYTES = 1024
"""Some writers append a few bytes after the end marker."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as hexadecimal digits, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def read_text(path: Path) -> str:
    """Read a text of a user's: UTF-8, or what spreadsheets on Windows write, without its mark.

    UTF-8 may begin with a byte order mark; UTF-16 is told by its mark, or by the zero bytes of
    plain letters.

    Raises:
        ValueError: the file holds no such text.
    """
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif b"\0" in data[:2]:
        encoding = "utf-16-le" if data[:1] != b"\0" else "utf-16-be"
    else:
        encoding = "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path} is no text in UTF-8 or UTF-16 (line {line}: {error.reason}); expected one of "
            "them. Save it again as plain text in UTF-8."
        ) from error
    return text


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file under a temporary name beside its place and rename it.

    An interruption leaves what was there before; the folder must exist.
    """
    partial = path.with_name(f".partial-{path.name}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


PROGRESS_INTERVAL_S = 0.5
"""How often a progress file is written at most."""


class ProgressFile:
    """A JSON file in which a command tells other programs how far it is; whole at any time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._written_s = -PROGRESS_INTERVAL_S

    def tell(self, facts: dict[str, object], at_once: bool = False) -> None:
        """Write how far the command is, unless that was written a moment ago.

        Args:
            facts: What can be written as JSON, such as `{"done": 3, "total": 8}`.
            at_once: Whether to write in any case, as for the first and last facts of a step.
        """
        now_s = time.monotonic()
        if at_once or now_s - self._written_s >= PROGRESS_INTERVAL_S:
            self._written_s = now_s
            write_text(self.path, json.dumps(facts) + "\n")


def remove_all_but(folder: Path, kept: Path) -> None:
    """Empty a folder except for one file."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path != kept:
            path.unlink(missing_ok=True)


def write_image(
    path: Path, image: UInt8[np.ndarray, "h wd c"], options: Sequence[int] = ()
) -> None:
    """Write an RGB or RGBA picture under a temporary name beside its place and rename it.

    Args:
        path: Its ending decides the format; the folder must exist.
        image: The picture, uint8.
        options: Pairs of a flag of OpenCV's encoder and its value.

    Raises:
        OSError: If it cannot be written, for example because the disk is full.
    """
    code = cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    # Not `imwrite`, which reports success where the disk is full before the last few kilobytes.
    done, encoded = cv2.imencode(path.suffix, cv2.cvtColor(image, code), options)
    assert done, f"OpenCV could not encode {path.name}"
    partial = path.with_name(f".partial-{path.name}")
    try:
        partial.write_bytes(encoded.data)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(
            f"{path} could not be written ({error.strerror}). Check the free space and the rights"
            " there."
        ) from error


def video_step(path: Path) -> str:
    """What to do about a missing or damaged frame, as long as nothing else is known of it."""
    return "Run the video step of `gaussiantalker process` again with --overwrite."


def read_rgb(
    path: Path, size: int | None = None, remedy: Callable[[Path], str] = video_step
) -> UInt8[np.ndarray, "h wd 3"]:
    """Read a picture as RGB and resize it to a square of `size` pixels if that is given.

    Args:
        path: The picture's file.
        size: Side in pixels; None keeps the picture as it is.
        remedy: Given the file, says what to do if it is missing or damaged.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or no picture.
    """
    return resize(cv2.cvtColor(_decode(path, cv2.IMREAD_COLOR, remedy), cv2.COLOR_BGR2RGB), size)


def read_grey(path: Path) -> UInt8[np.ndarray, "h wd"]:
    """Read a frame as luma.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or no picture.
    """
    return _decode(path, cv2.IMREAD_GRAYSCALE, video_step)


def _decode(path: Path, flags: int, remedy: Callable[[Path], str]) -> np.ndarray:
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist; expected one picture per frame. {remedy(path)}"
        )
    data = path.read_bytes()
    if path.suffix in JPEG_ENDINGS:
        check_jpeg_end(data, path, remedy)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if image is None:
        raise damaged_picture(path, "no picture that can be decoded", remedy)
    return image


def check_jpeg_end(data: bytes, path: Path, remedy: Callable[[Path], str]) -> None:
    """Refuse a JPEG that is cut off, of which decoders make a picture that is partly grey.

    Raises:
        ValueError: the end of the file lacks the marker.
    """
    if data.rfind(JPEG_END, max(len(data) - JPEG_TAIL_BYTES, 0)) < 0:
        raise damaged_picture(path, "a JPEG without its end (the file is cut off)", remedy)


def damaged_picture(path: Path, found: str, remedy: Callable[[Path], str]) -> ValueError:
    """The error for a file that holds something else than a whole picture."""
    return ValueError(f"{path} holds {found}; expected a complete picture. {remedy(path)}")


def resize(image: UInt8[np.ndarray, "h wd *c"], size: int | None) -> UInt8[np.ndarray, "_ _ *c"]:
    """Resize to a square of `size` pixels: area averaging when it shrinks, cubic when it grows."""
    if size is None or image.shape[:2] == (size, size):
        return image
    method = cv2.INTER_AREA if size < image.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (size, size), interpolation=method))


def default_workers(num_workers: int) -> int:
    """Threads to use: the given number, or for 0 one per core up to 4."""
    return num_workers or min(os.cpu_count() or 1, 4)


Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD_PER_WORKER = 2
"""Results that may wait for their turn, per thread."""


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], num_workers: int
) -> Iterator[Result]:
    """Yield `function(item)` for every item in order, computed in `num_workers` threads.

    Unlike `ThreadPoolExecutor.map` it starts only a few items ahead of the consumer, so that memory
    does not grow with the length of the video. OpenCV, MediaPipe and NumPy release the interpreter
    lock in their heavy parts, hence threads.

    Example: `list(ordered_map(abs, [-1, 2], 2))` is `[1, 2]`.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(num_workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > num_workers * AHEAD_PER_WORKER:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
