"""Encoders on real servers: each entry gets its codes once, in order, whatever happens to whom."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import structlog
from structlog.testing import LogCapture, capture_logs

from streamclust import failpoints
from streamclust.encoder.loop import run_encoder
from streamclust.encoder.many import StallWatch
from streamclust.errors import FormatError, ServerError, UnknownModelError
from streamclust.formats.layout import Layout
from streamclust.runtime.activity import Activity
from streamclust.store.model.code_stream import write_codes
from tests.support.clock import Clock
from tests.support.encoder_fixture import CENTROIDS, EncoderFixture
from tests.support.points import add_blocks, add_points, blobs
from tests.support.servers import limited_replies
from tests.support.waiting import wait_until


def nearest(X: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> list[int]:
    distances: list[int] = np.linalg.norm(X[:, None] - CENTROIDS, axis=2).argmin(axis=1).tolist()
    return distances


def test_each_entry_has_a_code_under_its_own_id(fixture: EncoderFixture) -> None:
    X = blobs(100)
    add_points(fixture.client, fixture.stream, X)
    fixture.publish(3)
    [tally] = fixture.drain()
    assert (tally.entries, tally.points, tally.bad, tally.version) == (100, 100, 0, 3)
    found = fixture.codes()
    assert [each.entry_id for each in found] == fixture.ids(fixture.stream)
    assert [int(each.code[0]) for each in found] == nearest(X)
    assert {each.version for each in found} == {3}
    np.testing.assert_allclose(
        [each.distance[0] for each in found],
        np.linalg.norm(X - CENTROIDS[nearest(X)], axis=1),
        rtol=1e-12,
    )


def test_a_block_has_one_entry_of_codes(fixture: EncoderFixture) -> None:
    X = blobs(100)
    add_blocks(fixture.client, fixture.stream, X, block=30)
    fixture.publish(1)
    fixture.drain()
    found = fixture.codes()
    assert [each.entry_id for each in found] == fixture.ids(fixture.stream)
    assert [len(each.code) for each in found] == [30, 30, 30, 10]
    assert np.concatenate([each.code for each in found]).tolist() == nearest(X)


def test_nothing_is_encoded_twice(fixture: EncoderFixture) -> None:
    add_points(fixture.client, fixture.stream, blobs(30))
    fixture.publish(1)
    fixture.drain()
    before = fixture.ids(fixture.keys.codes())
    assert fixture.drain()[0].entries == 0
    add_points(fixture.client, fixture.stream, blobs(5))
    assert fixture.drain()[0].entries == 5
    assert fixture.ids(fixture.keys.codes())[:30] == before
    assert fixture.ids(fixture.keys.codes()) == fixture.ids(fixture.stream)


def test_points_that_cannot_be_read_have_no_code_but_a_reason(
    fixture: EncoderFixture,
) -> None:
    fixture.publish(1, features=("x", "y"))
    for fields in (
        {"x": "spam", "y": "1"},  # also before the first good one
        {"x": "9", "y": "9"},
        {"x": "nan", "y": "1"},
        {"x": "-9", "y": "-9", "key": "k1"},
        {"z": "1"},
    ):
        fixture.client.xadd(fixture.stream, fields)  # type: ignore[arg-type]
    [tally] = fixture.drain()
    assert (tally.entries, tally.points, tally.bad) == (5, 2, 3)
    found = fixture.codes()
    assert [each.code.tolist() for each in found] == [[-1], [2], [-1], [0], [-1]]
    assert [each.reason is None for each in found] == [False, True, False, True, False]
    assert np.isnan(found[0].distance[0])


def test_bad_points_keep_their_place_in_a_block(fixture: EncoderFixture) -> None:
    fixture.encode["top"] = 2
    fixture.publish(1)
    fixture.client.xadd(fixture.stream, {"json": "[[9, 9], [null, 1], [-9, -9], [1], [1, 1]]"})
    fixture.drain()
    [found] = fixture.codes()
    assert found.code.tolist() == [2, -1, 0, -1, 1]
    assert np.isnan(found.distance).tolist() == [False, True, False, True, False]
    assert found.top is not None
    assert found.top.tolist() == [[2, 1], [-1, -1], [0, 1], [-1, -1], [1, 2]]
    assert found.reason is not None


def test_labels_are_repeated(fixture: EncoderFixture) -> None:
    fixture.encode["labels"] = ["key", "host"]
    fixture.more["points"] = {"features": ["x", "y"]}
    fixture.publish(1)
    fixture.client.xadd(fixture.stream, {"key": "a", "x": "1", "y": "1", "host": "h", "other": "o"})
    fixture.client.xadd(fixture.stream, {"x": "9", "y": "9", "key": b"\xff"})
    fixture.drain()
    first, second = fixture.codes()
    assert (first.code.tolist(), first.labels) == ([1], {b"key": b"a", b"host": b"h"})
    assert (second.code.tolist(), second.labels) == ([2], {b"key": b"\xff"})


def test_several_streams_have_codes_each(fixture: EncoderFixture) -> None:
    fixture.streams = (f"{fixture.namespace}-a", f"{fixture.namespace}-b")
    for number, stream in enumerate(fixture.streams):
        add_points(fixture.client, stream, blobs(20, seed=number))
    fixture.publish(1)
    fixture.drain()
    assert not fixture.client.exists(fixture.keys.codes())
    for stream in fixture.streams:
        assert fixture.ids(fixture.keys.codes(stream)) == fixture.ids(stream)


def test_new_versions_are_followed(fixture: EncoderFixture) -> None:
    fixture.publish(1)
    with fixture.encoding():
        add_points(fixture.client, fixture.stream, blobs(10))
        wait_until(lambda: len(fixture.codes()) == 10)
        fixture.publish(2, centroids=CENTROIDS[::-1])
        add_points(fixture.client, fixture.stream, blobs(10))
        wait_until(lambda: len(fixture.codes()) == 20)
    found = fixture.codes()
    assert [each.version for each in found] == [1] * 10 + [2] * 10
    assert [2 - int(each.code[0]) for each in found[10:]] == [
        int(each.code[0]) for each in found[:10]
    ]


def test_an_encoder_that_is_early_waits_and_then_encodes_all(
    fixture: EncoderFixture,
) -> None:
    # Given an encoder without a model, and a feed
    with fixture.encoding():
        wait_until(lambda: fixture.client.exists(fixture.stream))
        add_points(fixture.client, fixture.stream, blobs(50))
        wait_until(lambda: fixture.waits > 0)
        assert not fixture.client.exists(fixture.keys.codes())
        # When the first version comes Then all that it was given has codes
        fixture.publish(1)
        wait_until(lambda: len(fixture.codes()) == 50)
    assert fixture.ids(fixture.keys.codes()) == fixture.ids(fixture.stream)


def test_until_idle_without_a_model_is_an_error(fixture: EncoderFixture) -> None:
    add_points(fixture.client, fixture.stream, blobs(5))
    with pytest.raises(UnknownModelError, match="'m' has not been published"):
        fixture.drain()


def test_what_a_dead_encoder_had_is_taken_over_in_order(fixture: EncoderFixture) -> None:
    # Given an encoder that died with entries in hand, and others after them
    X = blobs(60)
    add_points(fixture.client, fixture.stream, X)
    fixture.publish(1)
    lost = fixture.sleeper().read_new(None).ids
    assert len(lost) == 10
    # When another one encodes Then the lost entries come first
    [tally] = fixture.drain()
    assert (tally.entries, tally.taken_over) == (60, 10)
    assert [int(each.code[0]) for each in fixture.codes()] == nearest(X)
    assert fixture.ids(fixture.keys.codes()) == fixture.ids(fixture.stream)


def test_dead_encoders_do_not_stay_in_the_group(fixture: EncoderFixture) -> None:
    # Given encoders that died, one of them with entries in hand
    add_points(fixture.client, fixture.stream, blobs(60))
    fixture.publish(1)
    members = [fixture.sleeper() for _ in range(4)]
    for member in members:
        member.acknowledge(member.read_new(None).ids)
    lost = members[0].read_new(None).ids
    assert lost

    def consumers() -> set[str]:
        found: Any = fixture.client.xinfo_consumers(fixture.stream, fixture.keys.encoders)
        return {each["name"].decode() for each in found}

    # When another one works Then it is soon the only member, and every entry has its codes
    with fixture.encoding():
        wait_until(lambda: not consumers() & {member.name for member in members})
        wait_until(lambda: pending(fixture) == 0)
    assert set(fixture.ids(fixture.keys.codes())) >= {entry_id.decode() for entry_id in lost}
    # and who leaves in order leaves nothing
    assert consumers() == set()


def test_an_encoder_that_slept_finds_its_entries_done(fixture: EncoderFixture) -> None:
    add_points(fixture.client, fixture.stream, blobs(40))
    fixture.publish(1)
    sleeper = fixture.sleeper()
    had = sleeper.read_new(None)
    fixture.drain()
    codes = fixture.ids(fixture.keys.codes())
    # When it wakes and writes what it had worked out Then nothing is there twice
    late = [(entry_id, [b"code", b"7"]) for entry_id, _ in had.entries]
    assert write_codes(fixture.client, fixture.keys.codes(), late, 1000) == 0
    sleeper.acknowledge(had.ids)
    assert fixture.ids(fixture.keys.codes()) == codes
    assert sleeper.idle


def test_entries_wait_for_the_living(fixture: EncoderFixture) -> None:
    # Given an encoder at work on the first entries
    fixture.encode["takeover"] = "1h"
    add_points(fixture.client, fixture.stream, blobs(30))
    fixture.publish(1)
    busy = fixture.sleeper()
    had = busy.read_new(None)
    with fixture.encoding():
        # When another one has the next Then it waits for its turn
        wait_until(lambda: pending(fixture) > len(had.ids) and fixture.waits > 0)
        assert not fixture.client.exists(fixture.keys.codes())
        # and takes it as soon as the first one has written
        first = [(entry_id, [b"code", b"1"]) for entry_id in had.ids]
        write_codes(fixture.client, fixture.keys.codes(), first, 1000)
        wait_until(lambda: fixture.ids(fixture.keys.codes()) == fixture.ids(fixture.stream))


def pending(fixture: EncoderFixture) -> int:
    summary: Any = fixture.client.xpending(fixture.stream, fixture.keys.encoders)
    return int(summary["pending"])


def test_asked_to_leave_while_it_waits_it_hands_back(fixture: EncoderFixture) -> None:
    fixture.encode["takeover"] = "1h"
    add_points(fixture.client, fixture.stream, blobs(60))
    fixture.publish(1)
    busy = fixture.sleeper()
    had = busy.read_new(None)
    with fixture.encoding():
        # that has read on, too
        wait_until(lambda: pending(fixture) > len(had.ids) + 20 and fixture.waits > 0)
        held = pending(fixture) - len(had.ids)
    # Then another one gets at once what it had, although it would wait for the busy one
    other = fixture.sleeper()
    assert other.take_over(3_600_000)[0] == held
    assert not fixture.client.exists(fixture.keys.codes())


def test_entries_that_are_gone_are_a_gap(fixture: EncoderFixture) -> None:
    add_points(fixture.client, fixture.stream, blobs(30))
    fixture.publish(1)
    lost = fixture.sleeper().read_new(None).ids
    fixture.client.xdel(fixture.stream, *lost[:4])
    [tally] = fixture.drain()
    assert (tally.gone, tally.entries) == (4, 26)
    assert fixture.ids(fixture.keys.codes()) == fixture.ids(fixture.stream)
    assert pending(fixture) == 0


def test_entries_that_were_trimmed_unseen_are_a_gap(fixture: EncoderFixture) -> None:
    # Given an encoder that comes back when the first 40 of 60 new entries have been trimmed
    add_points(fixture.client, fixture.stream, blobs(30))
    fixture.publish(1)
    fixture.drain()
    add_points(fixture.client, fixture.stream, blobs(60))
    fixture.client.xtrim(fixture.stream, 20, approximate=False)
    counts = "entries-added" in fixture.client.xinfo_stream(fixture.stream)
    [tally] = fixture.drain()
    assert tally.entries == 20
    assert (tally.gone, tally.unknown_gaps) == ((40, 0) if counts else (0, 1))
    # and again, so that it is told once
    [tally] = fixture.drain()
    assert (tally.gone, tally.unknown_gaps) == (0, 0)


def test_an_entry_that_is_too_large_has_no_code_but_a_reason(
    fixture: EncoderFixture,
) -> None:
    # Given large entries among small ones, of which one is larger than is read
    fixture.more = {"batch": {"size": 20, "max_entry_bytes": 1 << 20}}
    fixture.publish(1)
    sizes = [1, 2, 30_000, 30_000, 100_000, 30_000, 40_000, 2, 1]
    for seed, n in enumerate(sizes):
        add_blocks(fixture.client, fixture.stream, blobs(n, seed=seed), block=n)
    [tally] = fixture.drain()
    # Then all others have their codes, and that one says why it has none
    good = [n for n in sizes if n < 100_000]
    assert (tally.entries, tally.points, tally.bad) == (len(sizes), sum(good), 1)
    assert fixture.ids(fixture.keys.codes()) == fixture.ids(fixture.stream)
    found = fixture.codes()
    assert [len(each.code) for each in found] == [n if n < 100_000 else 1 for n in sizes]
    assert found[4].code.tolist() == [-1]
    assert found[4].reason == "more than 1048576 bytes are not read (batch.max_entry_bytes)"
    assert pending(fixture) == 0


def test_many_encoders_share_a_feed(fixture: EncoderFixture) -> None:
    X = blobs(600)
    add_points(fixture.client, fixture.stream, X)
    fixture.publish(1)
    stop = threading.Event()
    tallies = []
    threads = [
        threading.Thread(target=lambda: tallies.append(run_encoder(fixture.jobs(stop)[0])))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fixture.ids(fixture.keys.codes()) == fixture.ids(fixture.stream)
    assert [int(each.code[0]) for each in fixture.codes()] == nearest(X)
    assert sum(tally.entries for tally in tallies) == 600


def test_a_stream_that_was_deleted_is_joined_again(fixture: EncoderFixture) -> None:
    fixture.publish(1)
    with fixture.encoding():
        add_points(fixture.client, fixture.stream, blobs(5))
        wait_until(lambda: len(fixture.codes()) == 5)
        fixture.client.delete(fixture.stream)
        add_points(fixture.client, fixture.stream, blobs(5))
        wait_until(lambda: len(fixture.codes()) == 10)


def test_start_latest_leaves_out_what_was_there(fixture: EncoderFixture) -> None:
    fixture.more["start"] = "latest"
    add_points(fixture.client, fixture.stream, blobs(5))
    fixture.publish(1)
    fixture.drain()
    assert not fixture.client.exists(fixture.keys.codes())
    add_points(fixture.client, fixture.stream, blobs(7))
    assert fixture.drain()[0].entries == 7


def test_a_stream_of_another_type_is_said(fixture: EncoderFixture) -> None:
    fixture.client.set(fixture.stream, "x")
    fixture.publish(1)
    with pytest.raises(ServerError, match="WRONGTYPE"):
        fixture.drain()


def test_large_replies_that_are_cut_off_are_read_in_parts(fixture: EncoderFixture) -> None:
    fixture.publish(1)
    with fixture.client as client:
        add_blocks(client, fixture.stream, blobs(36_000), block=3000)  # 48 kB each
        with limited_replies(client, 1 << 17), fixture.encoding():
            wait_until(lambda: client.xlen(fixture.keys.codes()) == 12)
        assert fixture.ids(fixture.keys.codes()) == fixture.ids(fixture.stream)


# ---- settings and streams that don't fit what was learned


LEARNED = Layout("json", "json", None, ("x", "y"), 2, strict=False)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"points": {"features": ["y", "x"]}}, "points.features"),
        ({"points": {"features": ["x"]}}, "points.features"),
        ({"points": {"n_features": 3}}, "points.n_features"),
        ({"points": {"format": "float32"}}, "points.format"),
        ({"points": {"weight_field": "w"}}, "points.weight_field"),
        ({"scale": "standard"}, "scale"),
    ],
)
def test_settings_that_change_the_meaning_of_points_are_refused(
    fixture: EncoderFixture, changed: dict[str, Any], text: str
) -> None:
    position = {fixture.stream: "0-0"}
    fixture.publish(2, features=("x", "y"), position=position, layout=LEARNED, scale="none")
    fixture.client.xadd(fixture.stream, {"json": "[1, 1]"})
    fixture.more = changed
    with pytest.raises(FormatError, match=f"version 2 of 'm' was learned with {text} .*new name$"):
        fixture.drain()
    assert not fixture.client.exists(fixture.keys.codes())
    # Then another encoder, with the right settings, gives all entries their codes
    fixture.more = {"points": {"features": ["x", "y"], "format": "json"}}
    assert fixture.drain()[0].entries == 1


def test_a_model_of_before_is_known_by_its_features(fixture: EncoderFixture) -> None:
    fixture.publish(1, features=("x", "y"))
    fixture.client.xadd(fixture.stream, {"x": 1, "y": 1})
    fixture.more = {"points": {"features": ["y", "x"]}}
    with pytest.raises(FormatError, match=r"points\.features"):
        fixture.drain()


def test_entries_are_read_as_the_model_learned_them(fixture: EncoderFixture) -> None:
    # Given a stream of JSON that was learned, which holds named fields now
    layout = replace(LEARNED, features=())
    fixture.publish(1, position={fixture.stream: "0-0"}, layout=layout)
    fixture.client.xadd(fixture.stream, {"b": "9", "a": "9"})
    fixture.client.xadd(fixture.stream, {"json": "[9, 9]"})
    fixture.drain()
    # Then nothing is taken for features that they are not
    assert [each.code.tolist() for each in fixture.codes()] == [[-1], [2]]


def test_a_stream_that_is_only_encoded_may_have_another_format(
    fixture: EncoderFixture,
) -> None:
    fixture.publish(1, position={"learned": "0-0"}, layout=LEARNED, features=("x", "y"))
    fixture.more = {"streams": ["learned"], "points": {"format": "fields"}}
    fixture.encode["streams"] = [fixture.stream]
    fixture.client.xadd(fixture.stream, {"y": "-9", "x": "-9"})
    fixture.drain()
    assert [each.code.tolist() for each in fixture.codes()] == [[0]]


# ---- a model that is begun anew


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"version": 7, "model_id": 4}, {"version": 1, "model_id": 9}),
        ({"version": 7, "model_id": 4}, {"version": 7, "model_id": 9}),
        ({"version": 7, "model_id": 4}, {"version": 8, "model_id": 9}),
        ({"version": 7}, {"version": 1}),
        ({"version": 7}, {"version": 7}),
    ],
    ids=["lower", "equal", "higher", "lower, of before", "equal, of before"],
)
def test_a_model_that_was_begun_anew_is_noticed(
    fixture: EncoderFixture, first: dict[str, int], then: dict[str, int]
) -> None:
    # Given an encoder at work with a model
    fixture.publish(**first)
    with capture_logs() as logged, fixture.encoding():
        add_points(fixture.client, fixture.stream, blobs(10))
        wait_until(lambda: len(fixture.codes()) == 10)
        # When the model is begun anew Then the encoder says so
        fixture.begin_anew(**then, centroids=CENTROIDS[::-1])
        wait_until(lambda: any(each["event"] == "model_replaced" for each in logged))
        [said] = [each for each in logged if each["event"] == "model_replaced"]
        # and codes with the new one, and readers can tell the two apart
        add_points(fixture.client, fixture.stream, blobs(10))
        wait_until(lambda: len(fixture.codes()) == 20)
    assert (said["version"], said["previous_version"]) == (then["version"], 7)
    found = fixture.codes()
    assert [each.version for each in found] == [7] * 10 + [then["version"]] * 10
    assert [each.model_id for each in found] == [0] * 10 + [then.get("model_id", 0)] * 10
    old, new = ([int(each.code[0]) for each in part] for part in (found[:10], found[10:]))
    assert [2 - code for code in new] == old


def test_until_another_model_has_a_version_the_last_one_is_used(
    fixture: EncoderFixture,
) -> None:
    fixture.publish(7)
    with fixture.encoding():
        add_points(fixture.client, fixture.stream, blobs(10))
        wait_until(lambda: len(fixture.codes()) == 10)
        fixture.client.delete(fixture.keys.models, fixture.keys.state)
        add_points(fixture.client, fixture.stream, blobs(10))
        wait_until(lambda: len(fixture.codes()) == 20)
    assert {each.version for each in fixture.codes()} == {7}


def test_another_model_whose_features_differ_ends_the_encoder(
    fixture: EncoderFixture,
) -> None:
    fixture.more = {"points": {"features": ["x", "y"]}}
    fixture.publish(7, features=("x", "y"))
    [job] = fixture.jobs(threading.Event(), until_idle=False)
    failures: list[Exception] = []

    def encode() -> None:
        try:
            run_encoder(job)
        except FormatError as error:
            failures.append(error)

    encoder = threading.Thread(target=encode)
    encoder.start()
    fixture.client.xadd(fixture.stream, {"x": "9", "y": "9"})
    wait_until(lambda: len(fixture.codes()) == 1)
    fixture.begin_anew(1, features=("y", "x"))
    encoder.join(30.0)
    assert "points.features ['y', 'x']" in str(failures[0])


@pytest.mark.parametrize("block", [1, 3])
@pytest.mark.parametrize("label", [False, True])
@pytest.mark.parametrize("top", [1, 2])
def test_each_entry_of_codes_repeats_the_id(
    fixture: EncoderFixture, block: int, label: bool, top: int
) -> None:
    fixture.encode = {"labels": ["key"] if label else [], "top": top}
    fixture.publish(1, model_id=77)
    for n in range(4):
        fields: Any = {"json": str([[n, n]] * block)} | ({"key": f"k{n}"} if label else {})
        fixture.client.xadd(fixture.stream, fields)
    fixture.drain()
    assert [each.model_id for each in fixture.codes()] == [77] * 4
    assert [bool(each.labels) for each in fixture.codes()] == [label] * 4


def test_entries_of_an_encoder_that_hangs_go_to_another(
    fixture: EncoderFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an encoder that hangs with entries in its hands
    hung, go_on = threading.Event(), threading.Event()

    def hang(instant: str) -> None:
        held = fixture.client.xpending(fixture.stream, fixture.keys.encoders)["pending"]
        if instant == "coding" and held and not hung.is_set():
            hung.set()
            go_on.wait(30.0)

    fixture.publish(1)
    add_points(fixture.client, fixture.stream, blobs(60))
    monkeypatch.setattr(failpoints, "_watcher", hang)
    with fixture.encoding():
        wait_until(hung.is_set)
        # When another one comes Then it takes them over, and does the rest
        [tally] = fixture.drain()
        assert tally.taken_over > 0
        assert fixture.ids(fixture.keys.codes()) == fixture.ids(fixture.stream)
        # and the first changes nothing when it comes to itself
        go_on.set()
        wait_until(
            lambda: not fixture.client.xpending(fixture.stream, fixture.keys.encoders)["pending"]
        )
    assert fixture.ids(fixture.keys.codes()) == fixture.ids(fixture.stream)


def test_an_encoder_without_progress_is_named_in_the_log(fixture: EncoderFixture) -> None:
    clock, logged = Clock(), LogCapture()
    log = structlog.wrap_logger(structlog.PrintLogger(), [logged], structlog.BoundLogger)
    [job] = fixture.jobs(threading.Event())
    job = replace(job, activity=Activity(clock), log=log)
    watch = StallWatch([job], 600.0)
    for seconds in (600.0, 1.0, 5.0):
        clock.now += seconds
        watch.look()
    job.activity.record_progress()
    watch.look()
    assert [(entry["event"], entry.get("error")) for entry in logged.entries] == [
        (
            "encoder_stalled",
            "the encoder has made no progress for 601 s (worker.stall)",
        ),
        ("encoder_resumed", None),
    ]
