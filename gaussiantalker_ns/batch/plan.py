"""The plan: which work the rows of a table need, each piece once, and what of it is missing."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

from gaussiantalker_ns.batch.inputs import Input, address_of, find_input
from gaussiantalker_ns.batch.options import (
    DriveOptions,
    PackingOptions,
    ProcessOptions,
    TrainOptions,
)
from gaussiantalker_ns.batch.table import BadRow, Row

RECORDS = "records"
"""Folder of the records: one file for each piece of work that is finished."""


@dataclass(frozen=True)
class Work:
    """A piece of work; it is finished if and only if its record is there."""

    key: str
    """What is made; the same inputs and options give the same key."""

    stage = ""
    """Name of the stage."""

    @property
    def name(self) -> str:
        """Name of the piece of work, and of its record without ending."""
        return f"{self.stage}-{self.key}"

    @property
    def record(self) -> str:
        """Name of the record in `RECORDS`."""
        return f"{self.name}.json"


@dataclass(frozen=True)
class ProcessWork(Work):
    """A video becomes a data set."""

    video: Input
    options: ProcessOptions
    consent: str | None
    stage = "process"


@dataclass(frozen=True)
class TrainWork(Work):
    """A data set becomes a run."""

    dataset: str
    """Key of the data set."""
    options: TrainOptions
    stage = "train"


@dataclass(frozen=True)
class PackWork(Work):
    """A run becomes a talker file."""

    dataset: str
    run: str
    """Key of the run."""
    options: PackingOptions
    stage = "pack"


@dataclass(frozen=True)
class EvaluateWork(Work):
    """The held-out frames of a run are measured."""

    dataset: str
    run: str
    stage = "evaluate"


@dataclass(frozen=True)
class DriveWork(Work):
    """A talker speaks."""

    video_name: str
    """Name of the video, without ending."""
    talker: str | Input
    """Key of a talker that is packed here, or a talker file."""
    audio: Input | None
    text: str | None
    voice: str
    options: DriveOptions
    files: dict[str, Input] = field(default_factory=dict, hash=False)
    """Options that name a file -> the file."""
    stage = "drive"


@dataclass(frozen=True)
class MeasureWork(Work):
    """A driven video is measured."""

    video_name: str
    stage = "measure"


STAGES = ("process", "train", "pack", "evaluate", "drive", "measure")
"""All stages, in order."""


@dataclass(frozen=True)
class Planned:
    """A row and the work that it needs."""

    row: Row
    works: tuple[Work, ...]
    """In the order in which it is done; rows share the first ones."""
    needs: dict[str, tuple[str, ...]] = field(hash=False)
    """Name of a piece of work -> names of those that come before it."""

    @property
    def drive(self) -> DriveWork:
        """The work that makes the row's video."""
        return next(work for work in self.works if isinstance(work, DriveWork))


def digest(*parts: Any) -> str:
    """Twelve hexadecimal digits that stand for some values."""
    text = json.dumps(parts, default=asdict)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@lru_cache(maxsize=4096)
def checked(options: Any) -> str | None:
    """What is wrong with the options of a stage; None if nothing is."""
    # What nobody has changed need not load the libraries that check it.
    if options == type(options)():
        return None
    try:
        options.check()
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    return None


