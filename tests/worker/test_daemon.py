"""The life of a worker: it learns, is stopped or killed, goes on, and drains what is there.

Each worker is a process of its own, started as a user starts it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from redis import Redis

from streamclust.store.connect import Address, open_server
from tests.waiting import wait_until
from tests.worker.harness import (
    LIMIT,
    STREAMCLUST,
    OwnServer,
    Site,
    Worker,
    add_blocks,
    add_points,
    blobs,
    environment,
    kmeans,
    mixture,
    own_server,
)

BACKLOG = 60_000
BATCH = 60  # whole batches only, so that no boundary depends on how long a feed pauses
SMALL = {"batch": {"size": BATCH, "linger": "30s"}, "commit": {"points": 600, "every": "1h"}}
RARE = {"publish": {"points": 6000, "every": "1h"}}


@pytest.fixture
def site(tmp_path: Path, valkey_url: str, namespace: str) -> Site:
    return Site(tmp_path, valkey_url, namespace)


@pytest.fixture
def any_site(tmp_path: Path, server_url: str, namespace: str) -> Site:
    """On each kind of server in turn."""
    return Site(tmp_path, server_url, namespace)


# ---- restarts: the state is that of an undisturbed run, bit for bit


def backlog_models() -> dict[str, dict[str, object]]:
    """Both families, without and with forgetting, on one stream."""
    slow = {**SMALL, **RARE}
    by_points = {"kind": "points", "half_life": 5000}
    return {
        "plain": kmeans("backlog", **slow),
        "fading": kmeans("backlog", forgetting=by_points, **slow),
        "mixed": mixture("backlog", **slow),
        "mixed-fading": mixture("backlog", forgetting=by_points, **slow),
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, valkey_url: str) -> Site:
    """The backlog, and what one undisturbed run makes of it."""
    site = Site(tmp_path_factory.mktemp("undisturbed"), valkey_url, "undisturbed")
    with site.client as client:
        add_blocks(client, "backlog", blobs(BACKLOG))
    site.write(backlog_models()).drain()
    return site


def assert_same(site: Site, undisturbed: Site) -> None:
    for model in backlog_models():
        assert site.state(model) == undisturbed.state(model)
        assert site.committed(model) == BACKLOG


def in_the_middle(site: Site) -> bool:
    return any(0 < site.committed(model) < BACKLOG for model in backlog_models())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_leave_it_commits_and_publishes_and_later_goes_on(
    undisturbed: Site, tmp_path: Path, namespace: str, number: signal.Signals
) -> None:
    # Given a worker in the middle of a backlog
    site = Site(tmp_path, undisturbed.url, namespace).write(backlog_models())
    with Worker(site) as worker:
        worker.wait(lambda: site.committed("plain") > BACKLOG // 10)
        # When it is told to leave
        assert worker.leave(number) == 0
        assert worker.events("worker stopped")
    # Then all that it learned is committed and published
    assert in_the_middle(site)
    for model in backlog_models():
        newest = site.newest(model)
        assert newest.reason == "leave"
        assert newest.points == site.committed(model)
        assert newest.position == site.position(model)
    # and a restart goes on from there to where an undisturbed run gets
    before = site.committed("plain")
    site.drain()
    assert site.versions("plain")[-1].points == BACKLOG > before
    assert_same(site, undisturbed)


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_again_and_again_it_learns_each_point_once(
    undisturbed: Site, tmp_path: Path, namespace: str, seed: int
) -> None:
    # Given workers that are killed at random places of a backlog
    site = Site(tmp_path, undisturbed.url, namespace).write(backlog_models())
    marks = sorted(random.Random(seed).sample(range(BACKLOG // 50, BACKLOG // 2), 2))
    for mark in marks:
        with Worker(site) as worker:
            worker.wait(lambda mark=mark: site.committed("plain") > mark)
            worker.kill()
        assert in_the_middle(site)
    # When another one is left in peace
    site.drain()
    # Then the models are those of an undisturbed run
    assert_same(site, undisturbed)
    assert [model.version for model in site.versions("plain")] == list(
        range(1, site.newest("plain").version + 1)
    )


def test_the_second_signal_ends_it_at_once(tmp_path: Path, namespace: str) -> None:
    # Given a worker that can't finish, because the server doesn't answer
    with own_server(tmp_path) as server:
        site = Site(tmp_path, server.url, namespace).write({"m": kmeans("points")})
        with Worker(site) as worker:
            worker.says("new model")
            server.send(signal.SIGSTOP)
            # When it gets two signals
            worker.send(signal.SIGINT, signal.SIGTERM)
            # Then it ends without an answer
            assert worker.exit_code() == 130


def test_an_embedded_server_outlives_ctrl_c_until_all_is_written(
    tmp_path: Path, namespace: str
) -> None:
    # Given a worker with a server of its own, in a terminal's process group
    site = Site(tmp_path, "embedded", namespace).write({"m": kmeans("points")})
    with Worker(site) as worker:
        worker.says("new model")
        # the client's share ends first, and the server stays
        with open_server(Address("embedded", tmp_path / ".streamclust")) as server:
            add_blocks(server.client(), "points", blobs(600))
            worker.says("published")
        # When Ctrl-C ends it
        assert worker.leave(signal.SIGINT) == 0
    # Then what it learned is on disk
    site.drain()
    with open_server(Address("embedded", tmp_path / ".streamclust")) as server:
        state = server.client().get(site.keys("m").state)
        assert state is not None
        assert b'\\"points\\":600' in state


# ---- until idle


def test_until_idle_leaves_at_once_when_there_is_nothing(any_site: Site) -> None:
    # Given a stream that is missing, and one whose entries are gone
    missing, emptied = any_site.stream("missing"), any_site.stream("emptied")
    with any_site.client as client:
        client.xdel(emptied, client.xadd(emptied, {"x": "1"}))  # type: ignore[arg-type]
        any_site.write({"a": kmeans(missing), "b": kmeans(emptied)})
        # When it is drained Then there is a state, no model, and no stream that nobody made
        any_site.drain()
        assert client.exists(missing) == 0
    assert any_site.versions("a") == any_site.versions("b") == []
    assert any_site.position("a") == {missing: "0-0"}


def test_until_idle_makes_do_with_fewer_points_than_the_warm_up(any_site: Site) -> None:
    stream, X = any_site.stream(), blobs(59)
    with any_site.client as client:
        add_points(client, stream, X)
    any_site.write({"few": kmeans(stream), "few-mixed": mixture(stream)}).drain()
    for name in ("few", "few-mixed"):
        model = any_site.newest(name)
        assert (model.version, model.reason, model.points) == (1, "start", 59)
        assert model.features == ("x0", "x1")
        assert len(set(model.predict(X).tolist())) == 3


def test_until_idle_says_when_there_are_too_few_distinct_points(site: Site) -> None:
    stream = site.stream()
    with site.client as client:
        add_points(client, stream, np.repeat(blobs(2), 50, axis=0))
    done = site.write({"m": kmeans(stream)}).drain()
    warnings = [json.loads(line) for line in done.stderr.splitlines() if "warming up" in line]
    assert [line["level"] for line in warnings] == ["warning"]
    assert "2 distinct points are too few for 3 components" in warnings[0]["reason"]
    assert site.versions("m") == []
    # and the third distinct point is all that was missing
    with site.client as client:
        add_points(client, stream, np.array([[5.0, 5.0]]))
    site.drain()
    assert site.newest("m").points == 101


# ---- several models, several streams


def test_several_models_and_streams_in_one_worker(any_site: Site) -> None:
    # Given two streams, and models on the one, the other, and both
    left, right = any_site.stream("left"), any_site.stream("right")
    with any_site.client as client:
        add_blocks(client, left, blobs(3000, seed=1))
        add_points(client, right, blobs(90, seed=2, D=3))
        add_blocks(client, left + "2", blobs(900, seed=3))
        last = {s: any_last(client, s) for s in (left, right, left + "2")}
        # When one worker learns them
        both = kmeans(left, left + "2")
        any_site.write({"l": kmeans(left), "r": mixture(right), "both": both}).drain()
        # Then each has its own points, and its position covers all of its streams
        assert any_site.newest("l").points == 3000
        assert any_site.newest("r").points == 90
        assert any_site.newest("r").means.shape == (3, 3)
        assert any_site.newest("both").points == 3900
        assert any_site.newest("both").position == {s: last[s] for s in (left, left + "2")}
        assert any_site.newest("both").mass.sum() == pytest.approx(3900, abs=1e-6)
        # and each stream's groups stand where the models do
        groups = {group["name"].decode(): group for group in client.xinfo_groups(left)}  # type: ignore[union-attr]
        for model in ("l", "both"):
            group = groups[any_site.keys(model).group]
            assert group["last-delivered-id"].decode() == last[left]


def any_last(client: Redis, stream: str) -> str:
    return str(client.xinfo_stream(stream)["last-generated-id"].decode())  # type: ignore[index]


# ---- live


def test_points_that_arrive_while_it_runs_appear_in_a_new_version(any_site: Site) -> None:
    # Given a worker on an empty stream that publishes by time
    stream = any_site.stream()
    live = kmeans(stream, publish={"every": "200ms"}, commit={"every": "100ms"})
    any_site.write({"m": live})
    with Worker(any_site) as worker, any_site.client as client:
        worker.says("new model")
        # When the warm-up is there Then the first version comes without waiting for more
        add_points(client, stream, blobs(60))
        assert worker.says("published")["version"] == 1
        assert any_site.newest("m").reason == "start"
        # and a trickle is published by time
        for version in (2, 3):
            add_points(client, stream, blobs(1, seed=version))
            assert worker.says("published", version)["points"] == 58 + version + 1
        assert any_site.newest("m").reason == "step"
        assert worker.leave() == 0
    # and leaving publishes nothing twice
    assert any_site.newest("m").version == 3


def test_a_model_that_waits_for_points_writes_no_more_than_it_must(site: Site) -> None:
    # Given a model whose warm-up never ends, and short cadences
    stream = site.stream()
    idle = kmeans(stream, publish={"every": "50ms"}, commit={"every": "50ms"})
    site.write({"m": idle, "other": idle})
    with Worker(site) as worker, site.client as client:
        worker.says("new model", 2)
        add_points(client, stream, blobs(10))
        worker.wait(lambda: site.committed("m") == 10)
        # When its heart beats on Then there is nothing more to commit
        with client.monitor() as monitor:
            commands = monitor.listen()
            group = f"XGROUP SETID {stream} {site.keys('m').group}"
            beats = 0
            while beats < 3:
                command = next(commands)["command"]
                beats += command.startswith(f"SET {site.keys('m').health}")
                assert not command.startswith(group)


# ---- forgetting in event time


def test_a_replay_forgets_exactly_alike(site: Site) -> None:
    # Given entries a second apart by their IDs, and a half-life of ten seconds
    stream, n = site.stream(), 300
    with site.client as client:
        add_points(client, stream, blobs(n), first_id=1_600_000_000_000)
    by_time = {"kind": "time", "half_life": "10s"}
    settings = kmeans(stream, forgetting=by_time, batch={"size": 20}, publish={"points": 100})
    # When two fresh models learn them
    site.write({"once": settings, "again": settings}).drain()
    # Then they are the same to the last bit
    assert site.state("once") == site.state("again")
    assert site.newest("once").time_ms == 1_600_000_000_000 + 1000 * (n - 1)
    # and 60 warm-up points and 12 batches of 20 faded by two half-lives a batch
    expected = 60 * 0.25**12 + sum(20 * 0.25**age for age in range(12))
    assert site.newest("once").mass.sum() == pytest.approx(expected, rel=1e-9)


# ---- what can't be learned


def bad_entries(client: Redis, stream: str) -> dict[str, str]:
    """Add entries of which none has a good point; return ID -> a word of the reason."""
    entries = {
        "not finite": {"x0": "nan", "x1": "1"},
        "not finite: -inf": {"x0": "1", "x1": "-inf"},
        "x1": {"x0": "1"},
        "x2": {"x0": "1", "x1": "2", "x2": "3"},
        "number": {"x0": "one", "x1": "2"},
    }
    return {client.xadd(stream, f).decode(): why for why, f in entries.items()}  # type: ignore[arg-type,union-attr]


def test_what_cannot_be_learned_is_kept_with_its_reason(any_site: Site) -> None:
    # Given bad entries among good ones, as named fields
    stream = any_site.stream()
    with any_site.client as client:
        first = bad_entries(client, stream)
        add_points(client, stream, blobs(100))
        later = bad_entries(client, stream)
        add_points(client, stream, blobs(100, seed=1))
    # When they are learned Then the good ones count
    any_site.write({"m": kmeans(stream)}).drain()
    assert any_site.newest("m").points == 200
    # and each bad one is there once, with where it came from and why
    letters = any_site.dead("m")
    assert {letter[b"stream"].decode() for letter in letters} == {stream}
    reasons = {letter[b"id"].decode(): letter[b"reason"].decode() for letter in letters}
    assert len(letters) == len(reasons) == 10
    assert list(reasons) == [*first, *later]
    for entry_id, word in later.items():
        assert word in reasons[entry_id]


def test_a_bad_point_costs_only_itself_and_not_its_block(any_site: Site) -> None:
    # Given raw blocks with one point of infinity, one of NaN, and a cut end
    stream, X = any_site.stream(), blobs(90)
    X[40, 1], X[60, 0] = np.inf, np.nan
    with any_site.client as client:
        add_blocks(client, stream, X)
        cut = client.xadd(stream, {"f8": blobs(3).tobytes()[:-3], "d": "2"})
        other = client.xadd(stream, {"f8": blobs(3, D=3).tobytes(), "d": "3"})
    # When they are learned
    any_site.write({"m": kmeans(stream)}).drain()
    # Then the rest of each block is in the model
    assert any_site.newest("m").points == 88 + 2
    letters = [(letter[b"index"], letter[b"reason"]) for letter in any_site.dead("m")]
    assert letters == [
        (b"10", b"not finite: inf at feature 1"),
        (b"0", b"not finite: nan at feature 0"),
        (b"2", b"truncated: the last point has 13 of 16 bytes"),
        (b"-1", b"wrong length: d=3, expected 2"),
    ]
    assert [letter[b"id"] for letter in any_site.dead("m")[2:]] == [cut, other]


def test_one_entry_of_many_bad_points_does_not_stop_the_model(any_site: Site) -> None:
    stream = any_site.stream()
    with any_site.client as client:
        add_blocks(client, stream, blobs(90))
        client.xadd(stream, {"f8": np.full(500_000, np.nan).tobytes(), "d": "2"})
        add_blocks(client, stream, blobs(90))
    any_site.write({"m": kmeans(stream, dead={"keep": 100})}).drain()
    assert any_site.newest("m").points == 180
    assert len(any_site.dead("m")) == 100
    with any_site.client as client:
        newest = client.xrevrange(any_site.keys("m").dead, count=1)
    assert newest[0][0] == b"250000-0"  # type: ignore[index]


def test_given_centroids_say_the_length_of_a_point(site: Site) -> None:
    # Given a model that starts from centroids in two dimensions
    stream = site.stream()
    given = {"kind": "parameters", "centroids": [[-10, -10], [0, 0], [10, 10]]}
    with site.client as client:
        client.xadd(stream, {"f8": blobs(1, D=3).tobytes(), "d": "3"})
        add_blocks(client, stream, blobs(30))
    # When the first entry has three Then it is refused, and the others are learned
    site.write({"m": {**kmeans(stream), "init": given}}).drain()
    assert site.newest("m").points == 30
    assert len(site.dead("m")) == 1


# ---- logs


def test_logs_are_json_lines_on_a_pipe_and_text_on_request(site: Site) -> None:
    stream = site.stream()
    with site.client as client:
        add_points(client, stream, blobs(60))
    done = site.write({"m": kmeans(stream)}).drain()
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == [
        "worker started",
        "new model",
        "warm-up done",
        "published",
        "worker stopped",
    ]
    assert {line["level"] for line in lines} == {"info"}
    assert {line.get("model", "m") for line in lines} == {"m"}
    assert done.stdout == ""
    human = site.write({"m": kmeans(stream)}, log={"format": "human"}).drain()
    assert "worker stopped" in human.stderr
    assert "{" not in human.stderr
    assert "\x1b" not in human.stderr
    assert site.write({"m": kmeans(stream)}, log={"level": "warning"}).drain().stderr == ""


# ---- bounds


def peak_memory(site: Site, points: int) -> int:
    """Return the kilobytes that a worker needs at most to drain so many points."""
    stream = site.stream(str(points))
    with site.client as client:
        add_blocks(client, stream, blobs(points, D=8), block=500)
    site.write({f"m{points}": kmeans(stream)})
    process = subprocess.Popen(
        [STREAMCLUST, "worker", "--until-idle"],
        cwd=site.folder,
        env=environment(),
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert site.committed(f"m{points}") == points
    return usage.ru_maxrss


def test_memory_does_not_grow_with_the_backlog(site: Site) -> None:
    grown = peak_memory(site, 400_000) - peak_memory(site, 50_000)
    assert grown < 8_000  # the larger backlog has 22,400 KB more of points
