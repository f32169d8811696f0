"""Library of talkers: those of the user's folder, those named at the start, and the presenter.

A name is a file's name without its ending; nothing that a client says is used as a path.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from gaussiantalker_ns.assets import asset_path
from gaussiantalker_ns.inference.talker import Talker
from gaussiantalker_ns.inference.talker_file.archive import SUFFIX
from gaussiantalker_ns.inference.trained_talker import SAMPLE

MOST_LOADED = 4
"""Talkers that stay in memory after their last session."""


@dataclass(frozen=True)
class _Loaded:
    stamp: tuple[int, int]
    """Change time and size of the file when it was read."""
    talker: Talker


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


class TalkerLibrary:
    """Talkers by their names; loaded ones are shared by all sessions."""

    def __init__(self, folder: Path, named: tuple[Path, ...] = ()) -> None:
        """Look at what was named.

        Args:
            folder: The user's folder; it need not exist.
            named: Talker files or runs that are listed before those of the folder.

        Raises:
            FileNotFoundError: One of them is not there.
            ValueError: Two of them have the same name.
        """
        self.folder = folder
        self._named: dict[str, Path] = {}
        for path in named:
            if not path.exists():
                raise FileNotFoundError(
                    f"There is no talker at {path}; expected a .talker file, or the config.yml or"
                    " folder of a run. Check --talker."
                )
            name = path.stem if path.suffix == SUFFIX else path.name
            if name in self._named:
                raise ValueError(
                    f"--talker names two talkers called {name!r}, {self._named[name]} and {path};"
                    " expected different names. Rename one of the files."
                )
            self._named[name] = path
        self._loaded: OrderedDict[Path, _Loaded] = OrderedDict()
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Names of all talkers that are there now, the default one first."""
        return list(self._paths())

    def path_of(self, name: str) -> Path:
        """The file of a talker.

        Raises:
            KeyError: There is none of that name.
        """
        return self._paths()[name]

    def load(self, name: str) -> Talker:
        """Return a talker, from memory or from its file; takes seconds where it is new.

        Raises:
            KeyError: There is none of that name.
            ValueError: Its file is damaged.
        """
        path = self.path_of(name)
        with self._lock:
            stamp = _stamp(path)
            known = self._loaded.get(path)
            if known is None or known.stamp != stamp:
                known = _Loaded(stamp, Talker.load(path))
                self._loaded[path] = known
            self._loaded.move_to_end(path)
            while len(self._loaded) > MOST_LOADED:
                self._loaded.popitem(last=False)
            return known.talker

    def remove(self, name: str) -> None:
        """Delete a talker of the folder; sessions that speak with it go on.

        Raises:
            KeyError: The folder has none of that name.
        """
        path = self._in_folder()[name]
        with self._lock:
            self._loaded.pop(path, None)
            path.unlink()

    def _paths(self) -> dict[str, Path]:
        found = dict(self._named)
        for name, path in self._in_folder().items():
            found.setdefault(name, path)
        found.setdefault(Path(SAMPLE).stem, asset_path(SAMPLE))
        return found

    def _in_folder(self) -> dict[str, Path]:
        if not self.folder.is_dir():
            return {}
        files = sorted(self.folder.glob(f"[!.]*{SUFFIX}"))
        return {path.stem: path for path in files if path.is_file()}
