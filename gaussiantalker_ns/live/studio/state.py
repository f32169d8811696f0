"""What the page shows: everything that the files say, as JSON."""

import time
from typing import Any

from gaussiantalker_ns.engine.progress import PICTURE_NAME
from gaussiantalker_ns.live.studio.commands import PROGRESS
from gaussiantalker_ns.live.studio.jobs import JobState
from gaussiantalker_ns.live.studio.projects import UPLOAD, Project, Projects
from gaussiantalker_ns.live.studio.run_job import read_json
from gaussiantalker_ns.live.studio.settings import StudioSettings
from gaussiantalker_ns.live.studio.talkers import TalkerList
from gaussiantalker_ns.live.studio.video_upload import VideoUpload
from gaussiantalker_ns.live.studio.videos import SpokenVideos, has_voice

PROCESS_STEPS = (
    "video",
    "landmarks",
    "tracking",
    "segmentation",
    "layers",
    "audio",
    "dataset",
    "report",
)
"""The steps of `process`, in their order."""


def state_of_studio(
    settings: StudioSettings, projects: Projects, talkers: TalkerList, videos: SpokenVideos
) -> dict[str, Any]:
    """All projects and talkers, as the page shows them."""
    names = set(talkers.library.names())
    found = projects.all()
    titles = {project.slug: project.description.name for project in found}
    return {
        "projects": [project_state(project, settings, project.slug in names) for project in found],
        "talkers": [
            {
                "name": name,
                "title": titles.get(name, name),
                "can_delete": talkers.can_delete(name),
                **talkers.summary(name).facts,
                "videos": [video.facts() for video in videos.all(name)],
            }
            for name in talkers.library.names()
        ],
        "voice": has_voice(),
    }


def project_state(project: Project, settings: StudioSettings, has_talker: bool) -> dict[str, Any]:
    """One project."""
    said = project.description
    phase = project.phase(has_talker)
    state: dict[str, Any] = {
        "slug": project.slug,
        "name": said.name,
        "consent": said.consent,
        "created": said.created,
        "training": said.training,
        "phase": phase,
        "upload": VideoUpload(project, settings).facts(),
        "has_report": project.report.is_file(),
        "has_recording": project.video is not None,
    }
    if project.video is not None:
        video = read_json(project.folder / UPLOAD)
        state["video"] = {name: video.get(name) for name in ("seconds", "width", "height")}
    if phase == "process":
        state["job"] = process_state(project)
    elif phase == "train":
        state["job"] = train_state(project)
    return state


def job_facts(state: JobState) -> dict[str, Any]:
    """What any job shows."""
    ended = state.ended or time.time()
    return {
        "state": state.state,
        "step": state.step,
        "message": state.message,
        "can_resume": state.can_resume,
        "seconds": None if state.started is None else round(ended - state.started),
    }


def process_state(project: Project) -> dict[str, Any]:
    """Where the making of the data set is."""
    job = project.process_job
    facts = job_facts(job.state())
    if facts["state"] == "none":
        # The video arrived, and then the server ended.
        facts.update(state="interrupted", can_resume=True)
    progress = read_json(job.folder / PROGRESS)
    finished = set(read_json(project.data / "talker.json").get("steps", {}))
    now = progress.get("step")
    return {
        **facts,
        "steps": [
            {"name": name, "done": name in finished and name != now} for name in PROCESS_STEPS
        ],
        "step": now,
        "done": progress.get("done"),
        "total": progress.get("total"),
    }


def train_state(project: Project) -> dict[str, Any]:
    """Where the training is."""
    job = project.train_job
    progress = read_json(job.folder / PROGRESS)
    picture = job.folder / PICTURE_NAME
    return {
        **job_facts(job.state()),
        "stage": progress.get("stage"),
        "done": progress.get("done"),
        "total": progress.get("total"),
        "seconds_left": progress.get("seconds_left"),
        # Changes with the picture, so that the page fetches each once.
        "picture": picture.stat().st_mtime_ns if picture.is_file() else None,
    }
