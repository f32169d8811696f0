"""The container of a talker file: a zip of stored members, read within bounds and written whole.

Python's own reader is not used: it believes the sizes that a file states of itself.
"""

import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from gaussiantalker_ns.folder_lock import OwnerLock

SUFFIX = ".talker"
"""Ending of the files."""

MOST_FILE_BYTES = 192 * 2**20
"""Largest file that is read; 40 s at 512 px and 8000 Gaussians take about 20 MiB."""

MOST_MEMBERS = 4096
"""Most members of a file, one a frame and a few more."""

MEMBER_NAME = re.compile(
    r"talker\.json|tensors\.safetensors|background\.webp|picture\.webp|torso/\d{5}\.webp"
)
"""What a talker file may hold; no other name is looked at, and none is used as a path."""

STORED, UTF8_FLAG, PROGRAM = 0, 0x800, 3
"""Zip's numbers: a member that is not compressed, names in UTF-8, Unix as the maker."""

ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time stamp of every member, so that the bytes depend on the talker alone."""

END = struct.Struct("<4s4H2LH")
ENTRY = struct.Struct("<4s6H3L5H2L")
LOCAL = struct.Struct("<4s5H3L2H")
"""Zip's end of the directory, an entry of the directory, and the header before a member."""


class TalkerFileError(ValueError):
    """A file that is no talker, is damaged, or was made by a newer version."""


def wrong(path: Path, state: str, remedy: str = "") -> TalkerFileError:
    """The error for a file that cannot be used."""
    remedy = remedy or "Copy or download it again, or have it packed again (`gaussiantalker pack`)."
    return TalkerFileError(f"{path} {state}; expected a talker file. {remedy}")


class Entry(NamedTuple):
    """A member as the directory describes it."""

    name: str
    crc: int
    num_bytes: int
    offset: int


def read_archive(path: Path) -> bytes:
    """Read a whole file, unless it is too large.

    Raises:
        FileNotFoundError: There is no such file.
        TalkerFileError: It is too large.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No talker file at {path}; expected an existing file.")
    with path.open("rb") as file:
        data = file.read(MOST_FILE_BYTES + 1)
    if len(data) > MOST_FILE_BYTES:
        raise wrong(path, f"has more than {MOST_FILE_BYTES} bytes, the most that is read")
    return data


def members_of(data: bytes, path: Path) -> dict[str, memoryview]:
    """Name -> bytes of the members of a file, all of which are whole; nothing is copied.

    Raises:
        TalkerFileError: It is no such zip.
    """
    members: dict[str, memoryview] = {}
    for entry in directory_of(data, path):
        if entry.name in members:
            raise wrong(path, f"holds {entry.name} twice")
        members[entry.name] = member_at(data, entry, path)
    return members


def directory_of(data: bytes, path: Path) -> Iterator[Entry]:
    """The entries of the directory, each checked as far as it can be without its member.

    Raises:
        TalkerFileError: There is none, or it describes something else than stored members.
    """
    end = data[-END.size :]
    whole = len(end) == END.size and end.startswith(b"PK\x05\x06")
    if not data.startswith(b"PK") or not whole:
        raise wrong(path, "is no zip archive, or was cut")
    _, disk, first_disk, here, total, num_bytes, start, comment = END.unpack(end)
    if disk or first_disk or here != total or comment or start + num_bytes + END.size != len(data):
        raise wrong(path, "has no directory that ends with the file")
    if total > MOST_MEMBERS:
        raise wrong(path, f"holds {total} members; at most {MOST_MEMBERS} are read")
    place, stop = start, start + num_bytes
    for _ in range(total):
        if place + ENTRY.size > stop:
            raise wrong(path, "has a directory that was cut")
        fields = ENTRY.unpack_from(data, place)
        signature, _, _, flags, method, _, _, crc, packed, size, name, extra, note = fields[:13]
        offset = fields[16]
        raw = data[place + ENTRY.size : place + ENTRY.size + name]
        place += ENTRY.size + name + extra + note
        if signature != b"PK\x01\x02" or place > stop:
            raise wrong(path, "has a directory that is damaged")
        text = raw.decode("ascii", "replace")
        if not MEMBER_NAME.fullmatch(text):
            raise wrong(path, f"holds {text[:80]!r}, which is no part of a talker")
        if method != STORED or packed != size:
            raise wrong(path, f"holds {text} in compressed form, which is not read")
        if flags & ~UTF8_FLAG:
            raise wrong(path, f"holds {text} encrypted or streamed, which is not read")
        yield Entry(text, crc, size, offset)
    if place != stop:
        raise wrong(path, "has a directory that is damaged")


def member_at(data: bytes, entry: Entry, path: Path) -> memoryview:
    """The bytes of a member, which are those that were written.

    Raises:
        TalkerFileError: They are not, or are not there.
    """
    place = entry.offset
    if place + LOCAL.size > len(data):
        raise wrong(path, f"was cut before {entry.name}")
    signature, *_, name, extra = LOCAL.unpack_from(data, place)
    start = place + LOCAL.size + name + extra
    own_name = data[place + LOCAL.size : place + LOCAL.size + name]
    if signature != b"PK\x03\x04" or own_name != entry.name.encode():
        raise wrong(path, f"has no {entry.name} where its directory says")
    if start + entry.num_bytes > len(data):
        raise wrong(path, f"was cut inside {entry.name}")
    member = memoryview(data)[start : start + entry.num_bytes]
    if zlib.crc32(member) != entry.crc:
        raise wrong(path, f"holds a damaged {entry.name}")
    return member


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Check that a file may be written.

    Raises:
        FileExistsError: Something lies there.
        ValueError: The name has another ending, or is a folder's.
    """
    if path.suffix != SUFFIX:
        raise ValueError(f"{path} does not end in {SUFFIX}; expected such a name. Change --output.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected the name of a file. Change --output.")
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"{path} exists already; expected a new name. Add --overwrite to replace it."
        )


def write_archive(path: Path, members: Iterable[tuple[str, bytes]], overwrite: bool) -> None:
    """Write members in their order under a temporary name, and rename the file when it is whole.

    Raises:
        FileExistsError: There is such a file, and it is not to be replaced.
        InUseError: Another command writes it.
        TalkerFileError: It would be too large to be read.
    """
    refuse_existing(path, overwrite)
    partial = path.with_name(f".partial-{path.name}")
    with OwnerLock.of_output(path):
        try:
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
                for name, content in members:
                    info = zipfile.ZipInfo(name, date_time=ZIP_EPOCH)
                    info.create_system, info.external_attr = PROGRAM, 0o644 << 16
                    archive.writestr(info, content)
            num_bytes = partial.stat().st_size
            if num_bytes > MOST_FILE_BYTES:
                raise TalkerFileError(
                    f"{path} would have {num_bytes} bytes, and readers take {MOST_FILE_BYTES};"
                    " expected a smaller talker. Lower --track-seconds, or use --precision float16."
                )
            # Another command may have finished it meanwhile.
            refuse_existing(path, overwrite)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
