"""A server with the studio alone, whose commands are stand-ins: `studio_server.py FOLDER PORT`."""

import sys
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import studio_commands

TITLE = "Short"


def main(folder: str, port: str) -> None:
    # Here, because worker processes import this module again.
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.staticfiles import StaticFiles

    from gaussiantalker_ns.live.app import STATIC, bound_socket, server_config
    from gaussiantalker_ns.live.library import TalkerLibrary
    from gaussiantalker_ns.live.security import Guard
    from gaussiantalker_ns.live.settings import ServerSettings
    from gaussiantalker_ns.live.studio.app import studio_app
    from gaussiantalker_ns.live.studio.settings import StudioSettings, Training
    from gaussiantalker_ns.live.worker import WorkerProcesses

    settings = ServerSettings(library=Path(folder), port=int(port))
    services = SimpleNamespace(library=TalkerLibrary(Path(folder)), worker=WorkerProcesses())
    fake = (sys.executable, studio_commands.__file__)
    training = Training("short", TITLE, "A few steps.", "gaussiantalker-cpu", 30, 10)
    bounds = StudioSettings(
        trainings=(training,),
        gaussiantalker=(*fake, "gaussiantalker"),
        ns_train=(*fake, "ns-train"),
        least_video_s=1.0,
        spare_bytes=0,
    )
    studio = studio_app(services, bounds)

    @asynccontextmanager
    async def lifespan(app):
        async with studio.router.lifespan_context(studio):
            yield

    routes = [Mount("/studio", studio), Mount("/static", StaticFiles(directory=STATIC))]
    app = Guard(Starlette(routes=routes, lifespan=lifespan), settings)
    with bound_socket(settings) as listener:
        uvicorn.Server(server_config(app, settings)).run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
