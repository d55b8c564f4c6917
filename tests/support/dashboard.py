"""A dashboard in a thread of the test, over real HTTP."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from streamclust.config import load_settings
from streamclust.dashboard.serve import Dashboard, Listen
from streamclust.runtime.log import command_log
from streamclust.store.server.connect import Address, Server, find_server
from tests.support.waiting import LIMIT
from tests.support.workspace import Workspace

TOKEN = "a-token-for-the-tests"

ALLOWED = {"Authorization": f"Bearer {TOKEN}"}

PLAIN: dict[str, Any] = {
    "timeout": LIMIT,
    "trust_env": False,
    "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
}
"""Options of a client without TLS: it takes 20 ms to load the certificates of all authorities."""


@contextmanager
def opened(
    workspace: Workspace, listen: Listen | None = None, url: str | None = None
) -> Iterator[httpx.Client]:
    """Serve the models of a workspace; give a client of the API."""
    settings = load_settings(workspace.folder / "config.yaml", ())
    servers: list[Server] = []

    def find() -> Server:
        servers.append(find_server(Address(url or workspace.url, Path(workspace.folder))))
        return servers[-1]

    dashboard = Dashboard(settings, find, "the server", listen or Listen(), command_log())
    with (
        dashboard,
        httpx.Client(base_url=dashboard.url, **PLAIN) as client,
    ):
        yield client
    for server in servers:
        server.close()


class Events:
    """The events of a stream of updates, one after another."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.iter_lines()

    def next(self, *kinds: str) -> tuple[str, Any]:
        """Return the ID and the value of the next event of one of these kinds."""
        kind = event_id = data = ""
        deadline = time.monotonic() + LIMIT
        for line in self._lines:
            assert time.monotonic() < deadline, f"no event {kinds} within {LIMIT} s"
            name, _, value = line.partition(": ")
            if name == "event":
                kind = value
            elif name == "id":
                event_id = value
            elif name == "data":
                data = value
            elif not line and kind in kinds:
                return event_id, json.loads(data)
        raise AssertionError(f"the stream ended before an event {kinds}")


@contextmanager
def followed(client: httpx.Client, path: str, **options: Any) -> Iterator[Events]:
    """Follow a stream of updates."""
    with client.stream("GET", path, **options) as response:
        assert response.status_code == 200, response.read()
        yield Events(response)
