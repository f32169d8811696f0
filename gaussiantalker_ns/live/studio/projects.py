"""Projects: folders in which a recording becomes a talker, and all that is known of them.

The files are the state. Nothing else says how far a project is, so that neither a reload nor the
end of a server loses anything:

    project.json                  name, consent and choices
    upload.json, upload.part      a video on its way, and what has arrived of it
    recording.webm, ...           the video
    data/                         the data set, with report.html
    process/, train/              a job each (`jobs.py`), with its progress
    training/                     the output folder of `ns-train`
"""

import re
import secrets
import shutil
import time
import unicodedata
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from gaussiantalker_ns.live.studio.jobs import Job
from gaussiantalker_ns.live.studio.run_job import read_json, write_json

PROJECT, UPLOAD, PART = "project.json", "upload.json", "upload.part"
"""Names in the folder of a project."""

RECORDING = "recording"
"""The video's name without its ending."""

VIDEO_ENDINGS = ("webm", "mp4", "mkv", "avi", "ts")
"""How a video's name may end: one of ours for each container that is taken."""

SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
"""What a project's folder may be called."""

MOST_NAME, MOST_CONSENT, LEAST_CONSENT = 60, 500, 12
"""Letters of what a user writes."""

SCHEMA = 1
"""Version of `project.json`."""

Phase = Literal["video", "process", "report", "train", "ready"]
"""What comes next: a video, its data set, a look at the report, the training, nothing."""


def one_line(text: str) -> str:
    """A text without line breaks, control characters and blanks at its ends.

    Example: `one_line(" a\\n b ")` is `"a b"`.
    """
    plain = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text)
    return " ".join(plain.split())


def new_slug(name: str) -> str:
    """A folder's name of our own making, of which a few letters remind of a talker's name."""
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    letters = "-".join(re.findall(r"[a-z0-9]+", ascii_name.lower()))[:24].strip("-")
    return f"{letters or 'talker'}-{secrets.token_hex(3)}"


@dataclass(frozen=True)
class Description:
    """What a user has said of a project."""

    name: str
    consent: str
    """The statement that the person shown agrees."""
    created: float
    """When, in seconds since 1970."""
    training: str | None = None
    """Name of the chosen quality, once one is chosen."""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= MOST_NAME:
            raise ValueError(
                f"The name has {len(self.name)} letters; expected 1 to {MOST_NAME}. Change it."
            )
        if not LEAST_CONSENT <= len(self.consent) <= MOST_CONSENT:
            raise ValueError(
                f"The consent statement has {len(self.consent)} letters; expected a sentence of"
                f" {LEAST_CONSENT} to {MOST_CONSENT}. Say who is shown, and that they agree."
            )


@dataclass(frozen=True)
class Project:
    """One project; a view of its folder."""

    folder: Path

    @property
    def slug(self) -> str:
        """Its name in addresses, and of its talker."""
        return self.folder.name

    @property
    def description(self) -> Description:
        """What its user has said of it.

        Raises:
            FileNotFoundError: It was deleted in this moment.
        """
        content = read_json(self.folder / PROJECT)
        if not content:
            raise FileNotFoundError(f"{self.folder} holds no {PROJECT}; expected a project there.")
        known = {name: content.get(name) for name in Description.__dataclass_fields__}
        return Description(**known)  # pyright: ignore[reportArgumentType]

    @property
    def is_whole(self) -> bool:
        """Whether it has a description: it may just be deleted, or damaged by hand."""
        content = read_json(self.folder / PROJECT)
        texts = (content.get("name"), content.get("consent"))
        return all(isinstance(text, str) for text in texts) and isinstance(
            content.get("created"), int | float
        )

    def describe(self, description: Description) -> None:
        """Write what its user says of it."""
        write_json(self.folder / PROJECT, asdict(description))

    @property
    def data(self) -> Path:
        """Its data set."""
        return self.folder / "data"

    @property
    def report(self) -> Path:
        """The page that says how good the video is."""
        return self.data / "report.html"

    @property
    def training(self) -> Path:
        """The output folder of its training."""
        return self.folder / "training"

    @property
    def process_job(self) -> Job:
        """The job that makes the data set."""
        return Job(self.folder / "process")

    @property
    def train_job(self) -> Job:
        """The job that trains and packs."""
        return Job(self.folder / "train")

    @property
    def video(self) -> Path | None:
        """The video, once it is whole and looked at."""
        paths = (self.folder / f"{RECORDING}.{ending}" for ending in VIDEO_ENDINGS)
        return next((path for path in paths if path.is_file()), None)

    def phase(self, has_talker: bool) -> Phase:
        """What comes next.

        Args:
            has_talker: Whether the library holds its talker.
        """
        if self.train_job.exists:
            finished = has_talker and self.train_job.state().state == "done"
            return "ready" if finished else "train"
        if self.process_job.exists:
            finished = self.report.is_file() and self.process_job.state().state == "done"
            return "report" if finished else "process"
        return "video" if self.video is None else "process"

    def discard_video(self) -> None:
        """Remove the video and all that was made of it; name and consent stay."""
        self.end_jobs()
        for path in self.folder.iterdir():
            if path.name != PROJECT:
                remove(path)

    def free_space(self) -> None:
        """Remove what a finished talker does not need: recording, data set, training."""
        self.process_job.end()
        for path in (self.data, self.training, self.video):
            if path is not None:
                remove(path)

    def end_jobs(self) -> None:
        """End what runs, and wait for that."""
        for job in (self.process_job, self.train_job):
            job.end()


class Projects:
    """All projects of a server."""

    def __init__(self, folder: Path, most: int) -> None:
        """Look at a folder, which need not exist.

        Args:
            folder: Where the projects' folders lie.
            most: Projects at a time.
        """
        self.folder = folder
        self.most = most

    def all(self) -> list[Project]:
        """Every project, the newest first."""
        if not self.folder.is_dir():
            return []
        paths = (path for path in self.folder.iterdir() if SLUG.fullmatch(path.name))
        found = [project for project in map(Project, paths) if project.is_whole]
        return sorted(found, key=lambda one: one.description.created, reverse=True)

    def get(self, slug: str) -> Project:
        """The project of a name; names are compared, never used as paths.

        Raises:
            KeyError: There is none.
        """
        for project in self.all():
            if project.slug == slug:
                return project
        raise KeyError(slug)

    def create(self, name: str, consent: str) -> Project:
        """Begin a project.

        Raises:
            ValueError: The name or the consent cannot be used, or there are too many projects.
        """
        description = Description(one_line(name), one_line(consent), time.time())
        if len(self.all()) >= self.most:
            raise ValueError(
                f"There are {self.most} talkers already; expected fewer. Delete one of them."
            )
        slug = new_slug(description.name)
        project = Project(self.folder / slug)
        project.folder.mkdir(parents=True)
        project.describe(description)
        return project

    def delete(self, project: Project) -> None:
        """End its jobs and remove all of it."""
        project.end_jobs()
        # First what makes it a project, so that a half-removed one is never listed.
        (project.folder / PROJECT).unlink()
        remove(project.folder)

    def heavy_job(self) -> tuple[Project, str] | None:
        """The project whose data set or training is being made, and which of them."""
        for project in self.all():
            for what, job in (("process", project.process_job), ("train", project.train_job)):
                if job.is_running():
                    return project, what
        return None


def remove(path: Path) -> None:
    """Delete a file or a folder of ours; links are not followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
