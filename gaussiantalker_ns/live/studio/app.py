"""The studio as an application that the live server mounts at `/studio`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from gaussiantalker_ns.live.errors import exception_handlers
from gaussiantalker_ns.live.studio import project_routes, talker_routes
from gaussiantalker_ns.live.studio.project_routes import studio_of
from gaussiantalker_ns.live.studio.settings import MIB, StudioSettings
from gaussiantalker_ns.live.studio.studio import Studio

if TYPE_CHECKING:
    from gaussiantalker_ns.live.services import Services

STATIC = Path(__file__).parent / "static"


async def page(request: Request) -> Response:
    """The page; everything that changes comes by its events."""
    return FileResponse(STATIC / "studio.html", headers={"cache-control": "no-cache"})


async def choices(request: Request) -> Response:
    """What does not change while the server runs: qualities and bounds."""
    settings = studio_of(request).settings
    return JSONResponse(
        {
            "trainings": [
                {"key": one.key, "title": one.title, "explanation": one.explanation}
                for one in settings.trainings
            ],
            "most_video_bytes": settings.most_video_bytes,
            "most_audio_bytes": settings.most_audio_bytes,
            "piece_bytes": min(settings.most_piece_bytes, 4 * MIB),
            "least_video_s": settings.least_video_s,
            "most_video_s": settings.most_video_s,
        }
    )


def studio_app(services: "Services", settings: StudioSettings | None = None) -> Starlette:
    """The application.

    Args:
        services: The live server's.
        settings: Bounds and commands; by default those that suit this machine.
    """
    studio = Studio(services, settings or StudioSettings())

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await studio.open()
        yield
        studio.close()

    routes = [
        Route("/", page, methods=["GET"]),
        Route("/api/choices", choices, methods=["GET"]),
        *project_routes.ROUTES,
        *talker_routes.ROUTES,
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=exception_handlers())
    app.state.studio = studio
    return app
