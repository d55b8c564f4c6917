"""A real Dask scheduler and its workers, over TLS: the same bits, whoever computes a part."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest
import redis

from streamclust import KMeans, KMeansParams
from streamclust.engine import EStep, Inline, Part, Reader, StreamPart
from streamclust.engine.connection import Certificates
from streamclust.engine.cut import cut_array
from streamclust.engine.dask import Dask, _Fold
from streamclust.errors import EngineError, StoppedError
from streamclust.formats.layout import Layout
from streamclust.store.server.connect import Address, find_server
from tests.support.acl import RULES
from tests.support.costly_worker import PARTS, add_feed, learn, of_engine
from tests.support.dask_cluster import WITHOUT_STREAMCLUST, DaskCluster
from tests.support.engines import bits, parts_of_files, scaling_of, some_points, step_of
from tests.support.exhaustive import is_exhaustive
from tests.support.papers import Papers
from tests.support.points import add_blocks
from tests.support.servers import free_port
from tests.support.strategies import FAMILIES
from tests.support.waiting import LIMIT, wait_until
from tests.support.workspace import Workspace

POINTS = some_points(60_000)
STREAM, LAYOUT = "dask-points", Layout("float64", "f8", None, (), 3, strict=False)
PASSWORD = "s3cr3t-of-workers"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, valkey_url: str) -> Iterator[DaskCluster]:
    """A scheduler that speaks TLS only; its workers may read points from the server."""
    pytest.importorskip("distributed", reason="the extra dask isn't installed")
    folder = tmp_path_factory.mktemp("dask")
    papers = Papers(folder)
    papers.write()
    rules = RULES["streamclust-engine"].replace("%R~points", f"%R~{STREAM}").split()
    with redis.Redis.from_url(valkey_url) as client:
        client.execute_command("ACL", "SETUSER", "engine-test", "on", f">{PASSWORD}", *rules)
        add_blocks(client, STREAM, POINTS.X, 100)
    environment = {
        "STREAMCLUST_REDIS__URL": valkey_url,
        "STREAMCLUST_REDIS__USERNAME": "engine-test",
        "STREAMCLUST_REDIS__PASSWORD": PASSWORD,
    }
    with DaskCluster(folder, papers, environment) as running:
        running.start_worker()
        yield running


@pytest.fixture
def said() -> list[str]:
    """What engines of the test have reported."""
    return []


@pytest.fixture
def dask(cluster: DaskCluster, said: list[str]) -> Iterator[Dask]:
    """An engine on the cluster, with at least one worker."""
    with engine_on(cluster, said) as engine:
        wait_until(lambda: engine.connection.slots)
        yield engine


@pytest.fixture
def long_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    """No part of a worker that answers is computed here, also on a busy machine."""
    for name in ("SHORTEST", "UNKNOWN"):
        monkeypatch.setattr(f"streamclust.engine.deadlines.{name}", 2 * LIMIT)


def engine_on(cluster: DaskCluster, said: list[str], **options: Any) -> Dask:
    papers = cluster.papers
    files = None if papers is None else Certificates(papers.ca, papers.cert, papers.key)
    return Dask(cluster.address, files, report=said.append, **options)


def stream_parts(valkey_url: str, count: int = 6) -> list[Part]:
    """The stream in some parts of equal size."""
    with redis.Redis.from_url(valkey_url) as client:
        ids = [entry_id.decode() for entry_id, _ in client.xrange(STREAM)]
    size = len(ids) // count
    starts = range(0, len(ids), size)
    return [
        StreamPart(
            STREAM,
            "0-0" if not start else ids[start - 1],
            ids[start + size - 1],
            100 * size,
            LAYOUT,
        )
        for start in starts
    ]


def reader_of(valkey_url: str) -> Reader:
    return Reader(scaling_of(POINTS), find_server(Address(valkey_url)).raw_client)


def small_parts(count: int, n: int = 500) -> list[Part]:
    return [part for k in range(count) for part in cut_array(*some_points(n, k))]


@pytest.mark.usefixtures("long_deadlines")
def test_any_number_of_workers_returns_the_bits_of_inline(
    cluster: DaskCluster, dask: Dask, tmp_path: Path, valkey_url: str, said: list[str]
) -> None:
    np.save(tmp_path / "points.npy", POINTS.X)
    files = parts_of_files(tmp_path / "points.npy")
    reader, parts = reader_of(valkey_url), [*files, *stream_parts(valkey_url), *small_parts(6)]
    families = FAMILIES if is_exhaustive() else ("kmeans", "spherical", "full")
    steps = [step_of(name, POINTS) for name in families]
    expected = [bits(Inline().fold(step, reader, parts)) for step in steps]
    for workers in (1, 2, 3, 4) if is_exhaustive() else (1, 3):
        while len(cluster.workers) < workers:
            cluster.start_worker()
        wait_until(lambda n=workers: dask.workers == n)  # type: ignore[misc]
        before = dask.counts.workers
        assert [bits(dask.fold(step, reader, parts)) for step in steps] == expected
        assert dask.counts.workers - before == len(steps) * len(parts)
    assert dask.counts.here == dask.counts.late == 0
    assert not [line for line in said if "computes a part" in line]


def test_a_worker_that_learns_two_streams_with_dask_has_the_state_of_one_without_through_kills(
    cluster: DaskCluster, workspace: Workspace
) -> None:
    streams = add_feed(workspace)
    calm = of_engine(workspace, streams, kind="inline")
    learn(calm)
    papers, victim = cluster.papers, cluster.workers[-1]
    assert papers is not None
    files = {f"{name}_file": str(getattr(papers, name)) for name in ("ca", "cert", "key")}
    dask = of_engine(workspace, streams, kind="dask", address=cluster.address, **files)
    victim.kill()
    log = learn(dask, ["computing:3"])
    cluster.end_worker(victim)
    assert dask.state("m") == calm.state("m")
    assert f"workers computed {4 * PARTS} parts, this process 0" in log


def test_short_parts_are_sent_in_bundles_and_large_results_are_not() -> None:
    with Dask("tcp://127.0.0.1:9") as dask:
        assert dask.bundle_size("e_step") == 1
        dask.succeeded("e_step", 2, 0.02, 20_000)
        assert dask.bundle_size("e_step") == 20
        dask.succeeded("e_step", 10, 0.01, 100_000)
        assert dask.bundle_size("e_step") == 32
        dask.succeeded("e_step", 1, 0.01, 400_000)
        assert dask.bundle_size("e_step") == 2
        dask.succeeded("e_step", 1, 9.0, 400_000)
        assert dask.bundle_size("e_step") == 1
        assert dask.bundle_size("survey") == 1


@pytest.mark.parametrize(
    ("parts", "workers", "most", "sizes"),
    [
        (31, 2, 32, [15, 16]),
        (31, 2, 7, [5, 5, 5, 5, 5, 6]),
        (60, 2, 7, [7, 5, *8 * [6]]),
        (3, 4, 32, [1, 1, 1]),
    ],
)
def test_the_last_parts_are_in_equal_bundles_equally_many_per_worker(
    parts: int, workers: int, most: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dask, "workers", workers)
    numbered = enumerate(parts * [StreamPart(STREAM, "0-0", "1-0", 100, LAYOUT)])
    with Dask("tcp://127.0.0.1:9") as dask:
        fold = _Fold(dask, step_of("kmeans", POINTS), Reader(), numbered)
        assert [len(fold._take(fold._size(most))) for _ in sizes] == sizes
        assert not fold._take(most)


@pytest.mark.usefixtures("long_deadlines")
def test_a_large_task_is_sent_once(dask: Dask) -> None:
    K = 60_000
    means = np.random.default_rng(0).normal(size=(K, 3))
    large = EStep(KMeans(K), KMeansParams(means))
    parts = small_parts(8, 50)
    assert bits(dask.fold(large, Reader(), parts)) == bits(Inline().fold(large, Reader(), parts))
    assert dask.counts.workers == len(parts)


def test_a_worker_that_is_killed_or_paused_costs_no_part(
    cluster: DaskCluster, dask: Dask, valkey_url: str
) -> None:
    while len(cluster.workers) < 3:
        cluster.start_worker()
    wait_until(lambda: dask.workers == len(cluster.workers))
    step, reader = step_of("full", POINTS), reader_of(valkey_url)
    parts = [*stream_parts(valkey_url, 60), *small_parts(6)]
    victim, paused, taken = cluster.workers[-1], cluster.workers[1], list[Part]()
    rounds, settled, limit = list[int](), list[int](), monotonic() + 60.0

    def disturbed() -> Iterator[tuple[int, Part]]:
        for number, part in enumerate(cycle(parts)):
            if number == 600:  # the engine looks ahead, so workers have computed some parts
                victim.kill()
            if number == 700:
                paused.send_signal(signal.SIGSTOP)
            if number > 700 and number % 400 == 0:
                # Parts of the paused worker were computed here, and most new ones by workers.
                workers, here = dask.counts.workers, dask.counts.here
                if here and rounds and workers - rounds[-1] > 200:
                    settled.append(number)
                rounds.append(workers)
                if settled or monotonic() > limit:
                    return
            taken.append(part)
            yield number, part

    try:
        whole = None
        for done in dask.map(step, reader, disturbed()):
            whole = done.value if whole is None else step.merge(whole, done.value)
        assert whole is not None
        assert bits(whole) == bits(Inline().fold(step, reader, taken))
        assert dask.counts.workers + dask.counts.here == len(taken)
        assert settled
    finally:
        paused.send_signal(signal.SIGCONT)
        cluster.end_worker(victim)
    wait_until(lambda: not dask.connection.unanswered)


def test_workers_that_are_all_paused_are_waited_for_once(
    cluster: DaskCluster, dask: Dask, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, parts = step_of("kmeans", POINTS), small_parts(30)
    expected = bits(Inline().fold(step, Reader(), parts))
    assert bits(dask.fold(step, Reader(), parts)) == expected
    here = dask.counts.here
    for process in cluster.workers:
        process.send_signal(signal.SIGSTOP)
    try:
        assert bits(dask.fold(step, Reader(), parts)) == expected
        assert dask.counts.here - here > 20
        assert dask.deadlines.outstanding == 0
        monkeypatch.setattr("streamclust.engine.dask.REQUIRED_WORKERS", 0.1)
        with pytest.raises(EngineError, match=r"the workers don't answer; engine.required is true"):
            dask.required = True
            dask.fold(step, Reader(), parts)
    finally:
        for process in cluster.workers:
            process.send_signal(signal.SIGCONT)
    dask.required = False
    before = dask.counts.workers

    def used() -> bool:
        assert bits(dask.fold(step, Reader(), parts)) == expected
        return dask.counts.workers > before

    wait_until(used)
    wait_until(lambda: dask.counts.late)


def test_a_stop_ends_a_fold(dask: Dask) -> None:
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 20

    with pytest.raises(StoppedError):
        dask.fold(step_of("kmeans", POINTS), Reader(), 100 * small_parts(10), stop)
    parts = small_parts(3)
    step = step_of("kmeans", POINTS)
    assert bits(dask.fold(step, Reader(), parts)) == bits(Inline().fold(step, Reader(), parts))


@pytest.mark.usefixtures("long_deadlines")
def test_a_worker_without_rights_or_files_is_named_once(
    cluster: DaskCluster, dask: Dask, valkey_url: str, said: list[str], tmp_path: Path
) -> None:
    step, parts = step_of("kmeans", POINTS), stream_parts(valkey_url)
    reader = reader_of(valkey_url)
    expected = bits(Inline().fold(step, reader, parts))
    with redis.Redis.from_url(valkey_url) as client:
        client.execute_command("ACL", "SETUSER", "engine-test", "-xread")
        try:
            assert bits(dask.fold(step, reader, parts)) == expected
        finally:
            client.execute_command("ACL", "SETUSER", "engine-test", "+xread")
    assert dask.counts.here == len(parts)
    refused = [line for line in said if "computes a part" in line]
    assert len(refused) == 1
    assert "xread" in refused[0].lower()
    assert PASSWORD not in "".join(said) + cluster.log()


@pytest.mark.usefixtures("long_deadlines")
def test_workers_with_another_streamclust_are_not_used(
    cluster: DaskCluster, said: list[str]
) -> None:
    older = "import streamclust.version as v; v.__version__ = '0.0.7'"
    others = [
        cluster.start_worker(prelude=older),
        cluster.start_worker(STREAMCLUST_KERNELS="numpy"),
        cluster.start_worker(prelude=WITHOUT_STREAMCLUST),
    ]
    reasons = ("0.0.7; this process has", "; numpy", "has no streamclust")
    step, parts = step_of("kmeans", POINTS), small_parts(24)
    with engine_on(cluster, said) as dask:
        for reason in reasons:
            wait_until(lambda: any(reason in line for line in said))  # noqa: B023
        wait_until(lambda: dask.connection.slots == len(cluster.workers) - 3)
        expected = bits(Inline().fold(step, Reader(), parts))
        assert bits(dask.fold(step, Reader(), parts)) == expected
        assert dask.counts.workers == len(parts)
    assert [sum(reason in line for line in said) for reason in reasons] == [1, 1, 1]
    for process in others:
        assert process.poll() is None  # it was not harmed
        cluster.end_worker(process)


def test_an_address_where_nobody_answers(said: list[str]) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    step, parts = step_of("kmeans", POINTS), small_parts(3)
    expected = bits(Inline().fold(step, Reader(), parts))
    with Dask(address, report=said.append) as dask:
        assert bits(dask.fold(step, Reader(), parts)) == expected
        assert dask.counts.here == len(parts)
        wait_until(lambda: bool(said))
    assert address in said[0]
    assert said[1] == "the engine dask: workers computed 0 parts, this process 3"


def test_a_client_without_certificates_is_refused(cluster: DaskCluster, said: list[str]) -> None:
    plain = cluster.address.replace("tls", "tcp")
    with Dask(plain, report=said.append) as dask:
        dask.fold(step_of("kmeans", POINTS), Reader(), small_parts(2))
        assert dask.counts.here == 2
    assert [plain in line for line in said] == [True, False]  # and at the end, who computed


@pytest.mark.usefixtures("long_deadlines")
def test_a_scheduler_that_is_killed_and_comes_back(
    cluster: DaskCluster, dask: Dask, said: list[str]
) -> None:
    """The last test: the workers end with their scheduler."""
    step, parts, taken = step_of("kmeans", POINTS), small_parts(40), list[Part]()

    def disturbed() -> Iterator[tuple[int, Part]]:
        last = 50 * len(parts)
        for number, part in enumerate(cycle(parts)):
            if dask.counts.workers and last == 50 * len(parts):
                cluster.kill_scheduler()
                last = number + len(parts)
            if number == last:
                return
            taken.append(part)
            yield number, part

    whole = None
    for done in dask.map(step, Reader(), disturbed()):
        whole = done.value if whole is None else step.merge(whole, done.value)
    assert whole is not None
    assert bits(whole) == bits(Inline().fold(step, Reader(), taken))
    assert 0 < dask.counts.workers < len(taken)
    expected = bits(Inline().fold(step, Reader(), parts))
    wait_until(lambda: not dask.connection.slots)
    before = dask.counts.workers
    assert bits(dask.fold(step, Reader(), parts)) == expected
    assert dask.counts.workers == before
    cluster.start_scheduler()
    cluster.start_worker()
    wait_until(lambda: dask.connection.slots)
    assert bits(dask.fold(step, Reader(), parts)) == expected
    assert dask.counts.workers == before + len(parts)
    lost = [line for line in said if "no connection" in line]
    assert len(lost) == 1
    assert cluster.address in lost[0]
