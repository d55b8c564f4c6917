"""The address of a server, and the options of its connections."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis.cluster import REDIS_ALLOWED_KEYS
from redis.connection import parse_url

from streamclust.errors import ConfigError
from streamclust.store.server.url import (
    EMBEDDED,
    OPTIONS,
    TLS_OPTIONS,
    Kind,
    expand,
    fault,
    masked_url,
)
from streamclust.text import decode_text


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
        chosen = {name: self.options[name] for name in TLS_OPTIONS & self.options.keys()}
        return {**chosen, "ssl": True} if "connection_class" in self.options else {}


def read_address(address: Address) -> Endpoint:
    """Return the endpoint of an address other than ``embedded``.

    Raises
    ------
    ConfigError
        If the address is invalid.
    """
    if problem := fault(address.url):
        raise ConfigError(f"redis.url: got {masked_url(address.url)!r}; {problem}")
    scheme = address.url.partition("://")[0]
    route = expand(address.url)
    try:
        parsed: list[dict[str, Any]] = [parse_url(url) for url in route.urls]  # type: ignore[no-untyped-call]
    except ValueError:  # its text may hold a part of the password
        raise ConfigError(
            f"redis.url: got {masked_url(address.url)!r}; an option after ? has a wrong value"
        ) from None
    labels = [_label(*each) for each in zip(route.urls, parsed, strict=True)]
    options = parsed[0]
    if route.kind == "cluster" and options["db"] == 0:
        del options["db"]
    _check_options(scheme, options)
    _read_utf16(options)
    for name in ("username", "password"):
        if getattr(address, name) is not None:
            options.setdefault(name, getattr(address, name))
    if route.kind == "server":
        return Endpoint(labels[0], options)
    hosts = tuple((each["host"], each.get("port", 6379)) for each in parsed)
    for name in ("host", "port"):
        options.pop(name, None)
    login = {"username": address.sentinel_username, "password": address.sentinel_password}
    return Endpoint(
        _label_of_several(scheme, route.service, labels),
        options,
        route.kind,
        hosts,
        route.service,
        {name: value for name, value in login.items() if value is not None},
    )


def _label(url: str, options: Mapping[str, Any]) -> str:
    parts = urlsplit(url)
    database = options.get("db", 0)
    if parts.scheme == "unix":
        return f"unix://{options.get('path', '')} (database {database})"
    host = options.get("host", "localhost")
    return (
        f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{parts.port or 6379}/{database}"
    )


def _label_of_several(scheme: str, service: str, labels: list[str]) -> str:
    """Return a label of several hosts: the URL without user and options."""
    hosts = ",".join(label.partition("://")[2].rpartition("/")[0] for label in labels)
    database = labels[0].rpartition("/")[2]
    return f"{scheme}://{hosts}/{service}/{database}" if service else f"{scheme}://{hosts}"


_CERTIFICATES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def _read_utf16(options: dict[str, Any]) -> None:
    """Decode certificates of authorities in UTF-16, which OpenSSL doesn't read; refuse others."""
    for name in _CERTIFICATES:
        path = Path(options.get(name, ""))
        try:
            data = path.read_bytes() if path.is_file() else b""
        except OSError:
            continue  # the connection reports the file
        if not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            continue
        if name != "ssl_ca_certs":
            raise ConfigError(f"redis.url: {name} is UTF-16 text; save the file as UTF-8")
        del options[name]
        options["ssl_ca_data"] = decode_text(data)


def _check_options(scheme: str, options: Mapping[str, Any]) -> None:
    allowed = OPTIONS | TLS_OPTIONS if scheme.startswith("rediss") else OPTIONS
    if scheme.endswith("+cluster"):  # its nodes have one database, and their own list of options
        allowed &= frozenset(REDIS_ALLOWED_KEYS) - {"db"}
    unknown = sorted(options.keys() - allowed - {"host", "port", "path", "connection_class"})
    if unknown:
        raise ConfigError(
            f"redis.url: {unknown[0]!r} isn't an option of {scheme}://; "
            f"these are: {', '.join(sorted(allowed))}"
        )
