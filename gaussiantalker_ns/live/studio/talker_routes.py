"""Addresses of talkers: the list's pictures, downloads, videos, and the events of everything."""

import asyncio
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from gaussiantalker_ns.live.studio.probing import probe_sound
from gaussiantalker_ns.live.studio.project_routes import alone, json_of, studio_of, text_in
from gaussiantalker_ns.live.studio.projects import remove
from gaussiantalker_ns.live.studio.studio import Studio
from gaussiantalker_ns.live.studio.video_upload import refusal
from gaussiantalker_ns.live.studio.videos import AUDIO, SpokenVideo, has_voice, text_to_speak
from gaussiantalker_ns.live.uploads import save_body
from gaussiantalker_ns.live.worker import WorkerDiedError

PROBE_TIMEOUT_S = 60.0
"""How long a worker may look at a recording."""

WATCH_S = 0.5
"""How often the files are looked at while a page watches."""

BEAT_S = 15.0
"""How often a quiet stream of events sends a comment, by which a dead one is noticed."""


async def picture(request: Request) -> Response:
    """What a talker looks like."""
    studio = studio_of(request)
    name = request.path_params["name"]
    studio.talker_path(name)
    try:
        content = await run_in_threadpool(studio.talkers.picture, name)
    except KeyError:
        raise HTTPException(404, "This talker has no picture.") from None
    return Response(content, media_type="image/webp", headers={"cache-control": "no-cache"})


async def download(request: Request) -> Response:
    """A talker file."""
    path = studio_of(request).talker_path(request.path_params["name"])
    if not path.is_file():
        raise HTTPException(404, "This talker is a run's folder; pack it first.")
    return FileResponse(path, media_type="application/octet-stream", filename=path.name)


async def delete(request: Request) -> Response:
    """Remove a talker with its project and its videos."""
    studio = studio_of(request)
    await alone(studio, studio.delete_talker, request.path_params["name"])
    return Response(status_code=204)


async def speak_text(request: Request) -> Response:
    """Have a talker speak a text."""
    studio, name = studio_of(request), request.path_params["name"]
    talker = studio.talker_path(name)
    if not has_voice():
        raise HTTPException(501, "No voice is installed; expected espeak-ng. Give a recording.")
    try:
        text = text_to_speak(text_in(await json_of(request), "text"))
    except ValueError as error:
        raise HTTPException(400, str(error)) from error
    studio.check_space()

    def begin() -> str:
        studio.videos.check_free(name)
        folder = studio.videos.new_folder(name)
        return studio.videos.speak(folder, talker, text, None, text).folder.name

    return JSONResponse({"id": await alone(studio, begin)}, 202)


async def speak_recording(request: Request) -> Response:
    """Have a talker speak a recording, the request's body."""
    studio, name = studio_of(request), request.path_params["name"]
    talker = studio.talker_path(name)
    studio.check_space()
    await alone(studio, studio.videos.check_free, name)
    folder = studio.videos.new_folder(name)
    audio = folder / AUDIO
    try:
        await save_body(request, audio, studio.settings.most_audio_bytes)
        await studio.services.worker.call(
            probe_sound, str(audio), studio.settings.most_audio_s, timeout_s=PROBE_TIMEOUT_S
        )
        title = request.query_params.get("name") or "Recording"

        def begin() -> str:
            studio.videos.check_free(name)
            return studio.videos.speak(folder, talker, title, audio, None).folder.name

        video_id = await alone(studio, begin)
    except BaseException as error:
        remove(folder)
        if isinstance(error, TimeoutError):
            raise HTTPException(408, "The file could not be read in time.") from error
        if isinstance(error, ValueError | MemoryError | WorkerDiedError):
            raise HTTPException(415, refusal(error)) from error
        raise
    return JSONResponse({"id": video_id}, 202)


def video_of(studio: Studio, request: Request) -> SpokenVideo:
    """The video that an address names.

    Raises:
        HTTPException: 404.
    """
    name, video_id = request.path_params["name"], request.path_params["video_id"]
    studio.talker_path(name)
    try:
        return studio.videos.get(name, video_id)
    except KeyError:
        raise HTTPException(404, "There is no such video.") from None


async def video_file(request: Request) -> Response:
    """The mp4 of a video; `?download` has the browser keep it."""
    video = video_of(studio_of(request), request)
    if not video.file.is_file():
        raise HTTPException(404, "The video is not finished.")
    wanted = f"{request.path_params['name']}-{video.folder.name}.mp4"
    name = wanted if "download" in request.query_params else None
    return FileResponse(video.file, media_type="video/mp4", filename=name)


async def delete_video(request: Request) -> Response:
    """Remove a video, ended or not."""
    studio = studio_of(request)
    await alone(studio, studio.videos.delete, video_of(studio, request))
    return Response(status_code=204)


async def resume_video(request: Request) -> Response:
    """Go on with a video that was interrupted."""
    studio = studio_of(request)
    video, talker = video_of(studio, request), studio.talker_path(request.path_params["name"])
    await alone(studio, studio.videos.go_on, video, talker)
    return JSONResponse({}, 202)


async def events(request: Request) -> Response:
    """The state of everything, now and at every change, as server-sent events."""
    studio = studio_of(request)

    async def stream() -> AsyncIterator[str]:
        yield "retry: 1000\n\n"
        shown, quiet_s = "", 0.0
        while not studio.closing.is_set():
            state = await studio.snapshot()
            quiet_s += WATCH_S
            if state != shown:
                yield f"data: {state}\n\n"
                shown, quiet_s = state, 0.0
            elif quiet_s >= BEAT_S:
                yield ": still here\n\n"
                quiet_s = 0.0
            await asyncio.sleep(WATCH_S)

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)


async def state(request: Request) -> Response:
    """The state of everything, once."""
    content = await studio_of(request).snapshot()
    return Response(content, media_type="application/json", headers={"cache-control": "no-store"})


VIDEO = "/api/talkers/{name}/videos/{video_id}"

ROUTES = [
    Route("/api/events", events, methods=["GET"]),
    Route("/api/state", state, methods=["GET"]),
    Route("/api/talkers/{name}", delete, methods=["DELETE"]),
    Route("/api/talkers/{name}/picture", picture, methods=["GET"]),
    Route("/api/talkers/{name}/file", download, methods=["GET"]),
    Route("/api/talkers/{name}/speak-text", speak_text, methods=["POST"]),
    Route("/api/talkers/{name}/speak-recording", speak_recording, methods=["POST"]),
    Route(VIDEO, video_file, methods=["GET"]),
    Route(VIDEO, delete_video, methods=["DELETE"]),
    Route(VIDEO + "/resume", resume_video, methods=["POST"]),
]
