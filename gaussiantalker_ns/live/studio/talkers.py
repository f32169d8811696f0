"""The list of talkers: what each file says of itself, read once as long as it does not change."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gaussiantalker_ns.inference.talker_file.archive import SUFFIX, members_of, read_archive
from gaussiantalker_ns.inference.talker_file.schema import DESCRIPTION, PICTURE, read_description
from gaussiantalker_ns.live.library import TalkerLibrary


@dataclass(frozen=True)
class Summary:
    """What the list shows of a talker file."""

    stamp: tuple[int, int]
    """Change time and size of the file when it was read."""
    picture: bytes | None
    """What the talker looks like, a WebP; None for a file that cannot be read."""
    facts: dict[str, Any]
    """Size, consent, method; or what is wrong with the file."""


def summarise(path: Path, stamp: tuple[int, int]) -> Summary:
    """Read what a talker file says of itself, without its network."""
    try:
        members = members_of(read_archive(path), path)
        said = read_description(members[DESCRIPTION], path)
        picture = bytes(members[PICTURE])
    except (ValueError, OSError, KeyError) as error:
        sentence = str(error).replace(str(path), f"{path.stem}{SUFFIX}")
        return Summary(stamp, None, {"bytes": stamp[1], "problem": sentence})
    facts = {
        "bytes": stamp[1],
        "consent": (said.consent or {}).get("statement"),
        "licence": said.licence,
        "method": said.method,
        "steps": said.step + 1,
        "pixels": said.size,
        "created": said.source.created,
    }
    return Summary(stamp, picture, facts)


class TalkerList:
    """Summaries of a library's talkers."""

    def __init__(self, library: TalkerLibrary) -> None:
        self.library = library
        self._known: dict[Path, Summary] = {}

    def summary(self, name: str) -> Summary:
        """What the list shows of a talker.

        Raises:
            KeyError: There is none of that name.
        """
        path = self.library.path_of(name)
        if path.suffix != SUFFIX:
            return Summary((0, 0), None, {"bytes": None, "run": True})
        found = path.stat()
        stamp = (found.st_mtime_ns, found.st_size)
        known = self._known.get(path)
        if known is None or known.stamp != stamp:
            known = self._known[path] = summarise(path, stamp)
        return known

    def can_delete(self, name: str) -> bool:
        """Whether a talker is the library's own, and not one that was named at the start."""
        return self.library.path_of(name).parent == self.library.folder

    def picture(self, name: str) -> bytes:
        """What a talker looks like, a WebP.

        Raises:
            KeyError: There is no such talker, or it has no picture.
        """
        picture = self.summary(name).picture
        if picture is None:
            raise KeyError(name)
        return picture
