"""The live server's application: pages, interface, sockets, and what is mounted beside them."""

import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from gaussiantalker_ns.live.api import api_routes
from gaussiantalker_ns.live.errors import exception_handlers
from gaussiantalker_ns.live.security import Guard
from gaussiantalker_ns.live.services import Services
from gaussiantalker_ns.live.settings import ServerSettings
from gaussiantalker_ns.live.sockets import socket_routes

STATIC = Path(__file__).parent / "static"

MOST_MESSAGE_BYTES = 4 * 2**20
"""Longest message of a WebSocket."""

SEND_BUFFER_BYTES = 64 * 2**10
"""What the system may hold of what a reader has not taken."""

GRACE_S = 5
"""How long requests may go on when the server is told to end."""

Mounted = Callable[[Services], Starlette]
"""Makes an application that is reached below a path of the server."""


async def _page(request: Request) -> Response:
    return FileResponse(STATIC / "index.html")


def make_app(settings: ServerSettings, mounts: Mapping[str, Mounted] | None = None) -> Starlette:
    """Make the application of a server.

    Args:
        settings: What it is started with.
        mounts: Path -> maker of an application that shares the server, its guard and its life.

    Raises:
        FileNotFoundError, ValueError: A talker that was named cannot be used.
    """
    services = Services.of(settings)
    mounted = {path: make(services) for path, make in (mounts or {}).items()}

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(services.close)
            await services.sessions.warm_up()
            services.sessions.start()
            for inner in mounted.values():
                await stack.enter_async_context(inner.router.lifespan_context(inner))
            yield

    app = Starlette(
        routes=[
            Route("/", _page),
            *api_routes(),
            *socket_routes(),
            Mount("/static", StaticFiles(directory=STATIC)),
            *(Mount(path, inner) for path, inner in mounted.items()),
        ],
        middleware=[Middleware(Guard, settings)],
        exception_handlers=exception_handlers(),
        lifespan=lifespan,
    )
    app.state.services = services
    app.state.pages = list(mounted)
    return app


def bound_socket(settings: ServerSettings) -> socket.socket:
    """Take the address and port of a server.

    Raises:
        ValueError: Somebody else has them, or they are not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        raise ValueError(
            f"Port {settings.port} of {settings.host} cannot be used"
            f" ({error.strerror or error}); expected a free port of this machine. Choose another"
            " --port or --host."
        ) from error
    # Its connections have the same: seconds of an old picture must not wait in the system.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    return listener


def server_config(app: Starlette, settings: ServerSettings) -> uvicorn.Config:
    """How an application is served: quietly, since addresses may hold the token."""
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws_max_size=MOST_MESSAGE_BYTES,
        timeout_graceful_shutdown=GRACE_S,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
