"""Owner of a folder or output: one command at a time works in it, the next one learns whose it is.

Two things say so, both in one small file that is removed at the end. The operating system's lock on
the open file (`flock`, on Windows a locked byte) decides: it ends with its process, however that
ends, so that a dead owner leaves nothing behind that stops the next one. The file's text, a record
of the owner, is for the message, and decides where the lock cannot.

What holds on network file systems: NFS (4, or 3 with its lock service), SMB and CephFS carry the
lock between machines. Where locks are local to each machine (NFS mounted with `nolock`, Lustre with
`localflock`) the record keeps other machines away: its owner touches it every `BEAT_S`, and it
counts for `FRESH_S`, as far as the clocks agree and every machine has a host name of its own.
Where there are no locks at all (some FUSE file systems) the record alone decides, and two commands
that start within the same few milliseconds are not told apart.
"""

import json
import os
import platform
import shlex
import sys
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK_NAME = ".in-use.json"
"""The file's name inside a folder; beside an output its name stands in front."""

BEAT_S = 30.0
"""How often an owner touches its record."""

FRESH_S = 180.0
"""How long a record of another machine counts after it was touched last."""

PATIENCE_S = 2.0
"""How long to look again where a lock is held but its record is not, or not yet, of a living owner:
between the two an owner takes a few milliseconds."""

START_TOLERANCE_S = 2.0
"""How exactly the start of a process is known, if the clock was set meanwhile."""

LOCKED_BYTE = 1 << 20
"""The byte that Windows locks: behind the record, since locked bytes cannot be read by others."""

COMMAND_LENGTH = 160
"""Characters of a command line that a message shows."""


class InUseError(OSError):
    """Somebody else works in the folder; the message says who and what to do."""


def boot_identity() -> str:
    """What changes when this machine is started again; on Linux unique to machine and start."""
    identity = Path("/proc/sys/kernel/random/boot_id")
    return identity.read_text().strip() if identity.exists() else f"{psutil.boot_time():.0f}"


@dataclass(frozen=True)
class Owner:
    """A process that works in a folder."""

    pid: int
    process_start: float
    """When the process began, in seconds since 1970; another one may get the same pid."""
    host: str
    boot: str
    """`boot_identity` of the machine."""
    since: float
    """When the work began, in seconds since 1970."""
    command: str

    @classmethod
    def this_process(cls) -> "Owner":
        """The owner that we are."""
        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        if len(command) > COMMAND_LENGTH:
            command = f"{command[:COMMAND_LENGTH]} ..."
        start = psutil.Process().create_time()
        return cls(os.getpid(), start, platform.node(), boot_identity(), time.time(), command)

    @classmethod
    def parse(cls, text: str) -> "Owner | None":
        """The owner of a record; None for a record that is empty or not whole."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

    def is_alive(self, age_s: float, locks_work: bool) -> bool:
        """Whether the owner may still be at work, although nobody holds the lock.

        Args:
            age_s: Time since the record was touched.
            locks_work: Whether the file system has locks, so that processes of this machine,
                in containers, too, would be seen by theirs.
        """
        if self.host == platform.node():
            return self.boot == boot_identity() and self.is_running()
        if locks_work and self.boot == boot_identity():
            return False
        return age_s < FRESH_S

    def is_running(self) -> bool:
        """Whether the process runs on this machine."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.process_start) < START_TOLERANCE_S
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.AccessDenied:
            return True
        except (psutil.NoSuchProcess, ValueError):
            return False


def in_use(what: Path, owner: Owner | None, lock: Path) -> InUseError:
    """The error that says who works in a folder, since when, and what to do."""
    whose = "another program, which left no name"
    away = ""
    if owner is not None:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(owner.since))
        whose = f"`{owner.command}` (process {owner.pid} on {owner.host}, since {since})"
        if owner.host != platform.node():
            away = f" If that machine is off, delete {lock}."
    return InUseError(
        f"{what} is in use by {whose}; expected a place where no other command is at work. Wait"
        f" until that one is done, stop it, or choose another place.{away}"
    )


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file if nobody else has; None where the file system has no locks."""
    if sys.platform == "win32":
        os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def is_open_file(descriptor: int, path: Path) -> bool:
    """Whether a name still belongs to an open file; the owner before may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def read_record(path: Path) -> tuple[Owner | None, float]:
    """The owner that a lock's file names, and how many seconds ago it was touched."""
    try:
        age_s = time.time() - path.stat().st_mtime
        return Owner.parse(path.read_text(encoding="utf-8")), age_s
    except (OSError, UnicodeDecodeError):
        return None, 0.0


