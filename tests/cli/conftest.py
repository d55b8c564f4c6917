"""A site whose models have been published several times, for commands that only read."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.worker.harness import Site, add_points, blobs, kmeans, mixture

OFTEN: dict[str, Any] = {"batch": {"size": 60}, "publish": {"points": 60}}


@pytest.fixture(scope="package")
def learned(tmp_path_factory: pytest.TempPathFactory, valkey_url: str) -> Site:
    """Two models with five versions each."""
    site = Site(tmp_path_factory.mktemp("learned"), valkey_url, f"learned-{uuid4().hex[:12]}")
    with site.client as client:
        add_points(client, site.stream(), blobs(300))
    km, gm = kmeans(site.stream(), **OFTEN), mixture(site.stream(), **OFTEN)
    site.write({"km": km, "gm": gm}).drain()
    return site
