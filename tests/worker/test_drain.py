"""What a worker makes of what is there: with `--until-idle` it learns all of it and leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from redis import Redis

from tests.support.model_settings import kmeans, mixture
from tests.support.points import add_blocks, add_entry, add_points, blobs
from tests.support.workers import WorkerProcess, drain
from tests.support.workspace import Workspace

# ---- until idle


def test_until_idle_leaves_at_once_when_there_is_nothing(workspace: Workspace) -> None:
    # Given a stream whose entries are gone
    emptied = workspace.stream("emptied")
    with workspace.client as client:
        client.xadd(emptied, {"x": "1"}, id="5-0")
        client.xtrim(emptied, 0)
    # When it is drained Then there is a state, and no model
    drain(workspace.write({"m": kmeans(emptied)}))
    assert workspace.versions("m") == []
    assert list(workspace.position("m")) == [emptied]


def test_until_idle_makes_do_with_fewer_points_than_the_warm_up(workspace: Workspace) -> None:
    stream, X = workspace.stream(), blobs(59)
    with workspace.client as client:
        add_points(client, stream, X)
    workspace.write({"few": kmeans(stream), "few-mixed": mixture(stream)}).drain()
    for name in ("few", "few-mixed"):
        model = workspace.newest(name)
        assert (model.version, model.reason, model.points) == (1, "start", 59)
        assert model.features == ("x0", "x1")
        assert len(set(model.predict(X).tolist())) == 3


def test_until_idle_says_when_there_are_too_few_distinct_points(workspace: Workspace) -> None:
    stream = workspace.stream()
    with workspace.client as client:
        add_points(client, stream, np.repeat(blobs(2), 50, axis=0))
    warnings = drain(workspace.write({"m": kmeans(stream)})).events("warm_up_delayed")
    assert [line["log_level"] for line in warnings] == ["warning"]
    assert "2 distinct points are too few for 3 components" in warnings[0]["reason"]
    assert workspace.versions("m") == []
    # and the third distinct point is all that was missing
    with workspace.client as client:
        add_points(client, stream, np.array([[5.0, 5.0]]))
    drain(workspace)
    assert workspace.newest("m").points == 101


# ---- several models, several streams


def test_several_models_and_streams_in_one_worker(any_workspace: Workspace) -> None:
    # Given two streams, and models on the one, the other, and both
    left, right = any_workspace.stream("left"), any_workspace.stream("right")
    with any_workspace.client as client:
        add_blocks(client, left, blobs(3000, seed=1))
        add_points(client, right, blobs(90, seed=2, D=3))
        add_blocks(client, left + "2", blobs(900, seed=3))
        last = {s: last_id(client, s) for s in (left, right, left + "2")}
        # When one worker learns them
        both = kmeans(left, left + "2")
        any_workspace.write({"l": kmeans(left), "r": mixture(right), "both": both}).drain()
        # Then each has its own points, and its position covers all of its streams
        assert any_workspace.newest("l").points == 3000
        assert any_workspace.newest("r").points == 90
        assert any_workspace.newest("r").means.shape == (3, 3)
        assert any_workspace.newest("both").points == 3900
        assert any_workspace.newest("both").position == {s: last[s] for s in (left, left + "2")}
        assert any_workspace.newest("both").mass.sum() == pytest.approx(3900, abs=1e-6)
        # and each stream's groups stand where the models do
        found: Any = client.xinfo_groups(left)
        groups = {group["name"].decode(): group for group in found}
        for model in ("l", "both"):
            group = groups[any_workspace.keys(model).group]
            assert group["last-delivered-id"].decode() == last[left]


def last_id(client: Redis, stream: str) -> str:
    info: Any = client.xinfo_stream(stream)
    return str(info["last-generated-id"].decode())


# ---- forgetting in event time


def test_a_replay_forgets_exactly_alike(workspace: Workspace) -> None:
    # Given entries a second apart by their IDs, and a half-life of ten seconds
    stream, n = workspace.stream(), 300
    with workspace.client as client:
        add_points(client, stream, blobs(n), first_id=1_600_000_000_000)
    by_time = {"kind": "time", "half_life": "10s"}
    settings = kmeans(stream, forgetting=by_time, batch={"size": 20}, publish={"points": 100})
    # When two fresh models learn them
    workspace.write({"once": settings, "again": settings}).drain()
    # Then they are the same to the last bit
    assert workspace.state("once") == workspace.state("again")
    assert workspace.newest("once").time_ms == 1_600_000_000_000 + 1000 * (n - 1)
    # and 60 warm-up points and 12 batches of 20 faded by two half-lives a batch
    expected = 60 * 0.25**12 + sum(20 * 0.25**age for age in range(12))
    assert workspace.newest("once").mass.sum() == pytest.approx(expected, rel=1e-9)


# ---- what can't be learned


def bad_entries(client: Redis, stream: str) -> dict[str, str]:
    """Add entries without a good point; return ID -> a word of the reason."""
    entries = {
        "not finite: nan": {"x0": "nan", "x1": "1"},
        "not finite: -inf": {"x0": "1", "x1": "-inf"},
        "'x1'": {"x0": "1"},
        "'x2'": {"x0": "1", "x1": "2", "x2": "3"},
        "'one'": {"x0": "one", "x1": "2"},
    }
    return {add_entry(client, stream, **fields): why for why, fields in entries.items()}


def test_what_cannot_be_learned_is_kept_with_its_reason(any_workspace: Workspace) -> None:
    # Given bad entries among good ones, as named fields; the very first is bad too
    stream = any_workspace.stream()
    with any_workspace.client as client:
        first = add_entry(client, stream, x0="nan", x1="1")
        add_points(client, stream, blobs(100))
        later = bad_entries(client, stream)
        add_points(client, stream, blobs(100, seed=1))
    # When they are learned Then the good ones count
    worker = drain(any_workspace.write({"m": kmeans(stream)}))
    assert any_workspace.newest("m").points == 200
    # and each bad one is there once, with where it came from and why
    letters = any_workspace.dead("m")
    assert {letter[b"stream"].decode() for letter in letters} == {stream}
    reasons = {letter[b"id"].decode(): letter[b"reason"].decode() for letter in letters}
    assert list(reasons) == [first, *later]
    assert len(letters) == 6
    for entry_id, words in later.items():
        assert words in reasons[entry_id]
    # and the log says how many
    assert sum(line["count"] for line in worker.events("points_rejected")) == 6


def test_a_bad_point_costs_only_itself_and_not_its_block(workspace: Workspace) -> None:
    # Given raw blocks with one point of infinity, one of NaN, and a cut end
    stream, X = workspace.stream(), blobs(90)
    X[40, 1], X[60, 0] = np.inf, np.nan
    with workspace.client as client:
        add_blocks(client, stream, X)
        cut = add_entry(client, stream, f8=blobs(3).tobytes()[:-3], d="2")
        other = add_entry(client, stream, f8=blobs(3, D=3).tobytes(), d="3")
    # When they are learned
    drain(workspace.write({"m": kmeans(stream)}))
    # Then the rest of each block is in the model
    assert workspace.newest("m").points == 88 + 2
    letters = [(letter[b"index"], letter[b"reason"]) for letter in workspace.dead("m")]
    assert letters == [
        (b"10", b"not finite: inf at feature 1"),
        (b"0", b"not finite: nan at feature 0; points.missing: learn accepts missing values"),
        (b"2", b"truncated: the last point has 13 of 16 bytes"),
        (b"-1", b"wrong length: d='3', expected 2"),
    ]
    assert [letter[b"id"].decode() for letter in workspace.dead("m")[2:]] == [cut, other]


def test_one_entry_of_many_bad_points_does_not_stop_the_model(workspace: Workspace) -> None:
    stream = workspace.stream()
    with workspace.client as client:
        add_blocks(client, stream, blobs(90))
        add_entry(client, stream, f8=np.full(500_000, np.nan).tobytes(), d="2")
        add_blocks(client, stream, blobs(90))
    drain(workspace.write({"m": kmeans(stream, dead={"keep": 100})}))
    assert workspace.newest("m").points == 180
    assert len(workspace.dead("m")) == 100
    with workspace.client as client:
        assert last_id(client, workspace.keys("m").dead) == "250000-0"


def test_given_centroids_say_the_length_of_a_point(workspace: Workspace) -> None:
    # Given a model that starts from centroids in two dimensions
    stream = workspace.stream()
    given = {"kind": "parameters", "centroids": [[-10, -10], [0, 0], [10, 10]]}
    with workspace.client as client:
        add_entry(client, stream, f8=blobs(1, D=3).tobytes(), d="3")
        add_blocks(client, stream, blobs(30))
    # When the first entry has three Then it is refused, and the others are learned
    drain(workspace.write({"m": {**kmeans(stream), "init": given}}))
    assert workspace.newest("m").points == 30
    assert len(workspace.dead("m")) == 1


# ---- bounds


def peak_memory(workspace: Workspace, times: int) -> int:
    """Return the MiB that a worker needs at most to learn `times` 100,000 points, of 6.4 MB."""
    stream, X = workspace.stream(str(times)), blobs(100_000, D=8)
    name = f"m{times}"
    with workspace.client as client:
        for _ in range(times):
            add_blocks(client, stream, X, block=500)
    workspace.write({name: kmeans(stream, batch={"linger": "10ms"}, commit={"every": "100ms"})})
    with WorkerProcess(workspace) as worker:
        worker.wait(lambda: workspace.committed(name) == times * len(X))
        peak = worker.peak_mib()
        assert worker.leave() == 0
    with workspace.client as client:
        client.delete(stream)
    return peak


def test_memory_does_not_grow_with_the_backlog(workspace: Workspace) -> None:
    grown = peak_memory(workspace, 24) - peak_memory(workspace, 8)
    # The larger backlog has 102 MB more, and both have more than may wait. How far the reader is
    # ahead at the peak differs from run to run by up to 20 MB.
    assert grown < 40
