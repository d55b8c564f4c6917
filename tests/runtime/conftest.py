"""A folder with a config.yaml, and a server to use it with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worker.harness import Site


@pytest.fixture
def site(tmp_path: Path, valkey_url: str, namespace: str) -> Site:
    return Site(tmp_path, valkey_url, namespace)
