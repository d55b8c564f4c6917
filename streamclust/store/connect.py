"""The way to a server: the user's own (Redis or Valkey), or the embedded one.

What goes wrong at the server becomes an error of ``streamclust.errors`` here: one line that says
what to do, and never a secret.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit
from weakref import WeakSet

import redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool, parse_url
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from streamclust.errors import ConfigError, ServerError, ServerUnreachableError, StreamclustError
from streamclust.store.embedded import EmbeddedServer

EMBEDDED = "embedded"

_SCHEMES = ("redis", "rediss", "unix")
_TLS_OPTIONS = frozenset(
    {
        "ssl_ca_certs",
        "ssl_ca_data",
        "ssl_ca_path",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_ciphers",
        "ssl_keyfile",
        "ssl_min_version",
        "ssl_password",
    }
)
_OPTIONS = frozenset(
    {"db", "health_check_interval", "max_connections", "password", "socket_keepalive", "username"}
)
_ALLOWED = "'embedded' or an address such as redis://host:6379/0, rediss://… (TLS), unix:///path"

PASSING = (redis.ConnectionError, redis.TimeoutError)
"""Faults that may pass: the server is away, restarts, or loads its data."""


@dataclass(frozen=True)
class Address:
    """Which server to use. A user name or password in the URL goes before the one here."""

    url: str = field(default=EMBEDDED, repr=False)  # it may hold a password
    data_dir: Path = Path(".streamclust")
    username: str | None = None
    password: str | None = field(default=None, repr=False)


class Server:
    """A server to work with; a context manager that closes its clients and leaves the server.

    Attributes
    ----------
    label : str
        The server's name for people and logs; never with a password.
    """

    def __init__(
        self, label: str, options: Mapping[str, Any], embedded: EmbeddedServer | None = None
    ) -> None:
        self.label = label
        self._options = dict(options)
        self._embedded = embedded
        self._clients: WeakSet[redis.Redis] = WeakSet()

    def client(self, *, timeout: float = 10.0) -> redis.Redis:
        """Make a client with connections of its own; threads may share it.

        A blocking command must ask for less than ``timeout`` seconds. Nothing is sent twice: who
        calls decides what may be repeated.
        """
        client = redis.Redis.from_pool(
            ConnectionPool(
                **self._options,
                protocol=2,  # the one that all servers and versions of redis-py speak alike
                retry=Retry(NoBackoff(), 0),
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                client_name="streamclust",
            )
        )
        self._clients.add(client)
        return client

    def close(self) -> None:
        """Close all clients and leave the embedded server. Closing twice is harmless."""
        for client in list(self._clients):
            client.close()
        if self._embedded is not None:
            self._embedded.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def open_server(address: Address) -> Server:
    """Start or share the embedded server, or find the user's own with one PING.

    Raises
    ------
    ConfigError
        If the address can't be used.
    ServerError
        If the server refuses, or can't be reached (``ServerUnreachableError``).
    """
    if address.url == EMBEDDED:
        return _open_embedded(address.data_dir)
    server = Server(*_read_url(address))
    with server.client() as client, translate(server.label):
        client.ping()
    return server


def _open_embedded(data_dir: Path) -> Server:
    embedded = EmbeddedServer.acquire(data_dir)
    options = {"host": embedded.host, "port": embedded.port, "password": embedded.password}
    return Server(f"embedded ({embedded.data_dir})", options, embedded)


def _read_url(address: Address) -> tuple[str, dict[str, Any]]:
    """Return the label and the options of a connection."""
    scheme = address.url.partition("://")[0]
    if scheme not in _SCHEMES:
        raise ConfigError(f"redis.url: {_masked(address.url)!r} can't be used; give {_ALLOWED}")
    try:
        options: dict[str, Any] = parse_url(address.url)  # type: ignore[no-untyped-call]
        label = _label(address.url, options)
    except ValueError:
        # The text of the error may hold a part of the password.
        raise ConfigError(
            f"redis.url: '{scheme}://…' can't be read; give {_ALLOWED}, and write special "
            "characters of a password as %XX or set redis.password"
        ) from None
    _check_options(scheme, options)
    for name in ("username", "password"):
        if getattr(address, name) is not None:
            options.setdefault(name, getattr(address, name))
    return label, options


def _masked(url: str) -> str:
    """Leave out what may be a secret: all between the scheme and the last @, and the query."""
    return re.sub(r"^([\w+.-]+://)?.*@", r"\1***@", url, flags=re.DOTALL).partition("?")[0]


def _label(url: str, options: Mapping[str, Any]) -> str:
    parts = urlsplit(url)
    database = options.get("db", 0)
    if parts.scheme == "unix":
        return f"unix://{options.get('path', '')} (database {database})"
    if not re.fullmatch(r"/?\d*", parts.path):
        raise ValueError("the path isn't the number of a database")
    host = options.get("host", "localhost")
    return (
        f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{parts.port or 6379}/{database}"
    )


def _check_options(scheme: str, options: Mapping[str, Any]) -> None:
    allowed = _OPTIONS | _TLS_OPTIONS if scheme == "rediss" else _OPTIONS
    unknown = sorted(options.keys() - allowed - {"host", "port", "path", "connection_class"})
    if unknown:
        raise ConfigError(
            f"redis.url: {unknown[0]!r} isn't an option of {scheme}://; "
            f"these are: {', '.join(sorted(allowed))}"
        )


@contextmanager
def translate(label: str) -> Iterator[None]:
    """Turn what redis-py raises inside into an error of streamclust."""
    try:
        yield
    except redis.RedisError as error:
        raise translated(error, label) from error


def translated(error: redis.RedisError, label: str) -> StreamclustError:
    """Say in one line what went wrong at the server called ``label``, and what to do."""
    reason = _reason(error)
    for kind, words, result, template in _TEXTS:
        if isinstance(error, kind) and words in reason:
            return result(template.format(label=label, reason=reason))
    return ServerError(f"{label} answered: {reason}")


# The first row that fits is taken: the class of the error, and words in its text.
_TEXTS: tuple[tuple[type[redis.RedisError], str, type[StreamclustError], str], ...] = (
    (
        redis.AuthenticationError,
        "",
        ServerError,
        "{label} refused the login: {reason}; mend redis.username and redis.password "
        "(in the environment: STREAMCLUST_REDIS__USERNAME, STREAMCLUST_REDIS__PASSWORD)",
    ),
    (
        NoPermissionError,
        "",
        ServerError,
        "{label} doesn't permit this: {reason}; give that user the right, "
        "or name another one in redis.username",
    ),
    (
        redis.BusyLoadingError,
        "",
        ServerUnreachableError,
        "{label} still loads its data; try again when it has",
    ),
    (
        redis.ConnectionError,
        "max number of clients",
        ServerUnreachableError,
        "{label} takes no more connections: {reason}; raise its maxclients",
    ),
    (
        redis.ConnectionError,
        "[SSL",
        ServerUnreachableError,
        "can't speak TLS with {label}: {reason}; "
        "mend the scheme and the ssl_… options of redis.url",
    ),
    (
        redis.ConnectionError,
        "",
        ServerUnreachableError,
        "can't reach {label}: {reason}; is the server running, and is redis.url right?",
    ),
    (
        redis.TimeoutError,
        "",
        ServerUnreachableError,
        "can't reach {label}: {reason}; is the server running, and is redis.url right?",
    ),
    (
        redis.ResponseError,
        "WRONGTYPE",
        ServerError,
        "{label} answered: {reason}; does another program use the same key?",
    ),
)


def _reason(error: redis.RedisError) -> str:
    """Return the system's or the server's own words, without the command that they answer."""
    cause = error.__context__
    if isinstance(error, redis.TimeoutError):
        return "no answer in time"
    if isinstance(cause, ssl.SSLError):
        return re.sub(r" \(_ssl\.c:\d+\)$", "", cause.strerror or str(cause))
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    text = re.sub(r"^Command # \d+ \(.*\) of pipeline caused error: ", "", str(error), flags=re.S)
    return " ".join(text.split())[:300]