def keep_fresh(path: Path, done: threading.Event) -> None:
    """Touch a record until its owner is done."""
    while not done.wait(BEAT_S):
        # A disk that is away for a while is no reason to end; the lock does not depend on it.
        with suppress(OSError):
            os.utime(path)


def give_up(path: Path, descriptor: int, done: threading.Event, pid: int, made: bool) -> None:
    """Remove a record, its folder if that was made for it and is empty, and end the lock.

    A forked process only forgets the file.
    """
    done.set()
    if os.getpid() != pid:
        os.close(descriptor)
        return
    os.ftruncate(descriptor, 0)
    removable = is_open_file(descriptor, path)
    # While the lock is held, so that nobody locks a file that has no name any more. Windows
    # removes no open file, not even then if the next owner has opened it already.
    if removable and sys.platform != "win32":
        path.unlink(missing_ok=True)
    os.close(descriptor)
    if removable and sys.platform == "win32":
        with suppress(PermissionError):
            path.unlink(missing_ok=True)
    if made:
        # What is not empty stays.
        with suppress(OSError):
            path.parent.rmdir()


class OwnerLock:
    """Makes this process the owner of a place; a context manager, or `acquire` and `release`.

    One that is forgotten is released when it is collected, or at the end of the program. A second
    one in the same process is refused as anybody else's.
    """

    def __init__(self, what: Path, path: Path) -> None:
        self.what = what
        """The place, for the message."""
        self.path = path
        """The lock's file."""
        self._release: weakref.finalize | None = None

    @classmethod
    def of_folder(cls, folder: Path) -> "OwnerLock":
        """Of a folder and all that is in it; it is made if it is not there."""
        return cls(folder, folder / LOCK_NAME)

    @classmethod
    def of_output(cls, output: Path) -> "OwnerLock":
        """Of a file, or a folder that is replaced as a whole, and what is kept beside it."""
        return cls(output, output.with_name(f".{output.name}{LOCK_NAME}"))

    def acquire(self) -> None:
        """Become the owner; does nothing if this is the owner already.

        Raises:
            InUseError: Somebody else is.
            OSError: The lock's file cannot be written.
        """
        if self._release is not None:
            return
        made = not self.path.parent.exists()
        descriptor = self._locked_file()
        record = json.dumps(asdict(Owner.this_process()), indent=1) + "\n"
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, record.encode())
        done = threading.Event()
        threading.Thread(target=keep_fresh, args=(self.path, done), daemon=True).start()
        self._release = weakref.finalize(
            self, give_up, self.path, descriptor, done, os.getpid(), made
        )

    def _locked_file(self) -> int:
        """Open and lock the file, once nobody else has it."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            # The owner before has just removed the folder, which it had made.
            except FileNotFoundError:
                if time.monotonic() > deadline:
                    raise
                continue
            except PermissionError:
                # Another user's; or, on Windows, one that is just being removed.
                owner, age_s = read_record(self.path)
                if owner is not None and owner.is_alive(age_s, locks_work=False):
                    raise in_use(self.what, owner, self.path) from None
                if not self.path.exists() or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
                continue
            locked = try_lock(descriptor)
            owner, age_s = read_record(self.path)
            if locked is not False and is_open_file(descriptor, self.path):
                if owner is None or not owner.is_alive(age_s, locks_work=bool(locked)):
                    return descriptor
                os.close(descriptor)
                raise in_use(self.what, owner, self.path)
            os.close(descriptor)
            if locked is False:
                named = owner is not None and owner.is_alive(age_s, locks_work=False)
                if named or time.monotonic() > deadline:
                    raise in_use(self.what, owner, self.path)
                time.sleep(0.05)

    def release(self) -> None:
        """Let others in; does nothing if this is not the owner."""
        if self._release is not None:
            self._release()
            self._release = None

    def __enter__(self) -> "OwnerLock":
        self.acquire()
        return self

    def __exit__(self, exception_type, exception, traceback) -> None:
        self.release()
