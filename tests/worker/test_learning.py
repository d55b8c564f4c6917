"""One model as it is learned: what is committed and published, and when."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from streamclust.store.model.versions import follow
from streamclust.store.server.connect import Address, open_server
from tests.support.states import same
from tests.support.worker_fixture import GIVEN, LAYOUT, WorkerFixture, a_batch, bad_batch


@pytest.fixture
def fixture(address: Address, namespace: str) -> Iterator[WorkerFixture]:
    with open_server(address) as server:
        yield WorkerFixture(server.client(), namespace)


# ---- where it begins


def test_a_new_model_is_committed_at_once(fixture: WorkerFixture) -> None:
    learning = fixture.learning()
    found = fixture.committed()
    assert found.position == {"points": "0-0"}
    assert found.learner.points == 0
    assert same(found, learning.checkpoint)
    assert fixture.versions == []
    assert fixture.said("model_created")[0]["position"] == {"points": "0-0"}


def test_latest_is_settled_at_once(fixture: WorkerFixture) -> None:
    fixture.client.xadd(fixture.stream, {"x": 1}, id="7-0")
    fixture.learning(streams=[fixture.stream], start="latest")
    assert fixture.committed().position == {fixture.stream: "7-0"}
    fixture.client.xadd(fixture.stream, {"x": 1}, id="8-0")
    again = fixture.learning(streams=[fixture.stream], start="latest")
    assert again.checkpoint.position == {fixture.stream: "7-0"}


def test_given_parameters_are_a_version_before_any_point(fixture: WorkerFixture) -> None:
    learning = fixture.learning(init=GIVEN)
    [model] = fixture.versions
    assert (model.version, model.reason, model.points) == (1, "start", 0)
    assert model.means.tolist() == [[0.0, 0.0], [5.0, 5.0]]
    assert model.score is model.time_ms is None
    assert model.mass.tolist() == [10.0, 10.0]
    assert fixture.committed().version == 1
    learning.tick()
    learning.leave()
    assert len(fixture.versions) == 1
    # and a restart doesn't begin anew
    fixture.learning(init=GIVEN).leave()
    assert len(fixture.versions) == 1


def test_a_stream_that_is_added_begins_at_the_start_of_the_settings(
    fixture: WorkerFixture,
) -> None:
    new = fixture.stream
    fixture.client.xadd(new, {"x": 1}, id="7-0")
    first = fixture.learning()
    first.learn(a_batch(3))
    first.leave()
    more = fixture.learning(streams=["points", new], start="latest")
    expected = {"points": "3-0", new: "7-0"}
    assert more.checkpoint.position == expected
    # and that is committed, so that a restart means the same
    assert fixture.committed().position == expected
    fixture.client.xadd(new, {"x": 1}, id="8-0")
    again = fixture.learning(streams=[new, "points"], start="latest")
    assert again.checkpoint.position == expected


def test_a_stream_that_is_left_out_is_not_read(fixture: WorkerFixture) -> None:
    learning = fixture.learning(streams=["points", fixture.stream], start="5-0")
    assert learning.checkpoint.position == {"points": "5-0", fixture.stream: "5-0"}
    assert fixture.learning().checkpoint.position == {"points": "5-0"}


def test_a_stream_that_comes_back_is_not_learned_twice(fixture: WorkerFixture) -> None:
    # Given two streams that were read, of which one is left out for a while
    both = ["points", fixture.stream]
    first = fixture.learning(streams=both)
    read = {"points": 10, fixture.stream: 20}
    at = {"points": "3-0", fixture.stream: "4-0"}
    first.learn(a_batch(3, position=at, entries_added=read))
    first.leave()
    one = fixture.learning()
    one.learn(a_batch(5, entries_added={"points": 12}))
    one.leave()
    # When it is there again, after other restarts, Then it goes on where it was
    fixture.learning()
    again = fixture.learning(streams=both)
    assert again.checkpoint.position == {"points": "5-0", fixture.stream: "4-0"}
    assert again.checkpoint.read == {"points": 12, fixture.stream: 20}


def test_a_renamed_stream_is_said_with_what_to_set(fixture: WorkerFixture) -> None:
    # Given a stream that was read up to 5-0, and is renamed
    old, new = fixture.stream, f"{fixture.stream}-new"
    for number in (4, 5, 6):
        fixture.client.xadd(old, {"x": 1, "y": 2}, id=f"{number}-0")
    first = fixture.learning(streams=[old])
    first.learn(a_batch(5, position={old: "5-0"}))
    first.leave()
    fixture.client.rename(old, new)
    # When it is read from its beginning Then both names are said, and where to set the start
    fixture.learning(streams=[new])
    [said] = fixture.said("stream_rename_suspected")
    assert said["log_level"] == "warning"
    assert (said["stream"], said["position"]) == (new, "0-0")
    assert said["no_longer_configured"] == {old: "5-0"}
    assert "set models.m.start to its last position" in said["remedy"]
    assert said["remedy"].endswith("here 5-0")
    # and once only: then it is a stream that was read
    fixture.learning(streams=[new])
    assert len(fixture.said("stream_rename_suspected")) == 1


def test_a_renamed_stream_goes_on_where_it_was_with_that_start(
    fixture: WorkerFixture,
) -> None:
    first = fixture.learning(streams=[fixture.stream])
    fixture.client.xadd("renamed", {"x": 1}, id="5-0")
    first.learn(a_batch(5, position={fixture.stream: "5-0"}))
    first.leave()
    again = fixture.learning(streams=["renamed"], start="5-0")
    fixture.client.delete("renamed")
    assert again.checkpoint.position == {"renamed": "5-0"}
    assert {entry["log_level"] for entry in fixture.logged.entries} == {"info"}


def test_a_new_stream_in_place_of_others_is_said_with_where_it_begins(
    fixture: WorkerFixture,
) -> None:
    first = fixture.learning(streams=["points", "more"])
    first.learn(a_batch(5, position={"points": "5-0", "more": "7-0"}))
    first.leave()
    fixture.learning(streams=[fixture.stream, "more"])
    [said] = fixture.said("stream_added")
    assert said["log_level"] == "warning"
    assert said["no_longer_configured"] == {"points": "5-0"}
    assert "set models.m.start (earliest, latest or an ID)" in said["remedy"]
    # but one that is added is no surprise
    fixture.learning(streams=[fixture.stream, "more", "points", f"{fixture.stream}-2"])
    added = fixture.said("stream_added")
    assert [entry["log_level"] for entry in added] == ["warning", "info"]
    assert added[1]["stream"] == f"{fixture.stream}-2"


# ---- commits


def test_a_commit_is_due_after_so_many_points(fixture: WorkerFixture) -> None:
    learning = fixture.learning(commit={"points": 100, "every": "1d"})
    for number in (1, 2, 3):
        learning.learn(a_batch(number))
        assert fixture.committed().learner.points == (60 if number > 1 else 0)  # the first version
    learning = fixture.learning(commit={"points": 100, "every": "1d"})
    for number in (3, 4, 5):
        learning.learn(a_batch(number))
        assert fixture.committed().learner.points == 60
    learning.learn(a_batch(6))
    found = fixture.committed()
    assert found.learner.points == 180
    assert found.position == {"points": "6-0"}
    assert same(found, learning.checkpoint)


def test_a_commit_is_due_after_so_much_time(fixture: WorkerFixture) -> None:
    learning = fixture.learning(commit={"points": 10**9, "every": "2s"})
    learning.learn(a_batch(1))
    fixture.clock.now += 1.9
    learning.tick()
    assert fixture.committed().learner.points == 0
    fixture.clock.now += 0.2
    learning.tick()
    assert fixture.committed().learner.points == 30
    fixture.clock.now += 1.9
    learning.learn(a_batch(2, 10))
    assert fixture.committed().learner.points == 30
    fixture.clock.now += 0.2
    learning.learn(a_batch(3, 10))
    assert fixture.committed().learner.points == 50
    assert fixture.committed().position == {"points": "3-0"}


def writes(fixture: WorkerFixture) -> int:
    """Return how many scripts the server has run."""
    stats: Any = fixture.client.info("commandstats")
    return int(stats["cmdstat_eval"]["calls"])


@pytest.mark.parametrize("init", [GIVEN, {"kind": "warm_up", "points": 60}])
def test_without_news_nothing_is_written(fixture: WorkerFixture, init: Any) -> None:
    learning = fixture.learning(init=init, commit={"every": "1s"}, publish={"every": "2s"})
    learning.learn(bad_batch(1, 3))
    for _ in range(3):
        fixture.clock.now += 10.0
        learning.tick()
    before = writes(fixture)
    for _ in range(10):
        fixture.clock.now += 10.0
        learning.tick()
    assert writes(fixture) == before
    assert fixture.committed().position == {"points": "1-0"}


def test_the_committed_state_is_that_of_the_last_batch(fixture: WorkerFixture) -> None:
    learning = fixture.learning(commit={"points": 1})
    for number in range(1, 12):
        learning.learn(a_batch(number, 7))
        found = fixture.committed()
        assert found.position == {"points": f"{number}-0"}
        assert found.learner.points == 7 * number
        assert found.layout == LAYOUT
        assert same(found, learning.checkpoint)


def test_a_batch_of_bad_entries_moves_the_position(fixture: WorkerFixture) -> None:
    learning = fixture.learning(init=GIVEN, commit={"points": 3})
    learning.learn(bad_batch(4, 3))
    found = fixture.committed()
    assert found.position == {"points": "4-0"}
    assert (found.dead, found.learner.points) == (3, 0)
    assert len(fixture.versions) == 1


def test_the_group_shows_the_committed_position(fixture: WorkerFixture) -> None:
    for number in range(1, 10):
        fixture.client.xadd(fixture.stream, {"x": 1}, id=f"{number}-0")
    learning = fixture.learning(streams=[fixture.stream], commit={"points": 60, "every": "1d"})
    shown = []
    for number in range(1, 6):
        learning.learn(a_batch(number, position={fixture.stream: f"{number}-0"}))
        [group] = fixture.client.xinfo_groups(fixture.stream)
        assert group["name"] == fixture.keys.group.encode()
        shown.append(group["last-delivered-id"].decode())
    assert shown == ["0-0", "2-0", "2-0", "4-0", "4-0"]


# ---- versions


def test_the_first_version_comes_with_the_end_of_the_warm_up(fixture: WorkerFixture) -> None:
    learning = fixture.learning()
    learning.learn(a_batch(1, 59))
    assert fixture.versions == []
    learning.learn(a_batch(2, 1))
    [model] = fixture.versions
    assert (model.version, model.reason, model.points) == (1, "start", 60)
    assert model.position == fixture.committed().position == {"points": "2-0"}
    assert model.features == ("x", "y")
    assert model.time_ms == 2000.0
    assert model.score is None
    assert model.mass.sum() == pytest.approx(60.0)
    assert fixture.said("warm_up_finished")[0]["points"] == 60


def test_a_version_is_due_after_so_many_points(fixture: WorkerFixture) -> None:
    learning = fixture.learning(init=GIVEN, publish={"points": 70, "every": "1d"})
    for number in range(1, 10):
        learning.learn(a_batch(number))
    assert [model.points for model in fixture.versions] == [0, 90, 180, 270]
    assert [model.position["points"] for model in fixture.versions] == [
        "0-0",
        "3-0",
        "6-0",
        "9-0",
    ]
    assert fixture.reasons == ["start", "step", "step", "step"]
    assert all(model.score for model in fixture.versions[1:])
    assert same(fixture.committed(), learning.checkpoint)


def test_a_version_is_due_after_so_much_time(fixture: WorkerFixture) -> None:
    learning = fixture.learning(init=GIVEN, publish={"points": 10**9, "every": "5s"})
    learning.learn(a_batch(1))
    fixture.clock.now += 4.9
    learning.tick()
    assert len(fixture.versions) == 1
    fixture.clock.now += 0.2
    learning.tick()
    assert [model.points for model in fixture.versions] == [0, 30]
    fixture.clock.now += 60.0
    learning.tick()
    assert len(fixture.versions) == 2


def test_versions_count_without_gaps_through_restarts(fixture: WorkerFixture) -> None:
    number = 0
    for _ in range(5):
        learning = fixture.learning(publish={"points": 20})
        for _ in range(4):
            number += 1
            learning.learn(a_batch(number))
    versions = [model.version for model in fixture.versions]
    while more := list(follow(fixture.client, fixture.keys, versions[-1])):
        versions += [model.version for model in more]
    assert versions == list(range(1, len(versions) + 1))
    assert len(versions) == number - 1  # the warm-up took two batches
    assert fixture.committed().version == versions[-1]


def test_old_versions_are_trimmed(fixture: WorkerFixture) -> None:
    learning = fixture.learning(publish={"points": 1, "keep": 3})
    for number in range(1, 9):
        learning.learn(a_batch(number))
    assert [model.version for model in fixture.versions] == [5, 6, 7]


def test_a_version_with_revived_components_says_so(fixture: WorkerFixture) -> None:
    by_points = {"kind": "points", "half_life": 40}
    learning = fixture.learning(forgetting=by_points, publish={"points": 30})
    for number in range(1, 4):
        learning.learn(a_batch(number))
    for number in range(4, 12):  # one of the blobs is gone
        learning.learn(a_batch(number, X=np.random.default_rng(number).normal(size=(30, 2))))
    revived = fixture.said("components_revived")
    assert revived
    assert fixture.reasons.count("reseed") == len(revived)
    assert set(fixture.reasons) <= {"start", "step", "reseed", "resolve"}


def test_a_version_of_a_fit_of_the_coreset_says_so(fixture: WorkerFixture) -> None:
    learning = fixture.learning(publish={"points": 30})
    X = 20.0 * np.random.default_rng(5).normal(size=(40, 1, 2)) + a_batch(1).X
    for number in range(1, 40):  # a blob after the other: the start saw but two
        learning.learn(a_batch(number, X=X[number]))
    taken_over = fixture.said("model_reclustered")
    assert 0 < fixture.reasons.count("resolve") <= len(taken_over)  # reseeds say so first


def test_a_drift_is_logged_counted_and_published_at_once(fixture: WorkerFixture) -> None:
    learning = fixture.learning(drift={"detector": "page_hinkley", "on_drift": "forget"})
    for number in range(1, 40):
        learning.learn(a_batch(number))
    assert fixture.said("drift_detected") == []
    assert fixture.reasons == ["start"]
    for number in range(40, 60):
        learning.learn(a_batch(number, X=a_batch(number).X + 50.0))
    [line] = fixture.said("drift_detected")
    [version] = [model for model in fixture.versions if model.reason == "drift"]
    assert line["log_level"] == "warning"
    assert line["points"] == version.points < 30 * 50
    assert learning.progress.drifts == 1
    # and a restart doesn't publish it again
    again = fixture.learning(drift={"detector": "page_hinkley", "on_drift": "forget"})
    again.learn(a_batch(60, X=a_batch(60).X + 50.0))
    assert fixture.reasons.count("drift") == 1
    assert fixture.committed().learner.counts.drifts == 1


def test_leaving_commits_and_publishes_what_is_not_yet(fixture: WorkerFixture) -> None:
    learning = fixture.learning()
    for number in range(1, 5):
        learning.learn(a_batch(number))
    assert fixture.committed().learner.points == 60
    learning.leave()
    assert same(fixture.committed(), learning.checkpoint)
    assert fixture.reasons == ["start", "leave"]
    assert fixture.versions[-1].points == fixture.committed().learner.points == 120
    learning.leave()
    assert len(fixture.versions) == 2


def test_leaving_publishes_what_was_committed_and_no_more(fixture: WorkerFixture) -> None:
    learning = fixture.learning(commit={"points": 1})
    for number in range(1, 4):
        learning.learn(a_batch(number))
    assert fixture.committed().learner.points == 90
    assert len(fixture.versions) == 1
    fixture.learning().leave()  # of the next worker, which learned nothing itself
    assert [model.points for model in fixture.versions] == [60, 90]


def test_leaving_in_the_warm_up_keeps_the_sample(fixture: WorkerFixture) -> None:
    learning = fixture.learning()
    learning.learn(a_batch(1))
    learning.leave()
    assert fixture.versions == []
    assert len(fixture.committed().learner.warm_up.X) == 30
    again = fixture.learning()
    assert again.progress.phase == "warming"
    again.learn(a_batch(2))
    assert again.progress.phase == "learning"
    assert fixture.versions[0].points == 60


def test_the_average_is_published_where_it_is_asked_for(fixture: WorkerFixture) -> None:
    power = {"kind": "power", "kappa": 0.6, "average": True}
    learning = fixture.learning(forgetting=power)
    for number in range(1, 9):
        learning.learn(a_batch(number))
    learning.leave()
    state = learning.checkpoint.learner
    assert state.averaging.average is not None
    assert state.params is not None
    newest = fixture.versions[-1]
    assert newest.means.tolist() == state.averaging.average.averages(state.params.means).tolist()
    assert newest.means.tolist() != state.params.means.tolist()
