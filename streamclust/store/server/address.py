"""The address of a server, and the options of its connections."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis.cluster import REDIS_ALLOWED_KEYS
from redis.connection import parse_url

from streamclust.errors import ConfigError
from streamclust.store.server.url import Kind, expand

EMBEDDED = "embedded"

_SHAPES = {
    "sentinel": "redis+sentinel://host:26379,host:26379/service/0",
    "cluster": "redis+cluster://host:6379,host:6379",
}
_SCHEMES = (
    "redis",
    "rediss",
    "unix",
    *(f"{s}+{kind}" for s in ("redis", "rediss") for kind in _SHAPES),
)
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


@dataclass(frozen=True)
class Address:
    """Address of a server. A user name or password in the URL takes precedence."""

    url: str = field(default=EMBEDDED, repr=False)  # it may contain a password
    data_dir: Path = Path(".streamclust")
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Endpoint:
    """Address and options of connections.

    Parameters
    ----------
    label : str
        Name of the server for messages and logs, without a password.
    kind : 'server', 'sentinel' or 'cluster'
    options : dict
        Options of redis-py's connections to the server.
    hosts : tuple of (str, int)
        The sentinels, or the first nodes of a cluster; empty for one server, which is in `options`.
    service : str
        Name of the primary at the sentinels.
    login : dict
        User and password for the sentinels.
    """

    label: str
    options: Mapping[str, Any] = field(repr=False)
    kind: Kind = "server"
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""
    login: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def tls(self) -> dict[str, Any]:
        """Options of TLS, also for sentinels; empty without TLS."""
        chosen = {name: self.options[name] for name in _TLS_OPTIONS & self.options.keys()}
        return {**chosen, "ssl": True} if "connection_class" in self.options else {}


def read_address(address: Address) -> Endpoint:
    """Return the endpoint of an address other than ``embedded``.

    Raises
    ------
    ConfigError
        If the address is invalid.
    """
    scheme = address.url.partition("://")[0]
    if scheme not in _SCHEMES:
        raise ConfigError(f"redis.url: {_masked(address.url)!r} can't be used; give {_ALLOWED}")
    try:
        route = expand(address.url)
        parsed: list[dict[str, Any]] = [parse_url(url) for url in route.urls]  # type: ignore[no-untyped-call]
        labels = [_label(*each) for each in zip(route.urls, parsed, strict=True)]
    except ValueError:
        # The text of the error may hold a part of the password.
        shape = _SHAPES.get(scheme.partition("+")[2])
        raise ConfigError(
            f"redis.url: '{scheme}://…' can't be read; give {shape or _ALLOWED}, and write special "
            "characters of a password as %XX or set redis.password"
        ) from None
    options = parsed[0]
    if route.kind == "cluster" and options["db"] == 0:
        del options["db"]
    _check_options(scheme, options)
    for name in ("username", "password"):
        if getattr(address, name) is not None:
            options.setdefault(name, getattr(address, name))
    if route.kind == "server":
        return Endpoint(labels[0], options)
    hosts = tuple((each["host"], each.get("port", 6379)) for each in parsed)
    for name in ("host", "port"):
        options.pop(name, None)
    return Endpoint(
        _label_of_several(scheme, route.service, labels),
        options,
        route.kind,
        hosts,
        route.service,
        _sentinel_login(address),
    )


def _sentinel_login(address: Address) -> dict[str, str]:
    login = {"username": address.sentinel_username, "password": address.sentinel_password}
    return {name: value for name, value in login.items() if value is not None}


def _masked(url: str) -> str:
    """Remove possible secrets: the text between the scheme and the last @, and the query."""
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


def _label_of_several(scheme: str, service: str, labels: list[str]) -> str:
    """Return a label of several hosts: the URL without user and options."""
    hosts = ",".join(label.partition("://")[2].rpartition("/")[0] for label in labels)
    database = labels[0].rpartition("/")[2]
    return f"{scheme}://{hosts}/{service}/{database}" if service else f"{scheme}://{hosts}"


def _check_options(scheme: str, options: Mapping[str, Any]) -> None:
    allowed = _OPTIONS | _TLS_OPTIONS if scheme.startswith("rediss") else _OPTIONS
    if scheme.endswith("+cluster"):  # its nodes have one database, and their own list of options
        allowed &= frozenset(REDIS_ALLOWED_KEYS) - {"db"}
    unknown = sorted(options.keys() - allowed - {"host", "port", "path", "connection_class"})
    if unknown:
        raise ConfigError(
            f"redis.url: {unknown[0]!r} isn't an option of {scheme}://; "
            f"these are: {', '.join(sorted(allowed))}"
        )
