"""Encoders of many streams that share threads: the same codes, and no encoder ends another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import redis
import structlog
from structlog.testing import LogCapture, capture_logs

from streamclust import failpoints
from streamclust.encoder.job import Job, Tally
from streamclust.encoder.many import run_encoders, total
from streamclust.errors import ModelsFailedError
from streamclust.store.model.code_stream import write_codes
from streamclust.store.model.keys import Keys
from streamclust.system_limits import cores_of_process
from tests.support.encoder_fixture import EncoderFixture
from tests.support.points import add_points, blobs
from tests.support.waiting import wait_until

STREAMS = tuple(f"s{number}" for number in range(12))


@pytest.fixture
def many(fixture: EncoderFixture) -> EncoderFixture:
    """A model with more streams than there are threads."""
    fixture.streams = tuple(f"{fixture.namespace}-{name}" for name in STREAMS)
    return fixture


def run(
    fixture: EncoderFixture, stop: threading.Event, *, until_idle: bool = True, **more: Any
) -> list[tuple[Job, Tally]]:
    def find(_: redis.Redis) -> list[Job]:
        return fixture.jobs(stop, until_idle)

    seconds = {"discover": 0.1, "stall": 60.0}
    return run_encoders(fixture.server, find, stop, until_idle=until_idle, **{**seconds, **more})


@contextmanager
def encoding(fixture: EncoderFixture) -> Iterator[threading.Event]:
    """Encoders in the background, which are asked to leave at the end of the block."""
    stop = threading.Event()
    thread = threading.Thread(target=run, args=(fixture, stop), kwargs={"until_idle": False})
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join()


def is_coded(fixture: EncoderFixture) -> bool:
    """Return whether each entry has its code once, in order."""
    return all(
        fixture.ids(fixture.keys.codes(stream if len(fixture.streams) > 1 else None))
        == fixture.ids(stream)
        for stream in fixture.streams
    )


def test_each_stream_gets_its_codes(many: EncoderFixture) -> None:
    many.publish(1)
    for number, stream in enumerate(many.streams):
        add_points(many.client, stream, blobs(50 + number, seed=number))
    done = run(many, threading.Event())
    assert is_coded(many)
    assert {job.stream: tally.points for job, tally in done} == {
        stream: 50 + number for number, stream in enumerate(many.streams)
    }
    assert total(done)["entries"] == sum(50 + number for number in range(len(STREAMS)))


def test_entries_that_come_later_wake_their_encoder(many: EncoderFixture) -> None:
    for stream in many.streams:
        add_points(many.client, stream, blobs(5))
    with encoding(many):
        # no version yet, so that nothing is read
        wait_until(lambda: all(many.client.xinfo_groups(stream) for stream in many.streams))
        many.publish(1)
        wait_until(lambda: is_coded(many))
        for number in range(3):
            for stream in many.streams:
                add_points(many.client, stream, blobs(3, seed=number))
            wait_until(lambda: is_coded(many))
        many.publish(2)
        add_points(many.client, many.streams[0], blobs(1))
        wait_until(lambda: is_coded(many))
        assert many.codes(many.streams[0])[-1].version == 2
    members: Any = [many.client.xinfo_consumers(each, many.keys.encoders) for each in many.streams]
    assert members == [[] for _ in many.streams]  # they have left


def test_a_model_that_was_created_again_is_used(many: EncoderFixture) -> None:
    many.publish(7)
    add_points(many.client, many.streams[0], blobs(5))
    with encoding(many):
        wait_until(lambda: is_coded(many))
        many.begin_anew(1, model_id=5)

        def version() -> int:
            add_points(many.client, many.streams[0], blobs(1))
            wait_until(lambda: is_coded(many))
            return many.codes(many.streams[0])[-1].version

        wait_until(lambda: version() == 1)


def test_an_encoder_that_left_memory_wakes(many: EncoderFixture) -> None:
    many.publish(1)
    add_points(many.client, many.streams[0], blobs(5))
    settings = many.jobs(threading.Event())[0].settings
    worker = settings.worker.model_copy(update={"idle_after": 0.05})
    asleep = settings.model_copy(update={"worker": worker})
    logged = LogCapture()
    log = structlog.wrap_logger(structlog.PrintLogger(), [logged], structlog.BoundLogger)
    jobs = many.jobs

    def changed(*options: Any) -> list[Job]:
        return [replace(job, settings=asleep, log=log) for job in jobs(*options)]

    many.jobs = changed  # type: ignore[method-assign, assignment]

    def events(name: str) -> int:
        return sum(entry["event"] == name for entry in logged.entries)

    with encoding(many):
        for times in range(1, 4):
            wait_until(lambda: is_coded(many))
            wait_until(lambda: events("encoder_asleep") >= times * len(STREAMS))  # noqa: B023
            for stream in many.streams:
                add_points(many.client, stream, blobs(2, seed=times))
        wait_until(lambda: is_coded(many))
    assert events("encoding_started") == 4 * len(STREAMS)


def test_an_encoder_waits_for_its_turn_without_a_thread(many: EncoderFixture) -> None:
    # Given other encoders that are at work on the first entries of all streams
    many.encode["takeover"] = "1h"
    many.publish(1)
    for stream in many.streams:
        add_points(many.client, stream, blobs(30))
    held = {}
    for stream in many.streams:
        member = replace_stream(many, stream)
        held[stream] = member.read_new(None).ids
    last = many.streams[-1]
    with encoding(many):
        # When only the last stream gets its codes from the other encoder
        first = [(entry_id, [b"code", b"1"]) for entry_id in held[last]]
        wait_until(lambda: pending(many, last) > len(first))
        write_codes(many.client, many.keys.codes(last), first, 1000)
        # Then the encoder of this stream has its turn, whoever waits
        wait_until(lambda: many.ids(many.keys.codes(last)) == many.ids(last))
        assert not any(many.client.exists(many.keys.codes(each)) for each in many.streams[:-1])
        for stream in many.streams[:-1]:
            write = [(entry_id, [b"code", b"1"]) for entry_id in held[stream]]
            write_codes(many.client, many.keys.codes(stream), write, 1000)
        wait_until(lambda: is_coded(many))


def test_entries_of_encoders_that_died_get_their_codes(many: EncoderFixture) -> None:
    many.publish(1)
    for stream in many.streams:
        add_points(many.client, stream, blobs(5))
    with encoding(many):
        wait_until(lambda: is_coded(many))
        # When another encoder of each stream takes an entry at once, and dies
        for stream in many.streams:
            with many.client.pipeline(transaction=True) as pipe:
                pipe.xadd(stream, {"x0": "1", "x1": "2"})
                pipe.xreadgroup(many.keys.encoders, "dead", {stream: ">"})
                added, taken = pipe.execute()
            assert [entry_id for entry_id, _ in taken[0][1]] == [added]
        # Then the entries get their codes from the living
        wait_until(lambda: is_coded(many))


def replace_stream(fixture: EncoderFixture, stream: str) -> Any:
    """A member of the group of a stream, which takes entries and does nothing with them."""
    other = replace_fixture(fixture, stream)
    return other.sleeper()


def replace_fixture(fixture: EncoderFixture, stream: str) -> EncoderFixture:
    other = object.__new__(EncoderFixture)
    other.__dict__.update(fixture.__dict__)
    other.streams = (stream,)
    return other


def pending(fixture: EncoderFixture, stream: str) -> int:
    summary: Any = fixture.client.xpending(stream, fixture.keys.encoders)
    return int(summary["pending"])


def test_entries_of_dead_encoders_are_taken_over(many: EncoderFixture) -> None:
    many.publish(1)
    for stream in many.streams:
        add_points(many.client, stream, blobs(30))
        replace_stream(many, stream).read_new(None)
    with encoding(many):
        wait_until(lambda: is_coded(many))


def test_a_failure_of_one_encoder_does_not_end_the_others(many: EncoderFixture) -> None:
    many.publish(1)
    spoilt, *others = many.streams
    key = many.keys.codes(spoilt)
    many.client.rpush(key, "mine")
    for stream in many.streams:
        add_points(many.client, stream, blobs(5))
    with capture_logs() as logged, encoding(many):

        def events() -> list[str]:
            return [each["event"] for each in logged if each.get("stream") == spoilt]

        wait_until(lambda: "encoder_failed" in events())
        wait_until(
            lambda: all(many.ids(many.keys.codes(each)) == many.ids(each) for each in others)
        )
        # When the cause is gone Then the encoder continues by itself
        many.client.delete(key)
        wait_until(lambda: is_coded(many))
        add_points(many.client, spoilt, blobs(5))
        wait_until(lambda: is_coded(many))
        assert events().count("encoder_failed") == 1
    failed = next(each for each in logged if each["event"] == "encoder_failed")
    assert failed["retrying"]
    assert key in failed["error"]


def test_until_idle_a_failure_is_an_error_after_the_others_have_ended(
    many: EncoderFixture,
) -> None:
    many.publish(1)
    many.client.rpush(many.keys.codes(many.streams[3]), "mine")
    for stream in many.streams:
        add_points(many.client, stream, blobs(5))
    with pytest.raises(ModelsFailedError, match="holds a list"):
        run(many, threading.Event())
    good = [each for each in many.streams if each != many.streams[3]]
    assert all(many.ids(many.keys.codes(each)) == many.ids(each) for each in good)


def test_streams_that_are_found_later_are_encoded(many: EncoderFixture) -> None:
    many.publish(1)
    streams = many.streams
    for stream in streams:
        add_points(many.client, stream, blobs(5))
    found = [2]
    jobs = many.jobs
    many.jobs = lambda *a: jobs(*a)[: found[0]]  # type: ignore[method-assign]
    codes = [Keys(many.namespace, "m").codes(stream) for stream in streams]
    with encoding(many):
        wait_until(lambda: all(many.client.xlen(key) == 5 for key in codes[:2]))
        assert not many.client.exists(*codes[2:])
        found[0] = len(streams)
        wait_until(lambda: is_coded(many))


def test_encoders_that_hang_do_not_use_up_the_threads(
    many: EncoderFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given as many encoders that hang as there are threads
    hung, go_on, threads = threading.Semaphore(2 * cores_of_process()), threading.Event(), []

    def hang(instant: str) -> None:
        if instant == "coding" and hung.acquire(blocking=False):
            threads.append(threading.current_thread().name)
            go_on.wait()

    many.publish(1)
    for stream in many.streams:
        add_points(many.client, stream, blobs(5))
    monkeypatch.setattr(failpoints, "_watcher", hang)
    stop = threading.Event()
    options = {"until_idle": False, "stall": 0.2}
    thread = threading.Thread(target=run, args=(many, stop), kwargs=options)
    thread.start()
    try:
        # Then other threads take their place, and all other streams get their codes
        def coded() -> int:
            return sum(many.client.exists(many.keys.codes(stream)) for stream in many.streams)

        wait_until(lambda: coded() >= len(many.streams) - 2 * cores_of_process())
        assert len(threads) == 2 * cores_of_process()
        go_on.set()
        wait_until(lambda: is_coded(many))
    finally:
        go_on.set()
        stop.set()
        thread.join()
