"""URLs of servers, including URLs of several hosts: their parts, and what is wrong with them.

``redis+sentinel://host,host/service/db`` and ``redis+cluster://host,host`` are the forms of other
Redis clients too; ``rediss+…`` uses TLS. Such a URL is expanded to one plain URL per host.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from streamclust.text import has_control

Kind = Literal["server", "sentinel", "cluster"]

EMBEDDED = "embedded"
URL_WORDS = (
    "embedded, or a URL that begins with redis://, rediss://, unix://, redis+sentinel:// or "
    "redis+cluster://"
)
TLS_OPTIONS = frozenset(
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
OPTIONS = frozenset(
    {"db", "health_check_interval", "max_connections", "password", "socket_keepalive", "username"}
)
SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)

_SEVERAL = re.compile(
    r"(?P<scheme>rediss?)\+(?P<kind>sentinel|cluster)://"
    r"(?:(?P<user>[^/?#]*)@)?(?P<hosts>[^/?#@,]+(?:,[^/?#@,]+)*)"
    r"(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?"
)
_PATHS = {
    "sentinel": re.compile(r"/(?P<service>[\w.-]+)(?:/(?P<db>\d*))?"),
    "cluster": re.compile(r"/?(?P<service>)(?P<db>0?)"),
}
_SENTINEL_PORT = 26379


@dataclass(frozen=True)
class Route:
    """The hosts of a URL.

    Parameters
    ----------
    kind : 'server', 'sentinel' or 'cluster'
    urls : tuple of str
        One plain URL per host, all with the same user, database and options.
    service : str
        Name of the primary at the sentinels; else empty.
    """

    kind: Kind
    urls: tuple[str, ...] = field(repr=False)  # they may contain a password
    service: str = ""


def expand(url: str) -> Route:
    """Return the hosts of `url`. A plain URL is returned unchanged and unchecked.

    Raises
    ------
    ValueError
        If a URL of several hosts has a wrong form.
    """
    if not re.match(r"[a-z]+\+", url):
        return Route("server", (url,))
    match = _SEVERAL.fullmatch(url)
    path = match and _PATHS[match["kind"]].fullmatch(match["path"] or "")
    if match is None or path is None:
        raise ValueError("expected sentinels with a service, or nodes of a cluster")
    user = f"{match['user']}@" if match["user"] else ""
    rest = f"/{path['db'] or 0}{match['query'] or ''}"
    kind: Kind = "sentinel" if match["kind"] == "sentinel" else "cluster"
    hosts = (_with_port(host, kind) for host in match["hosts"].split(","))
    urls = tuple(f"{match['scheme']}://{user}{host}{rest}" for host in hosts)
    return Route(kind, urls, path["service"])


def _with_port(host: str, kind: Kind) -> str:
    named = re.search(r":\d+$", host.rpartition("]")[2]) is not None
    return host if named or kind == "cluster" else f"{host}:{_SENTINEL_PORT}"


_URL = re.compile(
    r"(?P<scheme>[A-Za-z][\w+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)"
    r"(?:\?(?P<query>[^#]*))?(?P<fragment>#.*)?",
    re.DOTALL,
)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::(?P<port>\d+))?")
_LOGIN = ("username", "password")
_SPECIAL = (
    "special characters of a user name or password must be percent-encoded: @ as %40, : as %3A, "
    "/ as %2F, ? as %3F, # as %23, % as %25, & as %26, [ as %5B, ] as %5D; or set redis.password "
    "or redis.password_file instead"
)


def fault(url: str) -> str:
    """Return what is wrong with the URL of a server and what to write, or "".

    The text shows no part of the URL that may be a secret.
    """
    parts = _URL.fullmatch(url)
    if parts is None or parts["scheme"] not in SCHEMES:
        return _fault_of_scheme(url, parts["scheme"] if parts else "")
    login, at, hosts = parts["authority"].rpartition("@")
    if has_control(url):
        return "the URL has a control character; remove it"
    if _has_special(parts, login, at):
        return _SPECIAL
    if parts["scheme"] == "unix":
        return "" if parts["path"].strip("/") and not hosts else f"write {_EXAMPLES['unix']}"
    kind = parts["scheme"].partition("+")[2] or "redis"
    faults = (_fault_of_host(host, _EXAMPLES[kind]) for host in hosts.split(","))
    return next(filter(None, faults), "") or _fault_of_path(parts, kind)


_EXAMPLES = {
    "redis": "redis://localhost:6379/0",
    "unix": "unix:///run/valkey.sock",
    "sentinel": "redis+sentinel://host:26379,host:26379/service/0",
    "cluster": "redis+cluster://host:6379,host:6379",
}


def _fault_of_scheme(url: str, scheme: str) -> str:
    hint = ""
    if get_close_matches(url.lower(), [EMBEDDED], cutoff=0.7):
        hint = f"; did you mean {EMBEDDED}?"
    elif not scheme and re.fullmatch(rf"{_HOST.pattern}(/\d*)?", url):
        hint = f"; write redis://{url}"
    elif scheme.lower() in SCHEMES:
        hint = f"; write {scheme.lower()}:// in lowercase"
    elif scheme.lower() in ("valkey", "valkeys"):
        hint = f"; write redis{scheme.lower()[6:]}:// for Valkey too"
    return f"expected {URL_WORDS}{hint}"


def _has_special(parts: re.Match[str], login: str, at: str) -> bool:
    """Return whether a character of the login has ended a part of the URL too early."""
    options = (parts["query"] or "").split("&") if parts["query"] else []
    names = [option.partition("=")[0] for option in options]
    cut = parts["fragment"] or any("=" not in option for option in options)
    if parts["scheme"] != "unix" and "@" in parts["path"]:
        return True
    if not at and "@" in (parts["query"] or "") and not set(names) <= OPTIONS | TLS_OPTIONS:
        return True
    if set(names) & set(_LOGIN) and not set(names) <= OPTIONS | TLS_OPTIONS:
        return True
    return bool(cut or re.search(r"[][]", login))


def _fault_of_host(host: str, example: str) -> str:
    found = _HOST.fullmatch(host)
    if re.fullmatch(r"[0-9A-Fa-f]*(:[0-9A-Fa-f]*){2,}", host):
        return "an IPv6 address needs brackets, as in redis://[::1]:6379"
    if found is None:
        reason = "can't be read" if host else "is missing"
        return f"a host or its port {reason}; write {example}"
    port = found["port"]
    if port is not None and not 1 <= int(port) <= 65535:
        return f"the port is {port}; expected a number from 1 to 65535"
    return ""


def _fault_of_path(parts: re.Match[str], kind: str) -> str:
    if kind in _PATHS and _PATHS[kind].fullmatch(parts["path"]):
        return ""
    if kind in _PATHS:
        reason = "a cluster has no databases" if kind == "cluster" else "expected one service"
        return f"{reason}; write {_EXAMPLES[kind]}"
    if "," in parts["authority"].rpartition("@")[2]:
        return (
            f"more than one host; write {_EXAMPLES['cluster']} for a cluster, or "
            f"{_EXAMPLES['sentinel']} for sentinels"
        )
    if re.fullmatch(r"/?|/\d+", parts["path"]):
        return ""
    return f"the path isn't the number of a database; write {_EXAMPLES[kind]}"


def masked_url(url: str) -> str:
    """Return the URL of a server for a message: without login and options, and masked if unclear.

    Examples
    --------
    >>> masked_url("redis://ann:secret@host:6379/0?db=1"), masked_url("redis://ann:sec/ret@host")
    ('redis://***@host:6379/0', 'redis://***')
    """
    parts = _URL.fullmatch(url)
    if parts is None:
        plain = _HOST.fullmatch(url.partition("/")[0])
        return url if not url or (plain and re.fullmatch(r"[^/]+(/\d*)?", url)) else "***"
    _, at, hosts = parts["authority"].rpartition("@")
    path = parts["path"]
    if parts["scheme"] == "unix" and not hosts and "@" not in path:
        return f"unix://{'***@' if at else ''}{path}"
    hidden = _has_special(parts, "", at) or not re.fullmatch(r"(/[\w.-]*){0,2}", path)
    if hidden or not all(map(_HOST.fullmatch, hosts.split(","))):
        return f"{parts['scheme']}://***"
    return f"{parts['scheme']}://{'***@' if at else ''}{hosts}{path}"


def server_label(url: str, data_dir: Path) -> str:
    """Return the name of a server for messages: its URL, or the folder of the embedded server."""
    return f"embedded ({data_dir.expanduser().resolve()})" if url == EMBEDDED else masked_url(url)


def without_login(url: str) -> tuple[str, str, str]:
    """Return a URL without its user name and password, and these two; "" if it has none.

    The login may be before the host, or in the options ``username`` and ``password``.
    """
    parts = _URL.fullmatch(url)
    if parts is None or fault(url):
        return url, "", ""
    login, _, hosts = parts["authority"].rpartition("@")
    user, _, password = login.partition(":")
    found = {"username": unquote(user), "password": unquote(password)}
    rest = []
    for option in filter(None, (parts["query"] or "").split("&")):
        name, _, value = option.partition("=")
        if name in _LOGIN:
            found[name] = unquote(value)
        else:
            rest.append(option)
    query = f"?{'&'.join(rest)}" if rest else ""
    plain = f"{parts['scheme']}://{hosts}{parts['path']}{query}"
    return plain, found["username"], found["password"]
