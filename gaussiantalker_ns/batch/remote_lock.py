"""Owner of a place that fsspec opens, where there are no locks: a record that is kept fresh.

Two commands that start within the same second are not told apart; see `folder_lock` for what holds
on disks.
"""

import json
import threading
import time
import uuid
from dataclasses import asdict
from typing import Any, Protocol

from gaussiantalker_ns.folder_lock import BEAT_S, FRESH_S, InUseError, Owner

RECORD = "in-use.json"
"""Name of the record."""


class _Files(Protocol):
    """The part of a store that a lock needs."""

    def names(self, folder: str) -> set[str]: ...

    def read(self, name: str) -> bytes: ...

    def write(self, name: str, content: bytes) -> None: ...

    def remove(self, name: str) -> None: ...


class RemoteLock:
    """Makes this process the owner of a place; a context manager."""

    def __init__(self, files: Any, address: str) -> None:
        self._files: _Files = files
        self._address = address
        self._token = uuid.uuid4().hex
        self._done = threading.Event()
        self._beat = threading.Thread(target=self._keep_fresh, daemon=True)

    def __enter__(self) -> "RemoteLock":
        if RECORD in self._files.names(""):
            self._refuse_owner()
        self._write()
        self._beat.start()
        return self

    def _refuse_owner(self) -> None:
        """Refuse to work beside an owner who is alive.

        Raises:
            InUseError: There is one.
        """
        try:
            record = json.loads(self._files.read(RECORD))
            owner, age_s = Owner.parse(json.dumps(record["owner"])), time.time() - record["touched"]
        # A record that is not whole belongs to nobody.
        except (ValueError, LookupError, TypeError, FileNotFoundError):
            return
        if owner is not None and age_s < FRESH_S and owner.is_alive(age_s, locks_work=False):
            raise InUseError(
                f"{self._address} is in use by `{owner.command}` on {owner.host} (process"
                f" {owner.pid}); expected nobody there. Wait for it, end it, or choose another"
                f" --output-dir. If that machine is gone, its claim ends after {FRESH_S:.0f} s."
            )

    def _write(self) -> None:
        owner = asdict(Owner.this_process())
        record = {"token": self._token, "touched": time.time(), "owner": owner}
        self._files.write(RECORD, json.dumps(record, indent=1).encode())

    def _keep_fresh(self) -> None:
        while not self._done.wait(BEAT_S):
            self._write()

    def __exit__(self, *_: Any) -> None:
        self._done.set()
        self._beat.join()
        record = json.loads(self._files.read(RECORD))
        if record["token"] == self._token:
            self._files.remove(RECORD)
