"""Models that have been published several times, and a dashboard that serves them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

pytest.importorskip("starlette", reason="the extra `ui` isn't installed")
pytest.importorskip("uvicorn", reason="the extra `ui` isn't installed")

from streamclust.dashboard.serve import Listen
from tests.support.dashboard import TOKEN, opened
from tests.support.model_settings import kmeans, mixture
from tests.support.points import add_entry, add_points, blobs
from tests.support.workers import drain
from tests.support.workspace import Workspace

OFTEN: dict[str, Any] = {"batch": {"size": 60}, "publish": {"points": 60}}


def learn(workspace: Workspace) -> Workspace:
    """Learn two models of the same stream, with five versions and one dead letter each."""
    stream = workspace.stream()
    with workspace.client as client:
        add_points(client, stream, blobs(300, D=3))
        add_entry(client, stream, x0="<b>odd\x1b[31m", x1="1", x2="2")
    workspace.write({"km": kmeans(stream, **OFTEN), "gm": mixture(stream, **OFTEN)})
    for model in ("km", "gm"):
        drain(workspace, model)
    return workspace


@pytest.fixture(scope="package")
def learned(tmp_path_factory: pytest.TempPathFactory, valkey_url: str) -> Workspace:
    """A workspace for tests that only read."""
    namespace = f"dashboard-{uuid4().hex[:12]}"
    return learn(Workspace(tmp_path_factory.mktemp("learned"), valkey_url, namespace))


@pytest.fixture(scope="package")
def api(learned: Workspace) -> Iterator[httpx.Client]:
    """A client of a dashboard that permits actions."""
    with opened(learned, Listen(token=TOKEN)) as client:
        yield client


@pytest.fixture
def own(workspace: Workspace) -> Workspace:
    """A workspace for a test that changes the models."""
    return learn(workspace)
