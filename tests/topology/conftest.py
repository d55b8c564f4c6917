"""Fleets of servers, and a folder with a config.yaml that names one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import fleet
from tests.support.fleet import Cluster, Watched


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """A pair of its own for each test, which may kill one of them."""
    with fleet.watched(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A pair that the tests of a module share, and leave in order."""
    with fleet.watched(tmp_path_factory.mktemp("watched")) as found:
        yield found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes that all tests of a module share."""
    with fleet.cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found