@dataclass
class Planner:
    """Plans rows, one at a time; it remembers names, not rows."""

    base: str
    """Where paths of the table begin, which are not absolute."""
    finished: set[str]
    """Names of the records that are there."""
    evaluate: bool = True
    """Whether talkers and videos are measured."""
    require_consent: bool = False
    """Whether a video of a person needs a statement of consent."""
    overwrite: bool = False
    """Whether videos that were made of other files or with other options are replaced."""

    def __post_init__(self) -> None:
        drive = f"{DriveWork.stage}-"
        records = (name.removeprefix(drive) for name in self.finished if name.startswith(drive))
        self._made = {
            name: key for name, _, key in (r.removesuffix(".json").rpartition(".") for r in records)
        }
        self._names: dict[str, int] = {}

    def plan(self, rows: Iterable[Row | BadRow]) -> Iterator[Planned | BadRow]:
        """Plan rows as they come."""
        for row in rows:
            if isinstance(row, BadRow):
                yield row
                continue
            try:
                yield self.planned(row)
            except (ValueError, OSError) as error:
                yield BadRow(row.number, row.name, str(error))

    def is_finished(self, work: Work) -> bool:
        """Whether a piece of work was done before."""
        return work.record in self.finished

    def older_records(self, drive: DriveWork) -> list[str]:
        """Records of a video of the same name that was made otherwise."""
        made = self._made.get(drive.video_name)
        if made is None or drive.key == f"{drive.video_name}.{made}":
            return []
        stages = (DriveWork.stage, MeasureWork.stage)
        return [f"{stage}-{drive.video_name}.{made}.json" for stage in stages]

    def missing(self, planned: Planned) -> list[Work]:
        """What is to be done for a row: what is not finished, and what that needs."""
        wanted = [
            work
            for work in planned.works
            if isinstance(work, DriveWork | MeasureWork | EvaluateWork)
            and not self.is_finished(work)
        ]
        found: dict[str, Work] = {}
        by_name = {work.name: work for work in planned.works}
        while wanted:
            work = wanted.pop()
            found[work.name] = work
            before = [by_name[name] for name in planned.needs[work.name]]
            wanted += [w for w in before if not self.is_finished(w) and w.name not in found]
        return [work for work in planned.works if work.name in found]

    def planned(self, row: Row) -> Planned:
        """Plan a row.

        Raises:
            FileNotFoundError: A file that it names is not there.
            ValueError: It makes no sense.
        """
        # Windows and macOS do not tell Anna from anna.
        first = self._names.setdefault(row.name.casefold(), row.number)
        if first != row.number:
            raise ValueError(
                f"The row has the name {row.name} of line {first}; expected another one. Give"
                " every row a name of its own in the column `name`."
            )
        for options in (row.process, row.train, row.pack, row.drive):
            problem = checked(options)
            if problem is not None:
                raise ValueError(problem)
        works, needs, talker = self._talker_works(row)
        drive = self._drive_work(row, talker)
        before = works[-1].name if works else None
        if self.evaluate and works:
            run = next(work for work in works if isinstance(work, TrainWork))
            evaluate = EvaluateWork(run.key, run.dataset, run.key)
            works.append(evaluate)
            needs[evaluate.name] = (run.name,)
        works.append(drive)
        needs[drive.name] = () if before is None else (before,)
        if self.evaluate:
            measure = MeasureWork(drive.key, drive.video_name)
            works.append(measure)
            needs[measure.name] = (drive.name,)
        return Planned(row, tuple(works), needs)

    def _talker_works(self, row: Row) -> tuple[list[Work], dict[str, tuple[str, ...]], str | Input]:
        """What makes the row's talker, how that hangs together, and the talker."""
        if row.talker is not None:
            found = find_input("talker", address_of(row.talker, self.base))
            if not found.address.endswith(".talker"):
                raise ValueError(
                    f"talker is {found.address}; expected a .talker file. `gaussiantalker pack`"
                    " makes one of a run."
                )
            return [], {}, found
        if self.require_consent and row.consent is None:
            raise ValueError(
                "The row has no consent of the person in the video, which --require-consent asks"
                ' for; expected a statement such as "recorded by myself" in the column `consent`.'
            )
        video = find_input("video", address_of(row.video or "", self.base))
        stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in video.stem)[:60] or "video"
        process = ProcessWork(
            f"{stem}-{digest(video, row.process, row.consent)}", video, row.process, row.consent
        )
        run = f"{stem}-{digest(process.key, row.train)}"
        train = TrainWork(run, process.key, row.train)
        pack = PackWork(f"{stem}-{digest(run, row.pack)}", process.key, run, row.pack)
        needs = {process.name: (), train.name: (process.name,), pack.name: (train.name,)}
        return [process, train, pack], needs, pack.key

    def _drive_work(self, row: Row, talker: str | Input) -> DriveWork:
        """What makes the row's video.

        Raises:
            FileNotFoundError: A file is not there.
            ValueError: A video of that name was made otherwise.
        """
        audio = None if row.audio is None else find_input("audio", self._address(row.audio))
        files = {
            option: find_input(f"drive.{option}", self._address(named))
            for option, named in row.drive.files().items()
        }
        drive = row.drive.with_files({name: found.address for name, found in files.items()})
        versions = [found.version for found in files.values()]
        made_of = digest(talker, audio, row.text, row.voice, drive, versions)
        made = self._made.get(row.name)
        if made is not None and made != made_of and not self.overwrite:
            raise ValueError(
                f"videos/{row.name}.mp4 was made of other files or with other options; expected"
                " those of this row, or a new name. Change the name, or replace the video with"
                " --overwrite."
            )
        key = f"{row.name}.{made_of}"
        return DriveWork(key, row.name, talker, audio, row.text, row.voice, drive, files)

    def _address(self, cell: str) -> str:
        return address_of(cell, self.base)
