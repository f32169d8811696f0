"""The studio itself: what a user may ask of projects, talkers and videos."""

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from gaussiantalker_ns.inference.talker_file.archive import SUFFIX
from gaussiantalker_ns.live.studio.commands import process_steps, train_steps
from gaussiantalker_ns.live.studio.jobs import BusyError, Job
from gaussiantalker_ns.live.studio.projects import Project, Projects, remove
from gaussiantalker_ns.live.studio.settings import StudioSettings
from gaussiantalker_ns.live.studio.state import state_of_studio
from gaussiantalker_ns.live.studio.talkers import TalkerList
from gaussiantalker_ns.live.studio.video_upload import VideoUpload, check_space
from gaussiantalker_ns.live.studio.videos import SpokenVideos

if TYPE_CHECKING:
    from gaussiantalker_ns.live.services import Services

FOLDER = "studio"
"""Name of the studio's folder in the library."""

SNAPSHOT_S = 0.4
"""How long what the files say is believed: pages that watch share it."""


class Studio:
    """Everything the handlers work on; one per server."""

    def __init__(self, services: "Services", settings: StudioSettings) -> None:
        self.services = services
        self.settings = settings
        # Jobs run wherever this server's folder is; a relative library would move with it.
        folder = services.library.folder.absolute() / FOLDER
        self.projects = Projects(folder / "projects", settings.most_projects)
        self.talkers = TalkerList(services.library)
        self.videos = SpokenVideos(folder / "videos", settings)
        self.lock = asyncio.Lock()
        """Held by whatever begins or ends a job: two requests never do so at once."""
        self.closing = asyncio.Event()
        """Set when the server ends."""
        self._snapshot, self._snapshot_s = "", -SNAPSHOT_S
        self._snapshot_lock = asyncio.Lock()

    def project(self, slug: str) -> Project:
        """The project of a name.

        Raises:
            HTTPException: 404.
        """
        try:
            return self.projects.get(slug)
        except KeyError:
            raise HTTPException(404, "There is no such talker in the making.") from None

    def talker_path(self, name: str) -> Path:
        """The file of a talker.

        Raises:
            HTTPException: 404.
        """
        try:
            return self.services.library.path_of(name).absolute()
        except KeyError:
            raise HTTPException(404, "There is no such talker.") from None

    def talker_of(self, project: Project) -> Path:
        """Where a project's talker lies, or will lie."""
        folder = self.services.library.folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{project.slug}{SUFFIX}"

    def upload(self, project: Project) -> VideoUpload:
        """The video of a project on its way."""
        return VideoUpload(project, self.settings)

    async def snapshot(self) -> str:
        """The state of everything as JSON in one line."""
        async with self._snapshot_lock:
            now_s = time.monotonic()
            if now_s - self._snapshot_s >= SNAPSHOT_S:
                arguments = self.settings, self.projects, self.talkers, self.videos
                try:
                    state = await run_in_threadpool(state_of_studio, *arguments)
                except FileNotFoundError:
                    # Something was removed while it was looked at; it is gone at the second look.
                    state = await run_in_threadpool(state_of_studio, *arguments)
                self._snapshot, self._snapshot_s = json.dumps(state), time.monotonic()
            return self._snapshot

    def forget_snapshot(self) -> None:
        """Have the next page see what has just been changed."""
        self._snapshot_s = -SNAPSHOT_S

    def check_idle(self, project: Project) -> None:
        """Refuse heavy work while there is other such work: the machine is there once.

        Raises:
            BusyError: There is.
        """
        busy = self.projects.heavy_job()
        if busy is None:
            return
        other, what = busy
        doing = "is being trained" if what == "train" else "has its video read"
        if other.slug == project.slug:
            raise BusyError("This talker is being worked on already; wait, or stop that first.")
        raise BusyError(
            f"{other.description.name!r} {doing} at the moment; wait until that is done, or stop"
            " it there."
        )

    def process(self, project: Project) -> None:
        """Make the data set of a project, or go on with it.

        Raises:
            BusyError: Something else is at work.
            HTTPException: 409, there is no video.
        """
        if project.video is None:
            raise HTTPException(409, "There is no video yet; record or upload one.")
        self.check_idle(project)
        project.process_job.start(process_steps(self.settings, project))

    def train(self, project: Project, key: str) -> None:
        """Train a project, or go on with its training, and pack it.

        Raises:
            BusyError: Something else is at work.
            HTTPException: 409, there is no data set.
            ValueError: There is no such quality.
        """
        training = self.settings.training(key)
        if not project.report.is_file():
            raise HTTPException(409, "There is no data set yet; process a video first.")
        self.check_idle(project)
        said = project.description
        if said.training != key:
            # Another quality is another training: its steps and stages have other lengths.
            remove(project.training)
            remove(project.train_job.folder)
            project.describe(replace(said, training=key))
        steps = train_steps(self.settings, project, training, self.talker_of(project))
        project.train_job.start(steps)

    def job(self, project: Project) -> Job:
        """The job of the phase that a project is in.

        Raises:
            HTTPException: 409, it is in none.
        """
        phase = project.phase(project.slug in self.services.library.names())
        if phase not in ("process", "train"):
            raise HTTPException(409, "Nothing is being made here at the moment.")
        return project.process_job if phase == "process" else project.train_job

    def resume(self, project: Project) -> None:
        """Go on with what was stopped, interrupted or has failed.

        Raises:
            BusyError: Something else is at work.
            HTTPException: 409, there is nothing to go on with.
        """
        job = self.job(project)
        if job.folder == project.process_job.folder:
            self.process(project)
            return
        key = project.description.training
        if key is None:
            raise HTTPException(409, "No quality was chosen yet; choose one.")
        self.train(project, key)

    def delete_talker(self, name: str) -> None:
        """Remove a talker with all that belongs to it.

        Raises:
            HTTPException: 404 there is none, 409 it is not the library's.
        """
        self.talker_path(name)
        if not self.talkers.can_delete(name):
            raise HTTPException(
                409, "This talker does not lie in the library's folder; delete its file yourself."
            )
        for project in self.projects.all():
            if project.slug == name:
                self.projects.delete(project)
        self.videos.delete_all(name)
        self.services.library.remove(name)

    def check_space(self) -> None:
        """Refuse new work on a full disk.

        Raises:
            HTTPException: 507.
        """
        folder = self.services.library.folder.absolute()
        there = next(path for path in (folder, *folder.parents) if path.is_dir())
        check_space(there, self.settings.spare_bytes)

    async def open(self) -> None:
        """Tidy up what nobody has finished."""
        for project in self.projects.all():
            self.upload(project).expire()

    def close(self) -> None:
        """Let pages go; jobs stay at work."""
        self.closing.set()
