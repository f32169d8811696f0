"""Guard of the whole server: hosts, origins, the token, sizes of bodies, headers of answers.

A page on the internet can make a visitor's browser send requests to this machine. So a request must
name this server as its host (DNS rebinding), come from the server's own pages if a browser sends it
(cross-site requests and WebSockets), and bring the token where there is one.
"""

import asyncio
import secrets
import time
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gaussiantalker_ns.live.errors import refusal
from gaussiantalker_ns.live.settings import ServerSettings

COOKIE = "gaussiantalker_token"

OPEN_PATHS = ("/health",)
"""What answers without the token."""

VIDEO_PATHS = "/studio/uploads"
"""Below it bodies may be as long as videos."""

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob: mediastream:;"
    " connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'self'"
)

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(self), geolocation=()",
}
"""Added to every answer that has no such header of its own."""

REFUSED_SOCKET = 1008
"""WebSocket close code: policy violation."""


class Refused(Exception):  # noqa: N818 - an answer rather than an error.
    """A request that does not pass."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


def same_text(given: str, expected: str) -> bool:
    """Compare secrets in a time that says nothing about where they differ."""
    return secrets.compare_digest(given.encode(), expected.encode())


def given_token(scope: Scope) -> str | None:
    """The token that a request brings: as a bearer, in the cookie, or in the query."""
    headers = Headers(scope=scope)
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return bearer.strip()
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        cookie = None
    in_query = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
    if in_query:
        return in_query[0]
    return None if cookie is None else cookie.value


def host_name(host: str) -> str:
    """A Host without its port. Example: "[::1]:8000" gives "::1"."""
    return (urlsplit(f"//{host}").hostname or "").rstrip(".")


class Guard:
    """ASGI middleware that lets through what may be answered."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request or a WebSocket, then hand it on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        is_http = scope["type"] == "http"
        send = _with_headers(send) if is_http else send
        try:
            self._check_origin(scope)
            self._check_token(scope)
            if is_http:
                self._check_length(scope)
        except Refused as refused:
            await _refuse(scope, receive, send, refused)
            return
        entered = self._entered(scope) if is_http else None
        if entered is not None:
            await entered(scope, receive, send)
        else:
            await self._app(scope, self._bounded(scope, receive) if is_http else receive, send)

    def _check_origin(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        names = self._settings.host_names
        try:
            name = host_name(host)
        except ValueError:
            name = ""
        if names is not None and name not in names:
            raise Refused(
                421,
                f"The request is for the host {host[:100]!r}; expected one of {', '.join(names)}."
                " Name it with --allow-host if this server is reached that way.",
            )
        origin = headers.get("origin")
        if origin is None or (scope["type"] == "http" and scope["method"] in ("GET", "HEAD")):
            return
        if urlsplit(origin).netloc != host:
            raise Refused(
                403, f"The request comes from a page of {origin[:100]!r}; expected this server's."
            )

    def _check_token(self, scope: Scope) -> None:
        token = self._settings.token
        if token is None or scope["path"] in OPEN_PATHS:
            return
        given = given_token(scope)
        if given is None or not same_text(given, token):
            what = "no token" if given is None else "a wrong token"
            raise Refused(
                401,
                f"The request brings {what}; expected the one that the server printed at its"
                " start. Send it as `Authorization: Bearer TOKEN`, or open the page with"
                " ?token=TOKEN.",
            )

    def _entered(self, scope: Scope) -> Response | None:
        """For a page that is opened with the token: keep it in a cookie, out of the address."""
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        wants_page = "text/html" in Headers(scope=scope).get("accept", "")
        token = self._settings.token
        if token is None or "token" not in query or scope["method"] != "GET" or not wants_page:
            return None
        del query["token"]
        rest = urlencode(query, doseq=True)
        # Two slashes would name another host.
        place = "/" + scope["path"].lstrip("/\\")
        answer = RedirectResponse(place + (f"?{rest}" if rest else ""), 303)
        secure = self._settings.scheme == "https"
        answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=secure)
        return answer

    def _most_bytes(self, scope: Scope) -> int:
        is_video = scope["path"].startswith(VIDEO_PATHS)
        return self._settings.max_video_bytes if is_video else self._settings.max_body_bytes

    def _check_length(self, scope: Scope) -> None:
        stated = Headers(scope=scope).get("content-length", "")
        most = self._most_bytes(scope)
        if stated.isdigit() and int(stated) > most:
            raise Refused(413, _too_long(most))

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """A `receive` that stops at too long a body, or one that is too long on its way."""
        most, timeout_s = self._most_bytes(scope), self._settings.upload_timeout_s
        ends = time.monotonic() + timeout_s
        length, whole = 0, False

        async def bounded() -> Message:
            nonlocal length, whole
            if whole:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(ends - time.monotonic(), 0.001))
            except asyncio.TimeoutError as error:
                raise HTTPException(
                    408, f"The body took longer than {timeout_s:.0f} s; send it faster or shorter."
                ) from error
            length += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if length > most:
                raise HTTPException(413, _too_long(most))
            return message

        return bounded


def _too_long(most: int) -> str:
    return f"The body is longer than {most >> 20} MiB; send a shorter one, or in parts."


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending


async def _refuse(scope: Scope, receive: Receive, send: Send, refused: Refused) -> None:
    if scope["type"] == "http":
        await refusal(refused.status, refused.sentence)(scope, receive, send)
    elif "websocket.http.response" in scope.get("extensions", {}):
        answer = refusal(refused.status, refused.sentence)
        await send(
            {
                "type": "websocket.http.response.start",
                "status": refused.status,
                "headers": answer.raw_headers,
            }
        )
        await send({"type": "websocket.http.response.body", "body": bytes(answer.body)})
    else:
        await send({"type": "websocket.close", "code": REFUSED_SOCKET, "reason": "refused"})
