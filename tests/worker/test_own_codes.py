"""The worker's own codes: each entry's, once, in the transaction that commits what was learned."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from streamclust.errors import ServerError
from streamclust.formats.codes import CodedEntry, decode_fields
from tests.refit.desk import drain
from tests.worker.harness import LIMIT, Site, Worker, add_blocks, add_points, blobs, kmeans

EAGER: dict[str, Any] = {"batch": {"size": 30}, "commit": {"points": 30}}


def ids(site: Site, key: str) -> list[bytes]:
    with site.client as client:
        return [entry_id for entry_id, _ in client.xrange(key)]


def codes(site: Site, stream: str | None = None) -> list[CodedEntry]:
    key = site.keys("m").codes(stream)
    with site.client as client:
        return [decode_fields(each.decode(), fields, key) for each, fields in client.xrange(key)]


def feed(site: Site, n: int, seed: int = 0, name: str = "points") -> None:
    with site.client as client:
        add_points(client, site.stream(name), blobs(n, seed=seed))


def test_all_entries_have_codes_also_those_of_the_warm_up(any_site: Site) -> None:
    site = any_site
    site.write({"m": kmeans(site.stream(), encode=True, **EAGER)})
    feed(site, 300)
    drain(site)
    assert ids(site, site.keys("m").codes()) == ids(site, site.stream())
    feed(site, 100, seed=1)
    drain(site)
    found = codes(site)
    assert [each.entry_id.encode() for each in found] == ids(site, site.stream())
    models = {model.version: model for model in site.versions("m")}
    X = np.concatenate([blobs(300), blobs(100, seed=1)])
    wanted = [int(models[e.version].predict(x[None])[0]) for e, x in zip(found, X, strict=True)]
    assert [int(each.code[0]) for each in found] == wanted
    assert found[-1].version > found[0].version == 1


def test_an_entry_that_is_too_large_has_no_code_but_a_reason(site: Site) -> None:
    # Given a backlog with large entries, of which one is larger than is read
    batch = {"max_entry_bytes": 1 << 20}
    site.write({"m": kmeans(site.stream(), encode=True, batch=batch)})
    sizes = [60, 30_000, 30_000, 100_000, 30_000, 1]
    with site.client as client:
        for seed, n in enumerate(sizes):
            add_blocks(client, site.stream(), blobs(n, seed=seed), block=n)
    drain(site)
    # Then all others are encoded, and that one says why it isn't
    found = codes(site)
    assert [len(each.code) for each in found] == [60, 30_000, 30_000, 1, 30_000, 1]
    assert [each.entry_id.encode() for each in found] == ids(site, site.stream())
    assert found[3].reason == "more than 1048576 bytes are not read (batch.max_entry_bytes)"
    assert len(site.dead("m")) == 1


def test_what_is_switched_on_late_catches_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamclust.worker.own_codes.READ_ENTRIES", 100)
    site.write({"m": kmeans(site.stream(), **EAGER)})
    with site.client as client:
        add_blocks(client, site.stream(), blobs(350), block=1)
    drain(site)
    assert codes(site) == []
    site.write({"m": kmeans(site.stream(), encode={"worker": True, "top": 2}, **EAGER)})
    drain(site)
    found = codes(site)
    assert [each.entry_id.encode() for each in found] == ids(site, site.stream())
    assert found[0].top is not None


def test_what_is_before_the_start_has_no_codes(any_site: Site) -> None:
    site = any_site
    feed(site, 50)
    site.write({"m": kmeans(site.stream(), encode=True, start="latest", **EAGER)})
    drain(site)
    feed(site, 40, seed=1)
    drain(site)  # which is left in the warm-up
    feed(site, 50, seed=2)
    drain(site)
    assert ids(site, site.keys("m").codes()) == ids(site, site.stream())[50:]


def test_several_streams_have_codes_each(site: Site) -> None:
    streams = [site.stream("a"), site.stream("b")]
    site.write({"m": kmeans(*streams, encode=True, **EAGER)})
    feed(site, 100, name="a")
    feed(site, 90, name="b")
    drain(site)
    for stream in streams:
        assert ids(site, site.keys("m").codes(stream)) == ids(site, stream)


def test_a_stream_that_is_added_has_codes_from_its_start_on(site: Site) -> None:
    more: dict[str, Any] = {"encode": True, "start": "latest", **EAGER}
    streams = [site.stream("a"), site.stream("b")]
    site.write({"m": kmeans(streams[0], **more)})
    drain(site)
    feed(site, 90, name="a")
    drain(site)
    feed(site, 50, name="b")
    site.write({"m": kmeans(*streams, **more)})
    drain(site)
    feed(site, 40, name="b")
    drain(site)
    assert ids(site, site.keys("m").codes(streams[1])) == ids(site, streams[1])[50:]


def test_a_killed_worker_leaves_no_hole_and_no_double(site: Site) -> None:
    site.write({"m": kmeans(site.stream(), encode=True, **EAGER)})
    done = threading.Event()

    def more() -> None:
        while not done.wait(0.005):
            feed(site, 20, seed=1)

    feeder = threading.Thread(target=more)
    feeder.start()
    try:
        with Worker(site) as worker:
            worker.wait(lambda: site.committed("m") > 200)
            worker.kill()
    finally:
        done.set()
        feeder.join(LIMIT)
    before = ids(site, site.keys("m").codes())
    position = site.position("m")[site.stream()].encode()
    assert before[-1] == position  # they land together
    drain(site)
    after = ids(site, site.keys("m").codes())
    assert after == ids(site, site.stream())
    assert after[: len(before)] == before


def test_a_codes_key_of_another_type_is_said(site: Site) -> None:
    site.write({"m": kmeans(site.stream(), encode=True, **EAGER)})
    with site.client as client:
        client.set(site.keys("m").codes(), "x")
    feed(site, 10)
    with pytest.raises(ServerError, match="WRONGTYPE"):
        drain(site)


@pytest.mark.parametrize("top", [1, 2])
def test_codes_of_a_model_that_was_begun_anew_have_its_id(site: Site, top: int) -> None:
    # Given codes of a model whose keys were deleted
    site.write({"m": kmeans(site.stream(), encode={"worker": True, "top": top}, **EAGER)})
    feed(site, 300)
    drain(site)
    keys = site.keys("m")
    with site.client as client:
        client.delete(keys.state, keys.models, keys.token)
    # When another one is begun on more points Then its codes have its ID
    feed(site, 300, seed=1)
    drain(site)
    found = codes(site)
    assert [each.model_id for each in found] == [0] * 300 + [site.newest("m").model_id] * 300
    assert found[-1].model_id > 0
