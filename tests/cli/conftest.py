"""A workspace whose models have been published several times, for commands that only read."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.support.model_settings import kmeans, mixture
from tests.support.points import add_points, blobs
from tests.support.workspace import Workspace

OFTEN: dict[str, Any] = {"batch": {"size": 60}, "publish": {"points": 60}}


@pytest.fixture(scope="package")
def learned(tmp_path_factory: pytest.TempPathFactory, valkey_url: str) -> Workspace:
    """Two models with five versions each."""
    workspace = Workspace(
        tmp_path_factory.mktemp("learned"), valkey_url, f"learned-{uuid4().hex[:12]}"
    )
    with workspace.client as client:
        add_points(client, workspace.stream(), blobs(300))
    km, gm = kmeans(workspace.stream(), **OFTEN), mixture(workspace.stream(), **OFTEN)
    workspace.write({"km": km, "gm": gm}).drain()
    return workspace
