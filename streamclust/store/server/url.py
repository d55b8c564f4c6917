"""URLs of servers, including URLs of several hosts.

``redis+sentinel://host,host/service/db`` and ``redis+cluster://host,host`` are the forms of other
Redis clients too; ``rediss+…`` uses TLS. Such a URL is expanded to one plain URL per host.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["server", "sentinel", "cluster"]

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
        raise ValueError("neither a list of sentinels with a service nor one of a cluster's nodes")
    user = f"{match['user']}@" if match["user"] else ""
    rest = f"/{path['db'] or 0}{match['query'] or ''}"
    kind: Kind = "sentinel" if match["kind"] == "sentinel" else "cluster"
    hosts = (_with_port(host, kind) for host in match["hosts"].split(","))
    urls = tuple(f"{match['scheme']}://{user}{host}{rest}" for host in hosts)
    return Route(kind, urls, path["service"])


def _with_port(host: str, kind: Kind) -> str:
    named = re.search(r":\d+$", host.rpartition("]")[2]) is not None
    return host if named or kind == "cluster" else f"{host}:{_SENTINEL_PORT}"
