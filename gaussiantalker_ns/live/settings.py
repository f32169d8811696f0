"""Settings of the live server: where it listens, who may use it, and what it may cost."""

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from gaussiantalker_ns.inference.stream.latency import LIVE, LatencyConfig

VideoCodec = Literal["vp8", "h264"]

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")
"""Names of this machine for itself."""

ANY_ADDRESS = ("0.0.0.0", "::", "")
"""Hosts that stand for all addresses of this machine."""

MEBIBYTE = 2**20


def default_library() -> Path:
    """The user's folder of talkers."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "gaussiantalker"


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    if host in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class ServerSettings:
    """What a server is started with."""

    host: str = "127.0.0.1"
    """Address to listen at."""
    port: int = 8000
    """Port to listen at, 0 to 65535; 0 takes any that is free."""
    token: str | None = field(default=None, repr=False)
    """What every request has to bring; None serves this machine alone, without a token."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names under which browsers reach the server, such as that of a proxy."""
    tls_cert: Path | None = None
    """Certificate chain (PEM); None serves without encryption."""
    tls_key: Path | None = None
    """Its private key (PEM)."""
    library: Path = field(default_factory=default_library)
    """Folder of talkers (`*.talker`)."""
    talkers: tuple[Path, ...] = ()
    """Further talkers, files or runs; the first one speaks by default."""
    latency: LatencyConfig = LIVE
    """How far sessions run behind their sound."""
    margin_ms: float = 80.0
    """Time for computing that sound and picture wait beyond that, 20 to 1000 ms."""
    size: int | None = None
    """Side of the pictures in pixels; None as trained."""
    codec: VideoCodec = "vp8"
    """Video codec that WebRTC prefers."""
    ice_servers: tuple[str, ...] = ()
    """STUN and TURN servers (`stun:host:port`, `turn:host:port`) for browsers behind networks."""
    ice_username: str | None = None
    """User of the TURN servers."""
    ice_password: str | None = field(default=None, repr=False)
    """Password of the TURN servers; the page is given it."""
    max_sessions: int | None = None
    """Most sessions at a time; None goes by their measured cost."""
    idle_timeout_s: float = 60.0
    """A session that nobody listens to is closed after so long, > 0."""
    visible_mark: bool = True
    """Whether pictures carry a small sign that they are synthetic."""
    max_body_bytes: int = 64 * MEBIBYTE
    """Longest body of a request."""
    max_video_bytes: int = 4096 * MEBIBYTE
    """Longest upload of a video below `/studio/uploads`."""
    upload_timeout_s: float = 600.0
    """Longest time for which a body may be on its way, > 0."""

    def __post_init__(self) -> None:
        if not is_loopback(self.host) and not self.token:
            raise ValueError(
                f"The host is {self.host!r}, which other machines reach, and there is no token;"
                " expected one, so that not everybody may use the talkers. Give --token."
            )
        if not 0 <= self.port <= 65535:
            raise ValueError(f"--port is {self.port}; expected 0 to 65535.")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError(
                f"--tls-cert is {self.tls_cert} and --tls-key is {self.tls_key}; expected both, a"
                " certificate with its key, or neither."
            )
        for path in (self.tls_cert, self.tls_key):
            if path is not None and not path.is_file():
                raise FileNotFoundError(
                    f"No file at {path}; expected a PEM file. Check --tls-cert and --tls-key."
                )
        if not 20 <= self.margin_ms <= 1000:
            raise ValueError(f"margin_ms is {self.margin_ms}; expected 20 to 1000 ms.")
        if self.codec not in get_args(VideoCodec):
            raise ValueError(f"--codec is {self.codec!r}; expected vp8 or h264.")
        if self.max_sessions is not None and self.max_sessions < 1:
            raise ValueError(f"--max-sessions is {self.max_sessions}; expected 1 or more.")

    @property
    def scheme(self) -> str:
        """How browsers reach the server."""
        return "http" if self.tls_cert is None else "https"

    @property
    def host_names(self) -> tuple[str, ...] | None:
        """Names that a request's Host may have; None leaves that to the token."""
        if self.host in ANY_ADDRESS and not self.allowed_hosts:
            return None
        own = LOOPBACK_NAMES if is_loopback(self.host) or self.host in ANY_ADDRESS else ()
        return (*own, self.host, *self.allowed_hosts)
