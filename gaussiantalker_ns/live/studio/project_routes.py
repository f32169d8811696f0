"""Addresses of projects: consent, video, data set, training."""

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from gaussiantalker_ns.engine.progress import PICTURE_NAME
from gaussiantalker_ns.live.studio.jobs import BusyError
from gaussiantalker_ns.live.studio.projects import Project
from gaussiantalker_ns.live.studio.studio import Studio

REPORT_POLICY = (
    "sandbox; default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline';"
    " frame-ancestors 'self'"
)
"""The report shows pictures of a stranger's video: nothing in it may run."""

UNCACHED = {"cache-control": "no-store"}


def studio_of(request: Request) -> Studio:
    """The studio that a request is for."""
    return request.app.state.studio


def project_of(request: Request) -> Project:
    """The project that an address names."""
    return studio_of(request).project(request.path_params["slug"])


async def json_of(request: Request) -> dict[str, Any]:
    """The body of a request, an object.

    Raises:
        HTTPException: 400, it is something else.
    """
    try:
        content = await request.json()
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise HTTPException(400, "The request holds no JSON object; expected one.")
    return content


def text_in(content: dict[str, Any], name: str) -> str:
    """A text of a request's body.

    Raises:
        HTTPException: 400, it is missing or no text.
    """
    value = content.get(name)
    if not isinstance(value, str):
        raise HTTPException(400, f"{name!r} is missing; expected a text.")
    return value


async def alone(studio: Studio, work: Callable[..., Any], *arguments: Any) -> Any:
    """Do something that begins or ends a job, while no other request does.

    Raises:
        HTTPException: 409 something else is at work, 400 what was asked for cannot be done.
    """
    async with studio.lock:
        try:
            return await run_in_threadpool(work, *arguments)
        except BusyError as error:
            raise HTTPException(409, str(error)) from error
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        finally:
            studio.forget_snapshot()


async def create(request: Request) -> Response:
    """Begin a project: a name, and the consent of the person shown."""
    studio, content = studio_of(request), await json_of(request)
    if content.get("agreed") is not True:
        raise HTTPException(400, "The consent is not confirmed; expected the box to be ticked.")
    studio.check_space()
    name, consent = text_in(content, "name"), text_in(content, "consent")
    project = await alone(studio, studio.projects.create, name, consent)
    return JSONResponse({"slug": project.slug}, 201)


async def begin_upload(request: Request) -> Response:
    """Begin to send a video."""
    studio, project = studio_of(request), project_of(request)
    content = await json_of(request)
    num_bytes = content.get("bytes")
    if num_bytes is not None and (not isinstance(num_bytes, int) or num_bytes < 1):
        raise HTTPException(400, "'bytes' is no length; expected a number above 0, or null.")
    kind = "recording" if content.get("kind") == "recording" else "file"
    fingerprint = text_in(content, "fingerprint")
    await alone(studio, studio.upload(project).begin, num_bytes, fingerprint, kind)
    return JSONResponse({"received": 0}, 201)


async def receive_piece(request: Request) -> Response:
    """Take the next piece of a video."""
    studio, project = studio_of(request), project_of(request)
    try:
        offset = int(request.query_params["offset"])
    except (KeyError, ValueError):
        raise HTTPException(400, "'offset' is no number; expected the piece's begin.") from None
    received = await studio.upload(project).receive(offset, request)
    studio.forget_snapshot()
    return JSONResponse({"received": received})


async def finish_upload(request: Request) -> Response:
    """Look at a video that has arrived, and begin to process it."""
    studio, project = studio_of(request), project_of(request)
    try:
        found = await studio.upload(project).finish(studio.services.worker)
    finally:
        studio.forget_snapshot()
    await alone(studio, studio.process, project)
    return JSONResponse(found, 202)


async def cancel_upload(request: Request) -> Response:
    """Remove what has arrived of a video."""
    studio, project = studio_of(request), project_of(request)
    await alone(studio, studio.upload(project).cancel)
    return Response(status_code=204)


async def train(request: Request) -> Response:
    """Begin a training."""
    studio, project = studio_of(request), project_of(request)
    key = text_in(await json_of(request), "training")
    studio.check_space()
    await alone(studio, studio.train, project, key)
    return JSONResponse({}, 202)


async def stop(request: Request) -> Response:
    """Stop what is being made; it can go on later."""
    studio, project = studio_of(request), project_of(request)
    await alone(studio, lambda: studio.job(project).stop())
    return JSONResponse({}, 202)


async def resume(request: Request) -> Response:
    """Go on with what was stopped or interrupted."""
    studio, project = studio_of(request), project_of(request)
    await alone(studio, studio.resume, project)
    return JSONResponse({}, 202)


async def discard(request: Request) -> Response:
    """Remove the video, the data set and the training; name and consent stay."""
    studio, project = studio_of(request), project_of(request)
    await alone(studio, project.discard_video)
    return Response(status_code=204)


async def free_space(request: Request) -> Response:
    """Remove what a finished talker does not need."""
    studio, project = studio_of(request), project_of(request)
    has_talker = project.slug in studio.services.library.names()
    if project.phase(has_talker) != "ready":
        raise HTTPException(409, "The talker is not finished; expected a finished one.")
    await alone(studio, project.free_space)
    return Response(status_code=204)


async def delete(request: Request) -> Response:
    """Remove a project; its talker, if there is one, is removed by its own address."""
    studio, project = studio_of(request), project_of(request)
    await alone(studio, studio.projects.delete, project)
    return Response(status_code=204)


async def report(request: Request) -> Response:
    """The report on the video, for a frame in which nothing may run."""
    path = project_of(request).report
    if not path.is_file():
        raise HTTPException(404, "There is no report yet.")
    headers = {"content-security-policy": REPORT_POLICY, **UNCACHED}
    return FileResponse(path, media_type="text/html; charset=utf-8", headers=headers)


async def picture(request: Request) -> Response:
    """The last evaluation picture of a training."""
    path = project_of(request).train_job.folder / PICTURE_NAME
    content = await asyncio.to_thread(path.read_bytes) if path.is_file() else None
    if content is None:
        raise HTTPException(404, "There is no picture yet.")
    return Response(content, media_type="image/jpeg", headers=UNCACHED)


ROUTES = [
    Route("/api/projects", create, methods=["POST"]),
    Route("/api/projects/{slug}", delete, methods=["DELETE"]),
    Route("/uploads/{slug}", begin_upload, methods=["POST"]),
    Route("/uploads/{slug}", receive_piece, methods=["PUT"]),
    Route("/uploads/{slug}", cancel_upload, methods=["DELETE"]),
    Route("/api/projects/{slug}/finish-upload", finish_upload, methods=["POST"]),
    Route("/api/projects/{slug}/train", train, methods=["POST"]),
    Route("/api/projects/{slug}/stop", stop, methods=["POST"]),
    Route("/api/projects/{slug}/resume", resume, methods=["POST"]),
    Route("/api/projects/{slug}/discard", discard, methods=["POST"]),
    Route("/api/projects/{slug}/free-space", free_space, methods=["POST"]),
    Route("/api/projects/{slug}/report", report, methods=["GET"]),
    Route("/api/projects/{slug}/picture", picture, methods=["GET"]),
]
