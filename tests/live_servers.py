"""A live server for tests: uvicorn in a thread, at a free port."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import uvicorn

from gaussiantalker_ns.live.app import bound_socket, make_app, server_config
from gaussiantalker_ns.live.settings import ServerSettings


@contextlib.contextmanager
def serving(settings: ServerSettings, mounts=None) -> Iterator[tuple[str, "Services"]]:  # noqa: F821
    """Serve at a free port; gives the address, such as http://127.0.0.1:40123, and the services."""
    app = make_app(settings, mounts)
    listener = bound_socket(replace(settings, port=0))
    server = uvicorn.Server(server_config(app, settings))
    arguments = {"sockets": [listener]}
    thread = threading.Thread(target=server.run, kwargs=arguments, name="test-server", daemon=True)
    thread.start()
    try:
        for _ in range(1200):
            if server.started or not thread.is_alive():
                break
            time.sleep(0.05)
        assert server.started, "the server did not start within a minute"
        port = listener.getsockname()[1]
        yield f"{settings.scheme}://127.0.0.1:{port}", app.state.services
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
        assert not thread.is_alive(), "the server did not end"
