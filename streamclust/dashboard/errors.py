"""Errors of the API, and the reply to each error: a JSON object with a code and a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from streamclust.errors import (
    BusyError,
    ConfigError,
    DamagedVersionError,
    DataError,
    NotPermittedError,
    ServerError,
    ServerUnreachableError,
    StreamclustError,
    UnknownModelError,
)
from streamclust.text import exact_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

RETRY_SECONDS = 2
"""Seconds after which a client should try again, if the server couldn't be reached."""


class ApiError(StreamclustError):
    """Raised when a request can't be answered.

    Parameters
    ----------
    status : int
        Status of HTTP.
    code : str
        Name of the error, for programs.
    message : str
        A sentence for people.
    field : str, optional
        The part of the request that is wrong.
    retry_after : int, optional
        Seconds.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        field: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.field = field
        self.retry_after = retry_after


class Json(Response):
    """A reply of JSON; NaN and infinity become null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the bytes of the body."""
        return exact_json(content).encode()


_STATUS: tuple[tuple[type[Exception], int, str], ...] = (
    (UnknownModelError, 404, "unknown_model"),
    (DamagedVersionError, 409, "damaged_version"),
    (ConfigError, 409, "not_configured"),
    (BusyError, 409, "busy"),
    (DataError, 422, "bad_field"),
    (ServerUnreachableError, 503, "server_unreachable"),
    (NotPermittedError, 503, "not_permitted"),
    (ServerError, 503, "server_refused"),
    (StreamclustError, 409, "failed"),
)
"""The status and the code of each error; the first row that matches is used."""

_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


def error_body(code: str, message: str, field: str | None = None) -> dict[str, Any]:
    """Return the body of a reply to a request that failed."""
    return {"error": {"code": code, "message": message, "field": field}}


def reply(error: StreamclustError) -> Json:
    """Return the reply to an error of streamclust."""
    headers: Mapping[str, str] = {}
    if isinstance(error, ApiError):
        if error.retry_after is not None:
            headers = {"Retry-After": str(error.retry_after)}
        if error.status == 401:
            headers = {"WWW-Authenticate": "Bearer"}
        body = error_body(error.code, str(error), error.field)
        return Json(body, error.status, headers)
    status, code = next(row[1:] for row in _STATUS if isinstance(error, row[0]))
    if status == 503:
        headers = {"Retry-After": str(RETRY_SECONDS)}
    return Json(error_body(code, str(error)), status, headers)


async def on_error(_: Request, error: Exception) -> Response:
    """Reply to an error of streamclust."""
    assert isinstance(error, StreamclustError)  # noqa: S101
    return reply(error)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Reply to an error of the routing: an unknown path or a wrong method."""
    assert isinstance(error, HTTPException)  # noqa: S101
    code = _HTTP_CODES.get(error.status_code, "error")
    text = f"{request.method} {request.url.path}: {error.detail.lower()}"
    return Json(error_body(code, text), error.status_code, error.headers)


async def on_unexpected_error(_: Request, error: Exception) -> Response:
    """Reply to an unexpected error, without its text, which may hold a secret."""
    text = f"unexpected error ({type(error).__name__}); the log of the dashboard has more"
    return Json(error_body("unexpected", text), 500)
