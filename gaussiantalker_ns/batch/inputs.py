"""Files that a table names: paths and URLs, when they changed, and copies of what is remote."""

import os
import posixpath
import uuid
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

MARK = "://"
"""What tells a URL from a path."""


def is_url(address: str) -> bool:
    """Whether an address is for fsspec: `s3://bucket/me.mp4`, but not `/data/me.mp4`."""
    return MARK in address


def address_of(cell: str, base: str) -> str:
    """The file that a cell names; paths that are not absolute begin at the table's folder.

    Example: ("me.mp4", "s3://bucket/jobs") gives "s3://bucket/jobs/me.mp4".
    """
    if is_url(cell):
        return cell
    if is_url(base) and not os.path.isabs(cell):
        return f"{base.rstrip('/')}/{posixpath.normpath(cell)}"
    return os.path.abspath(os.path.join(base, os.path.expanduser(cell)))


def base_of(table: str) -> str:
    """The folder of a table: where the paths in it begin."""
    return table.rpartition("/")[0] if is_url(table) else os.path.dirname(os.path.abspath(table))


@dataclass(frozen=True)
class Input:
    """A file that is read."""

    address: str
    """A path, or a URL."""
    version: str
    """What changes with its content: size and time."""

    @property
    def stem(self) -> str:
        """Its name without folders and ending."""
        return Path(self.address.rpartition("/")[2]).stem


def find_input(column: str, address: str) -> Input:
    """Look a file up.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is a folder, or cannot be reached.
    """
    version = _remote_version(address) if is_url(address) else _local_version(address)
    if version is None:
        raise FileNotFoundError(
            f"{column} is {address}, which is not there; expected an existing file. Correct the"
            " cell: paths that are not absolute begin at the table's folder."
        )
    return Input(address, version)


def _local_version(address: str) -> str | None:
    path = Path(address)
    if not path.exists():
        return None
    state = path.stat()
    if path.is_dir():
        raise ValueError(
            f"{address} is a folder; expected a file. A trained run becomes one with"
            " `gaussiantalker pack`."
        )
    return f"{state.st_size}-{state.st_mtime_ns}"


def _remote_version(address: str) -> str | None:
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(address)
        listed = _listing(fs.to_json(), fs._parent(path))
        info = listed.get(path.rstrip("/")) if listed is not None else fs.info(path)
    except FileNotFoundError:
        return None
    # Every file system has errors of its own, and a package that may be missing.
    except Exception as error:
        raise ValueError(
            f"{address} cannot be reached ({type(error).__name__}: {error}); expected a URL that"
            " fsspec opens here. Check the address, the credentials, and that its package is"
            " installed."
        ) from error
    if info is None:
        return None
    return "-".join(str(info.get(key)) for key in (*KEYS, "size") if info.get(key) is not None)


KEYS = (
    "ETag",
    "etag",
    "md5Hash",
    "content_md5",
    "mtime",
    "LastModified",
    "last_modified",
    "created",
)
"""What file systems call that which changes with the content."""


@lru_cache(maxsize=256)
def _listing(fs_json: str, folder: str) -> dict[str, dict[str, Any]] | None:
    """A remote folder, asked for once; None where there are no folders, as in HTTP."""
    import fsspec

    fs = fsspec.AbstractFileSystem.from_json(fs_json)
    if fs.protocol in ("http", ("http", "https")):
        return None
    return {entry["name"].rstrip("/"): entry for entry in fs.ls(folder, detail=True)}


def forget_listings() -> None:
    """Ask for remote folders anew."""
    _listing.cache_clear()


def fetched(source: Input, folder: Path) -> Path:
    """A local file with the content of an input: itself, or a copy in a folder."""
    if not is_url(source.address):
        return Path(source.address)
    import fsspec

    name = source.address.rstrip("/").rpartition("/")[2]
    target = folder / name
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fs, path = fsspec.core.url_to_fs(source.address)
        # A name of its own: another worker may fetch the same.
        partial = target.with_name(f".partial-{uuid.uuid4().hex}")
        fs.get_file(path, str(partial))
        os.replace(partial, target)
    return target
