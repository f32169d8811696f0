"""`gaussiantalker serve`: a live head for browsers and applications."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.text import Text


@dataclass
class Config:
    """Let a head talk live, in a browser page and for applications (WebRTC, WebSockets)."""

    talker: tuple[Path, ...] = ()
    """Who talks: .talker files or runs; the first one by default. Those of --library, and the
    presenter that comes with the package, can be chosen too."""
    library: Path | None = None
    """Folder of talkers; by default ~/.local/share/gaussiantalker."""
    host: str = "127.0.0.1"
    """Address to listen at. Any but this machine's own needs a token, which is made if none is
    given."""
    port: int = 8000
    """Port to listen at; 0 takes any that is free."""
    token: str | None = None
    """What every request has to bring."""
    allow_host: tuple[str, ...] = ()
    """Further names under which browsers reach the server, such as that of a proxy."""
    tls_cert: Path | None = None
    """Certificate chain (PEM). Browsers give microphones to encrypted pages and to 127.0.0.1."""
    tls_key: Path | None = None
    """Its private key (PEM)."""
    latency: Literal["live", "quality"] = "live"
    """How far the head runs behind the sound: live (0.16 s) or quality (0.84 s)."""
    margin_ms: float = 80.0
    """Time for computing beyond that; slower machines need more."""
    size: int | None = None
    """Side of the pictures in pixels; by default as trained."""
    codec: Literal["vp8", "h264"] = "vp8"
    """Video codec that WebRTC prefers."""
    ice_server: tuple[str, ...] = ()
    """STUN and TURN servers (stun:host:port, turn:host:port), for browsers in other networks."""
    ice_username: str | None = None
    """User of the TURN servers."""
    ice_password: str | None = None
    """Their password."""
    max_sessions: int | None = None
    """Most sessions at a time; by default as many as the processors have time for."""
    visible_mark: bool = True
    """Write a small sign into the pictures that they are synthetic."""


def run(config: Config) -> int:
    """Serve until interrupted.

    Raises:
        ValueError, FileNotFoundError: An option cannot be used.
    """
    import sys

    import uvicorn

    from gaussiantalker_ns.inference.stream.latency import PRESETS
    from gaussiantalker_ns.live.app import bound_socket, make_app, server_config
    from gaussiantalker_ns.live.settings import ServerSettings, default_library, is_loopback
    from gaussiantalker_ns.live.studio.app import studio_app

    is_open = not is_loopback(config.host)
    token = config.token or (secrets.token_urlsafe(24) if is_open else None)
    settings = ServerSettings(
        host=config.host,
        port=config.port,
        token=token,
        allowed_hosts=config.allow_host,
        tls_cert=config.tls_cert,
        tls_key=config.tls_key,
        library=config.library or default_library(),
        talkers=config.talker,
        latency=PRESETS[config.latency],
        margin_ms=config.margin_ms,
        size=config.size,
        codec=config.codec,
        ice_servers=config.ice_server,
        ice_username=config.ice_username,
        ice_password=config.ice_password,
        max_sessions=config.max_sessions,
        visible_mark=config.visible_mark,
    )
    # Threads that render must not keep the one that sends from its turn.
    sys.setswitchinterval(0.001)
    server = uvicorn.Server(server_config(make_app(settings, {"/studio": studio_app}), settings))
    console = Console()
    if is_open and settings.tls_cert is None:
        console.print(
            Text(
                f"{settings.host} is reached by other machines, and nothing is encrypted: token,"
                " sound and pictures can be read on the way. Give --tls-cert and --tls-key, or"
                " stay on 127.0.0.1 behind a proxy or ssh -L.",
                style="yellow",
            )
        )
    with bound_socket(settings) as listener:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"{settings.scheme}://{host}:{listener.getsockname()[1]}/"
        query = f"?token={token}" if token else ""
        console.print(Text(f"Serving at {address}{query}"), soft_wrap=True)
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:  # Sent once more by uvicorn after it has ended in good order.
            console.print("Ended.")
    return 0
