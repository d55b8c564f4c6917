"""Parts of streams: ranges of IDs that every process reads by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from streamclust.engine import Inline, StreamPart
from streamclust.engine import remote as remote_side
from streamclust.engine.processes import Processes
from streamclust.engine.reader import StreamServer
from streamclust.engine.threads import Threads
from streamclust.formats.layout import PointsFormat
from streamclust.refit.data import Dataset, Reports, gather
from streamclust.refit.sources import StreamRange
from streamclust.store.server.connect import Address, Server, open_server
from tests.support.engines import ByBytes, bits, some_points, step_of
from tests.support.exhaustive import is_exhaustive
from tests.support.points import add_blocks
from tests.support.strategies import FAMILIES

POINTS = some_points(150_500)
MAX_REPLY = 1 << 26


@pytest.fixture
def server(address: Address) -> Iterator[Server]:
    with open_server(address) as found:
        yield found


@pytest.fixture
def source(server: Server, address: Address, namespace: str) -> StreamRange:
    """A source of weighted points in two streams."""
    names = [f"{namespace}-a", f"{namespace}-b"]
    with server.client() as client:
        add_blocks(client, names[0], POINTS.X[:140_000], 1000, POINTS.w[:140_000])
        add_blocks(client, names[1], POINTS.X[140_000:], 700, POINTS.w[140_000:])
        until = {name: ends(client, name)[1] for name in names}
    return StreamRange(
        lambda: server.raw_client(MAX_REPLY),
        dict.fromkeys(names, "0-0"),
        until,
        PointsFormat(weight_field="w"),
        None,
        StreamServer(address.url, "", MAX_REPLY),
    )


def ends(client: Any, stream: str) -> tuple[str, str]:
    info = client.xinfo_stream(stream)
    return info["first-entry"][0].decode(), info["last-entry"][0].decode()


def points_of(source: StreamRange, **options: Any) -> Dataset:
    return gather(source, 0, **options)


def test_parts_are_ranges_of_whole_entries(source: StreamRange) -> None:
    parts = [part for part, _ in source.parts()]
    assert all(isinstance(part, StreamPart) for part in parts)
    assert [part.count for part in parts] == [135_000, 5_000, 10_500]  # type: ignore[union-attr]
    assert parts == [part for part, _ in source.parts()]


def test_every_engine_returns_the_same_bits_as_memory(source: StreamRange, server: Server) -> None:
    memory = points_of(source)
    assert memory.is_in_memory
    # What each family does with a part is the matter of test_fold.py and test_processes.py.
    families = FAMILIES if is_exhaustive() else ("kmeans", "full")
    sums = {
        name: bits(memory.fold(step_of(name, memory.sample), lambda: False)) for name in families
    }
    remote_side.use_server(lambda: server.raw_client(MAX_REPLY))
    try:
        for engine in (Inline(), ByBytes(), Threads(2), Processes(2)):
            read_again = points_of(source, in_memory=0, sample=1000, engine=engine)
            assert not read_again.is_in_memory
            with engine:
                for name in families:
                    task = step_of(name, memory.sample)
                    assert bits(read_again.fold(task, lambda: False)) == sums[name]
            assert getattr(engine, "by_processes", 3 * len(families)) == 3 * len(families)
    finally:
        remote_side.use_server(None)


def test_points_that_were_trimmed_are_reported_once(source: StreamRange, server: Server) -> None:
    warnings: list[str] = []
    found = points_of(source, in_memory=0, sample=1000, reports=Reports(warn=warnings.append))
    task = step_of("kmeans", POINTS)
    assert found.fold(task, lambda: False).count == pytest.approx(POINTS.w.sum())
    part: Any = found.parts[0]
    with server.client() as client:
        client.execute_command("XTRIM", part.stream, "MINID", part.until)
    for _ in range(2):
        assert found.fold(task, lambda: False).count == pytest.approx(POINTS.w[134_000:].sum())
    assert [line.partition(" of ")[0] for line in warnings] == ["134,000 points"]
    assert "were trimmed since the first pass" in warnings[0]
    with server.client() as client:
        client.delete(part.stream)
    assert found.fold(task, lambda: False).count == pytest.approx(POINTS.w[140_000:].sum())
    assert len(warnings) == 2


def test_without_a_server_a_part_of_a_stream_is_an_error(source: StreamRange) -> None:
    from streamclust.errors import EngineError

    parts = [part for part, _ in source.parts()]
    with pytest.raises(EngineError, match="can't be read without a server"):
        ByBytes().fold(step_of("kmeans", POINTS), source.reader(), parts)
