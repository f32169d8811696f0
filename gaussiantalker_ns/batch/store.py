"""Where results are kept: a folder that all workers see, or a URL that fsspec opens.

Everything appears whole: it is written under another name and renamed. Names are relative, with
slashes.
"""

import hashlib
import os
import shutil
import tarfile
import time
import uuid
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from gaussiantalker_ns.batch.inputs import is_url
from gaussiantalker_ns.batch.remote_lock import RemoteLock
from gaussiantalker_ns.folder_lock import FRESH_S, InUseError, OwnerLock

WORK = "work"
"""Folder of what is not finished."""


@runtime_checkable
class Store(Protocol):
    """A place of results; it can be sent to other processes and machines."""

    @property
    def address(self) -> str:
        """Its path or URL."""
        ...

    def names(self, folder: str) -> set[str]:
        """Names of what a folder holds; none if it is not there."""
        ...

    def exists(self, name: str) -> bool:
        """Whether there is a file."""
        ...

    def read(self, name: str) -> bytes:
        """Content of a file."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Write a file."""
        ...

    def put(self, made: Path, name: str) -> None:
        """Move a local file or folder to its place, which may be taken by an older one."""
        ...

    def get(self, name: str, into: Path) -> Path:
        """A local path of a file or folder: itself, or a copy in the folder `into`."""
        ...

    def remove(self, name: str) -> None:
        """Delete a file or folder if it is there."""
        ...

    def work_folder(self, name: str) -> Path:
        """A local folder for work that is not finished, which is found again in the same place."""
        ...

    def lock(self) -> AbstractContextManager[Any]:
        """Makes this process the owner of the place."""
        ...


def open_store(address: str) -> Store:
    """The store at a path or URL.

    Raises:
        ValueError: It is a file.
    """
    if is_url(address):
        return UrlStore(address.rstrip("/"))
    path = Path(address).absolute()
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; expected a folder. Change --output-dir.")
    return FolderStore(str(path))


@dataclass(frozen=True)
class FolderStore:
    """A folder of this machine, or one that all machines share under the same path."""

    address: str

    @property
    def root(self) -> Path:
        """The folder."""
        return Path(self.address)

    def names(self, folder: str) -> set[str]:
        """Names of what a folder holds."""
        path = self.root / folder
        return set(os.listdir(path)) if path.is_dir() else set()

    def exists(self, name: str) -> bool:
        """Whether there is a file."""
        return (self.root / name).is_file()

    def read(self, name: str) -> bytes:
        """Content of a file."""
        return (self.root / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Write a file."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: another worker may write the same.
        partial = path.with_name(f".partial-{uuid.uuid4().hex}")
        partial.write_bytes(content)
        os.replace(partial, path)

    def put(self, made: Path, name: str) -> None:
        """Rename a file or folder."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if made.is_dir():
            self.remove(name)
        os.replace(made, path)

    def get(self, name: str, into: Path) -> Path:
        """The path itself."""
        del into
        return self.root / name

    def remove(self, name: str) -> None:
        """Delete a file or folder."""
        path = self.root / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def work_folder(self, name: str) -> Path:
        """A folder on the same disk, so that results are renamed and other machines can go on."""
        return self.root / WORK / name

    def lock(self) -> AbstractContextManager[Any]:
        """Of the folder."""
        return OwnerLock.of_folder(self.root)


@dataclass(frozen=True)
class UrlStore:
    """A place of fsspec's; folders are kept as tar files there."""

    address: str

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        import fsspec

        fs, root = fsspec.core.url_to_fs(self.address)
        return fs, root.rstrip("/")

    def __getstate__(self) -> dict[str, str]:
        return {"address": self.address}

    def _path(self, name: str) -> str:
        return f"{self._opened[1]}/{name}"

    def names(self, folder: str) -> set[str]:
        """Names of what a folder holds; a folder that was put is found as a tar file."""
        fs, _ = self._opened
        fs.invalidate_cache()
        try:
            found = fs.ls(self._path(folder), detail=False)
        except FileNotFoundError:
            return set()
        return {path.rstrip("/").rpartition("/")[2] for path in found}

    def exists(self, name: str) -> bool:
        """Whether there is a file."""
        fs, _ = self._opened
        fs.invalidate_cache()
        return bool(fs.exists(self._path(name)))

    def read(self, name: str) -> bytes:
        """Content of a file."""
        return self._opened[0].cat_file(self._path(name))

    def write(self, name: str, content: bytes) -> None:
        """Write a file."""
        fs, _ = self._opened
        partial = self._prepared(name)
        fs.pipe_file(partial, content)
        self._rename(partial, name)

    def _prepared(self, name: str) -> str:
        """Another name beside that of a file, in a folder that is there."""
        fs, _ = self._opened
        parent = self._path(name).rpartition("/")[0]
        fs.makedirs(parent, exist_ok=True)
        return f"{parent}/.partial-{uuid.uuid4().hex}"

    def _rename(self, partial: str, name: str) -> None:
        fs, path = self._opened[0], self._path(name)
        if fs.exists(path):
            fs.rm_file(path)
        fs.mv(partial, path)

    def put(self, made: Path, name: str) -> None:
        """Copy a file there, or a folder as a tar file; the local one is deleted."""
        fs, _ = self._opened
        if made.is_dir():
            packed = made.with_name(f"{made.name}.tar")
            with tarfile.open(packed, "w") as archive:
                archive.add(made, arcname=".")
            shutil.rmtree(made)
            made, name = packed, f"{name}.tar"
        partial = self._prepared(name)
        fs.put_file(str(made), partial)
        self._rename(partial, name)
        made.unlink()

    def get(self, name: str, into: Path) -> Path:
        """A copy."""
        fs, _ = self._opened
        into.mkdir(parents=True, exist_ok=True)
        target = into / name.rpartition("/")[2]
        is_folder = not fs.exists(self._path(name))
        remote = self._path(f"{name}.tar" if is_folder else name)
        partial = into / f".partial-{uuid.uuid4().hex}"
        fs.get_file(remote, str(partial))
        if is_folder:
            shutil.rmtree(target, ignore_errors=True)
            with tarfile.open(partial) as archive:
                archive.extractall(target, filter="data")
            partial.unlink()
        else:
            os.replace(partial, target)
        return target

    def remove(self, name: str) -> None:
        """Delete a file or folder."""
        fs, _ = self._opened
        for path in (self._path(name), self._path(f"{name}.tar")):
            if fs.exists(path):
                fs.rm(path, recursive=True)

    def work_folder(self, name: str) -> Path:
        """A folder of this machine."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        place = hashlib.sha256(self.address.encode()).hexdigest()[:16]
        return cache / "gaussiantalker-ns" / "batch" / place / name

    def lock(self) -> AbstractContextManager[Any]:
        """A record that says who works there."""
        return RemoteLock(self, self.address)


PATIENCE_S = FRESH_S + 60.0
"""How long to wait for a folder of work: an owner on a machine that was lost counts so long."""


def acquired_patiently(folder: Path) -> OwnerLock:
    """The lock of a folder of work, taken; a worker that is being lost may still hold it.

    Raises:
        InUseError: Somebody holds it for long.
    """
    lock = OwnerLock.of_folder(folder)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            lock.acquire()
        except InUseError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)
        else:
            return lock
