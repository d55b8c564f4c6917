"""The reports of workers: each is seen by the others while it lives, and no longer."""

from __future__ import annotations

from typing import Any

import redis

from streamclust.store.model.health import Health, encode_health, read_health
from streamclust.store.model.keys import Keys, WorkerKeys
from streamclust.store.model.workers import (
    WorkerReport,
    beat,
    decode_report,
    encode_report,
    is_live,
    leave,
    read_workers,
)
from tests.support.waiting import wait_until

A, B, C = "a" * 16, "b" * 16, "c" * 16


def report(worker: str, **more: Any) -> WorkerReport:
    return WorkerReport(id=worker, host="here", pid=7, **more)


def test_workers_see_each_other_while_they_live(client: redis.Redis, namespace: str) -> None:
    # Given two workers, of which one has a short life
    assert beat(client, namespace, A, report(A, held=3), 60.0) == (False, ())
    found = beat(client, namespace, B, report(B, offers=("m",)), 0.2)
    assert found == (False, (report(A, held=3),))
    assert beat(client, namespace, A, report(A, held=4), 60.0) == (
        True,
        (report(B, offers=("m",)),),
    )
    assert [each.id for each in read_workers(client, namespace)] == [A, B]
    assert is_live(client, namespace, B)
    # When it doesn't report any more
    wait_until(lambda: not is_live(client, namespace, B))
    # Then nobody sees it, and the list forgets it
    assert [each.held for each in read_workers(client, namespace)] == [4]
    assert beat(client, namespace, A, None, 60.0) == (True, ())
    assert client.get(WorkerKeys(namespace).workers) == A.encode()
    # and when the last one leaves, no key remains
    leave(client, namespace, A)
    keys = WorkerKeys(namespace)
    assert not client.exists(keys.workers, keys.worker(A), keys.worker(B))
    assert read_workers(client, namespace) == []


def test_a_worker_that_only_looks_writes_no_report(client: redis.Redis, namespace: str) -> None:
    assert beat(client, namespace, A, None, 60.0) == (False, ())
    assert not is_live(client, namespace, A)
    assert read_workers(client, namespace) == []


def test_one_worker_that_leaves_leaves_the_others(client: redis.Redis, namespace: str) -> None:
    for worker in (A, B, C):
        beat(client, namespace, worker, report(worker), 60.0)
    leave(client, namespace, B)
    assert [each.id for each in read_workers(client, namespace)] == [A, C]


def test_a_report_of_another_version_is_read_with_defaults() -> None:
    full = report(A, held=2, troubles={"m": "no"}, offers=("x",), started=1.5, shares="f00")
    assert decode_report(A, encode_report(full).encode()) == full
    strange = b'{"held": "many", "pid": -1, "offers": 7, "troubles": [], "new": 1, "host": null}'
    assert decode_report(A, strange) == WorkerReport(id=A)
    assert decode_report(A, b"\xff{") == WorkerReport(id=A)


def test_a_report_has_few_troubles_with_short_reasons() -> None:
    many = {f"m{number:03}": "x" * 5000 for number in range(1000)}
    found = decode_report(A, encode_report(report(A, failed=1000, troubles=many)).encode())
    assert found.failed == 1000
    assert list(found.troubles) == [f"m{number:03}" for number in range(20)]
    assert {len(reason) for reason in found.troubles.values()} == {300}


def test_the_report_of_a_sleeping_model_is_true_while_its_worker_lives(
    client: redis.Redis, namespace: str
) -> None:
    keys = Keys(namespace, "m")
    client.set(keys.health, encode_health(Health(phase="learning", worker=A, asleep=True)))
    assert read_health(client, keys) is None
    beat(client, namespace, A, report(A), 60.0)
    found = read_health(client, keys)
    assert found is not None
    assert found.asleep
    leave(client, namespace, A)
    assert read_health(client, keys) is None
    # a model that is awake has a report of its own
    client.set(keys.health, encode_health(Health(phase="learning", worker=A)))
    assert read_health(client, keys) is not None
