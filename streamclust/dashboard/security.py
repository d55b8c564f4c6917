"""The rights of the page in a browser, the allowed hosts, and the token for changes of models."""

from __future__ import annotations

import hmac
import ipaddress
import re
import time
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect

from streamclust.dashboard.errors import ApiError, reply
from streamclust.dashboard.rate_limit import REQUESTS_PER_MINUTE, RateLimit

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from structlog.typing import FilteringBoundLogger

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "font-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
"""Headers of every reply."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    """Return whether an address to listen on can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def allowed_hosts(host: str, names: Collection[str]) -> frozenset[str]:
    """Return the names of hosts that requests may have; empty allows every name.

    A page of another site can't read a server on the loopback address, except if the name of that
    site resolves to 127.0.0.1 (DNS rebinding). Then the request has the name of the site.
    """
    if not is_loopback(host):
        return frozenset(name.lower() for name in names)
    return frozenset({*_LOOPBACK, host.strip("[]").lower(), *(name.lower() for name in names)})


class Guard:
    """Checks the host of each request and its rate, and adds `HEADERS` to each reply.

    Parameters
    ----------
    app : ASGI application
    hosts : collection of str
        Allowed hosts; empty allows all.
    log : structlog logger
        Log for unexpected errors.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], log: FilteringBoundLogger) -> None:
        self._app = app
        self._log = log
        self._hosts = hosts
        self._requests = RateLimit(REQUESTS_PER_MINUTE)
        self._headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the application, if its host is allowed and its client may send it."""
        if scope["type"] != "http":
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message["headers"])
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*headers, *self._headers]}
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, guarded)
        except ApiError as error:
            await reply(error)(scope, receive, guarded)
        except ClientDisconnect:  # the visitor has left
            pass
        except Exception:  # the reply is sent; the server must not log it a second time
            self._log.exception("dashboard_failed", method=scope["method"], path=scope["path"])

    def _check(self, scope: Scope) -> None:
        """Refuse a request for another host, or from a client that sends too many requests.

        Raises
        ------
        ApiError
        """
        host = _host(scope)
        if self._hosts and host not in self._hosts:
            raise ApiError(
                403,
                "host_not_allowed",
                f"the request names the host {host!r}; allowed are "
                f"{', '.join(sorted(self._hosts))}. `streamclust dashboard --allow-host NAME` "
                "allows another one",
            )
        if scope["path"].startswith("/api/"):
            client = scope["client"][0] if scope["client"] else ""
            self._requests.check(client, time.monotonic())


def _host(scope: Scope) -> str:
    """Return the host of a request without its port, in lowercase; empty without the header."""
    values = [value for name, value in scope["headers"] if name == b"host"]
    text: str = values[0].decode("latin-1").lower() if len(values) == 1 else ""
    found = re.fullmatch(r"\[([0-9a-f:.]+)\](?::\d+)?|([^:\[\]]*)(?::\d+)?", text)
    return "" if found is None else found[1] or found[2] or ""


def check_token(request: Request, token: str | None) -> None:
    """Refuse a request that may not change models.

    Parameters
    ----------
    request : Request
    token : str or None
        None if actions are off.

    Raises
    ------
    ApiError
        If actions are off, or the request doesn't have the token.
    """
    if token is None:
        raise ApiError(
            403,
            "actions_off",
            "actions are off; start the dashboard with --allow-actions to change models",
        )
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(
        given.strip().encode(), token.encode()
    ):
        raise ApiError(
            401,
            "token_needed",
            "this action needs the token: send the header `Authorization: Bearer TOKEN`",
        )


def is_json(headers: Any) -> bool:
    """Return whether a request says that its body is JSON.

    A page of another site can't send this content type without asking first (CORS), and this
    server permits no other site.
    """
    kind: str = headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower() == "application/json"
