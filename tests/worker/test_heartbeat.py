"""Signs of life: as long as the session's threads make progress, and no longer."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
import structlog
from structlog.testing import LogCapture

from streamclust.errors import LeaseLostError
from streamclust.formats.lost import Lost
from streamclust.runtime.activity import LOOP, READER, Activity
from streamclust.store.model.health import Health, read_health
from streamclust.store.model.keys import Keys
from streamclust.store.model.lease import Lease
from streamclust.worker.heartbeat import Heartbeat, Heartbeats
from streamclust.worker.progress import Progress
from tests.support.clock import Clock
from tests.support.waiting import wait_until

STALL = 600.0
PERIOD = 3600.0
STALLED = "model_stalled"
PROGRESS = Progress("learning", 90, 0, 1, None, Lost(), 0)


@dataclass
class Bench:
    """A lease and its heartbeat, without a worker; it beats when it is told to."""

    client: redis.Redis
    keys: Keys
    clock: Clock = field(default_factory=Clock)
    logged: LogCapture = field(default_factory=LogCapture)
    waiting: bool = True
    failure: str = ""
    late: float = 0.0
    woken: int = 0
    progress: Callable[[], Progress] = lambda: PROGRESS

    def __post_init__(self) -> None:
        self.activity = Activity(self.clock)
        self.lease = Lease(self.client, self.keys, 30.0)
        assert self.lease.take()
        self.heartbeat = Heartbeat(
            self.client,
            self.keys,
            self.lease,
            3.0 * PERIOD,
            self._progress,
            activity=self.activity,
            stall=STALL,
            entries_wait=lambda _: self.waiting,
            failure=lambda: self.failure,
            log=structlog.wrap_logger(
                structlog.PrintLogger(), [self.logged], structlog.BoundLogger
            ),
            seconds_late=lambda: self.late,
            wake=self._wake,
        )

    def _wake(self) -> None:
        self.woken += 1

    def _progress(self) -> Progress:
        return self.progress()

    @property
    def health(self) -> Health:
        found = read_health(self.client, self.keys)
        assert found is not None
        return found

    def lapse(self) -> None:
        """Let the lease end, as if nobody had renewed it."""
        self.client.delete(self.keys.lease)

    def renews(self) -> bool:
        """Say whether the next beat renews a lease that had ended."""
        self.lapse()
        self.heartbeat.beat()
        return bool(self.client.exists(self.keys.lease))


@pytest.fixture
def client(valkey_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey_url, protocol=2) as client:
        yield client


@pytest.fixture
def bench(client: redis.Redis, namespace: str) -> Bench:
    return Bench(client, Keys(namespace, "m"))


def test_a_lease_is_renewed_as_long_as_both_threads_make_progress(bench: Bench) -> None:
    for _ in range(5):
        bench.clock.now += STALL * 0.9
        bench.activity.record_progress(LOOP)
        bench.activity.record_progress(READER)
        assert bench.renews()
        assert bench.health.phase == "learning"
    bench.heartbeat.check()
    assert not bench.logged.entries


@pytest.mark.parametrize(("thread", "other"), [(LOOP, READER), (READER, LOOP)])
def test_a_thread_without_progress_loses_the_lease(bench: Bench, thread: str, other: str) -> None:
    # Given two threads, of which one makes no more progress
    bench.activity.record_progress(thread)
    bench.clock.now += STALL
    bench.activity.record_progress(other)
    assert bench.renews()
    assert bench.health.progress_age == STALL
    bench.clock.now += 1.0
    # When the limit is over Then the lease isn't renewed, which is said once
    assert not bench.renews()
    assert not bench.renews()
    [entry] = bench.logged.entries
    assert entry["event"] == STALLED
    assert entry["error"] == f"the {thread} has made no progress for 601 s (worker.stall)"
    # and the health says so too, until another worker has the model
    assert (bench.health.phase, bench.health.reason) == ("stalled", entry["error"])
    assert not bench.health.alive
    other_worker = Lease(bench.client, bench.keys, 30.0)
    bench.lapse()
    assert other_worker.take()
    assert other_worker.renew(json.dumps({"phase": "learning", "host": "other"}), 30.0)
    bench.heartbeat.beat()
    assert (bench.health.phase, bench.health.host) == ("learning", "other")
    # and the thread finds that out when it comes to itself
    bench.activity.record_progress(thread)
    with pytest.raises(LeaseLostError, match="the lease was not renewed"):
        bench.heartbeat.check()


def test_while_no_entry_waits_nothing_has_to_move(bench: Bench) -> None:
    bench.waiting = False
    bench.clock.now += 10 * STALL
    assert bench.renews()
    bench.waiting = True
    assert not bench.renews()


def test_a_reader_that_has_done_its_work_need_not_move(bench: Bench) -> None:
    bench.activity.record_progress(READER)
    bench.activity.ended(READER)
    bench.clock.now += 2 * STALL
    bench.activity.record_progress(LOOP)
    assert bench.renews()


def test_a_model_that_has_not_recovered_is_still_shown_as_failed(bench: Bench) -> None:
    bench.failure = "no such luck"
    assert bench.renews()
    assert (bench.health.phase, bench.health.reason) == ("failed", "no such luck")
    bench.failure = ""
    assert bench.renews()
    assert (bench.health.phase, bench.health.reason) == ("learning", "")


@pytest.fixture
def no_traceback(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    raw: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", raw.append)
    yield raw
    assert raw == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "Too many open files"),
        RuntimeError("can't start new thread"),
        redis.ResponseError("WRONGTYPE Operation against a key"),
    ],
)
@pytest.mark.usefixtures("no_traceback")
def test_whatever_ends_a_heartbeat_ends_the_session(
    client: redis.Redis, namespace: str, error: Exception
) -> None:
    bench, other = (Bench(client, Keys(namespace, name)) for name in ("m", "other"))
    heart = bench.heartbeat
    with Heartbeats(0.01) as hearts, hearts.beating(heart), hearts.beating(other.heartbeat):
        heart.check()

        def broken() -> Progress:
            raise error

        bench.progress = broken
        wait_until(lambda: bench.woken)
        with pytest.raises(type(error)) as raised:
            heart.check()
        # and no other one's
        other.lapse()
        wait_until(lambda: client.exists(other.keys.lease))
        other.heartbeat.check()
    assert raised.value is error


def test_a_fault_of_the_server_that_passes_ends_no_heartbeat(
    client: redis.Redis, namespace: str
) -> None:
    bench = Bench(client, Keys(namespace, "m"))
    faults = iter(range(3))

    def flickering() -> Progress:
        if next(faults, None) is not None:
            raise redis.ConnectionError("away")
        return PROGRESS

    with Heartbeats(0.01) as hearts, hearts.beating(bench.heartbeat):
        bench.progress = flickering
        wait_until(lambda: next(faults, None) is None)
        bench.lapse()
        wait_until(lambda: client.exists(bench.keys.lease))
        bench.heartbeat.check()


def test_a_model_that_gets_no_thread_loses_the_lease(bench: Bench) -> None:
    # Given a model with nothing to do
    bench.activity.ended(LOOP)
    bench.clock.now += 10 * STALL
    assert bench.renews()
    # When it has something to do, and gets no thread for it
    bench.late = STALL + 1.0
    # Then its lease isn't renewed
    assert not bench.renews()
    with pytest.raises(LeaseLostError, match="has waited for a thread for 601 s"):
        bench.heartbeat.check()


def test_many_hearts_beat_in_one_round_trip(client: redis.Redis, namespace: str) -> None:
    benches = [Bench(client, Keys(namespace, f"m{number}")) for number in range(300)]
    with ExitStack() as stack:
        hearts = stack.enter_context(Heartbeats(0.01))
        for bench in benches:
            stack.enter_context(hearts.beating(bench.heartbeat))
        # Given one whose lease is another one's, and one with a key of another type
        stolen, odd = benches[7], benches[200]
        client.set(stolen.keys.token, stolen.lease.token + 1)
        client.rpush(odd.keys.proposal, "mine")
        wait_until(lambda: stolen.woken and odd.woken)
        # Then both end, with their own reasons, and all others are renewed
        with pytest.raises(LeaseLostError, match="took the model over"):
            stolen.heartbeat.check()
        with pytest.raises(redis.ResponseError, match=f"key {odd.keys.proposal} holds a list"):
            odd.heartbeat.check()
        others = [bench for bench in benches if bench not in (stolen, odd)]
        for bench in others:
            bench.lapse()
        wait_until(lambda: all(client.exists(bench.keys.lease) for bench in others))
        for bench in others:
            bench.heartbeat.check()


def test_a_heart_that_has_left_never_beats_again(client: redis.Redis, namespace: str) -> None:
    bench, other = (Bench(client, Keys(namespace, name)) for name in ("m", "other"))
    with Heartbeats(0.001) as hearts, hearts.beating(other.heartbeat):
        for _ in range(50):
            with hearts.beating(bench.heartbeat):
                other.lapse()
                wait_until(lambda: client.exists(other.keys.lease))
            bench.lapse()
            other.lapse()
            wait_until(lambda: client.exists(other.keys.lease))
            assert not client.exists(bench.keys.lease)
