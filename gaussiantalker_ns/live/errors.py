"""Errors as answers: every refusal is JSON with one sentence, and says what to do."""

from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

Handler = Callable[[Request, Exception], Awaitable[Response]]


def refusal(status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An answer that refuses."""
    return JSONResponse({"error": sentence}, status, headers)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for it"
    return refusal(error.status_code, str(error.detail), dict(error.headers or {}))


async def _bad_value(request: Request, error: Exception) -> Response:
    return refusal(400, str(error))


async def _not_found(request: Request, error: Exception) -> Response:
    # A message about a file may hold its path; who asks over the network need not know it.
    return refusal(404, f"There is no such thing here ({type(error).__name__}).")


async def _fault(request: Request, error: Exception) -> Response:
    return refusal(500, "The server has a fault; its log says more.")


def exception_handlers() -> dict[type[Exception] | int, Handler]:
    """What turns errors of handlers into answers, for `Starlette(exception_handlers=...)`."""
    return {
        HTTPException: _http,
        ValueError: _bad_value,
        FileNotFoundError: _not_found,
        KeyError: _not_found,
        Exception: _fault,
    }
