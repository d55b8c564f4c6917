"""One model as it is learned: what is committed and published, and when."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from streamclust.store.model.versions import follow
from streamclust.store.server.connect import Address, open_server
from tests.formats.test_checkpoint import same
from tests.worker.desk import GIVEN, LAYOUT, Desk, a_batch, bad_batch


@pytest.fixture
def desk(address: Address, namespace: str) -> Iterator[Desk]:
    with open_server(address) as server:
        yield Desk(server.client(), namespace)


# ---- where it begins


def test_a_new_model_is_committed_at_once(desk: Desk) -> None:
    learning = desk.learning()
    found = desk.committed()
    assert found.position == {"points": "0-0"}
    assert found.learner.points == 0
    assert same(found, learning.checkpoint)
    assert desk.versions == []
    assert desk.said("model_created")[0]["position"] == {"points": "0-0"}


def test_latest_is_settled_at_once(desk: Desk) -> None:
    desk.client.xadd(desk.stream, {"x": 1}, id="7-0")
    desk.learning(streams=[desk.stream], start="latest")
    assert desk.committed().position == {desk.stream: "7-0"}
    desk.client.xadd(desk.stream, {"x": 1}, id="8-0")
    again = desk.learning(streams=[desk.stream], start="latest")
    assert again.checkpoint.position == {desk.stream: "7-0"}


def test_given_parameters_are_a_version_before_any_point(desk: Desk) -> None:
    learning = desk.learning(init=GIVEN)
    [model] = desk.versions
    assert (model.version, model.reason, model.points) == (1, "start", 0)
    assert model.means.tolist() == [[0.0, 0.0], [5.0, 5.0]]
    assert model.score is model.time_ms is None
    assert model.mass.tolist() == [10.0, 10.0]
    assert desk.committed().version == 1
    learning.tick()
    learning.leave()
    assert len(desk.versions) == 1
    # and a restart doesn't begin anew
    desk.learning(init=GIVEN).leave()
    assert len(desk.versions) == 1


def test_a_stream_that_is_added_begins_at_the_start_of_the_settings(desk: Desk) -> None:
    new = desk.stream
    desk.client.xadd(new, {"x": 1}, id="7-0")
    first = desk.learning()
    first.learn(a_batch(3))
    first.leave()
    more = desk.learning(streams=["points", new], start="latest")
    expected = {"points": "3-0", new: "7-0"}
    assert more.checkpoint.position == expected
    # and that is committed, so that a restart means the same
    assert desk.committed().position == expected
    desk.client.xadd(new, {"x": 1}, id="8-0")
    again = desk.learning(streams=[new, "points"], start="latest")
    assert again.checkpoint.position == expected


def test_a_stream_that_is_left_out_is_not_read(desk: Desk) -> None:
    learning = desk.learning(streams=["points", desk.stream], start="5-0")
    assert learning.checkpoint.position == {"points": "5-0", desk.stream: "5-0"}
    assert desk.learning().checkpoint.position == {"points": "5-0"}


def test_a_stream_that_comes_back_is_not_learned_twice(desk: Desk) -> None:
    # Given two streams that were read, of which one is left out for a while
    both = ["points", desk.stream]
    first = desk.learning(streams=both)
    read = {"points": 10, desk.stream: 20}
    at = {"points": "3-0", desk.stream: "4-0"}
    first.learn(a_batch(3, position=at, entries_added=read))
    first.leave()
    one = desk.learning()
    one.learn(a_batch(5, entries_added={"points": 12}))
    one.leave()
    # When it is there again, after other restarts, Then it goes on where it was
    desk.learning()
    again = desk.learning(streams=both)
    assert again.checkpoint.position == {"points": "5-0", desk.stream: "4-0"}
    assert again.checkpoint.read == {"points": 12, desk.stream: 20}


def test_a_renamed_stream_is_said_with_what_to_set(desk: Desk) -> None:
    # Given a stream that was read up to 5-0, and is renamed
    old, new = desk.stream, f"{desk.stream}-new"
    for number in (4, 5, 6):
        desk.client.xadd(old, {"x": 1, "y": 2}, id=f"{number}-0")
    first = desk.learning(streams=[old])
    first.learn(a_batch(5, position={old: "5-0"}))
    first.leave()
    desk.client.rename(old, new)
    # When it is read from its beginning Then both names are said, and where to set the start
    desk.learning(streams=[new])
    [said] = desk.said("stream_rename_suspected")
    assert said["log_level"] == "warning"
    assert (said["stream"], said["position"]) == (new, "0-0")
    assert said["no_longer_configured"] == {old: "5-0"}
    assert "set models.m.start to its last position" in said["remedy"]
    assert said["remedy"].endswith("here 5-0")
    # and once only: then it is a stream that was read
    desk.learning(streams=[new])
    assert len(desk.said("stream_rename_suspected")) == 1


def test_a_renamed_stream_goes_on_where_it_was_with_that_start(desk: Desk) -> None:
    first = desk.learning(streams=[desk.stream])
    desk.client.xadd("renamed", {"x": 1}, id="5-0")
    first.learn(a_batch(5, position={desk.stream: "5-0"}))
    first.leave()
    again = desk.learning(streams=["renamed"], start="5-0")
    desk.client.delete("renamed")
    assert again.checkpoint.position == {"renamed": "5-0"}
    assert {entry["log_level"] for entry in desk.logged.entries} == {"info"}


def test_a_new_stream_in_place_of_others_is_said_with_where_it_begins(desk: Desk) -> None:
    first = desk.learning(streams=["points", "more"])
    first.learn(a_batch(5, position={"points": "5-0", "more": "7-0"}))
    first.leave()
    desk.learning(streams=[desk.stream, "more"])
    [said] = desk.said("stream_added")
    assert said["log_level"] == "warning"
    assert said["no_longer_configured"] == {"points": "5-0"}
    assert "set models.m.start (earliest, latest or an ID)" in said["remedy"]
    # but one that is added is no surprise
    desk.learning(streams=[desk.stream, "more", "points", f"{desk.stream}-2"])
    added = desk.said("stream_added")
    assert [entry["log_level"] for entry in added] == ["warning", "info"]
    assert added[1]["stream"] == f"{desk.stream}-2"


# ---- commits


def test_a_commit_is_due_after_so_many_points(desk: Desk) -> None:
    learning = desk.learning(commit={"points": 100, "every": "1d"})
    for number in (1, 2, 3):
        learning.learn(a_batch(number))
        assert desk.committed().learner.points == (60 if number > 1 else 0)  # the first version
    learning = desk.learning(commit={"points": 100, "every": "1d"})
    for number in (3, 4, 5):
        learning.learn(a_batch(number))
        assert desk.committed().learner.points == 60
    learning.learn(a_batch(6))
    found = desk.committed()
    assert found.learner.points == 180
    assert found.position == {"points": "6-0"}
    assert same(found, learning.checkpoint)


def test_a_commit_is_due_after_so_much_time(desk: Desk) -> None:
    learning = desk.learning(commit={"points": 10**9, "every": "2s"})
    learning.learn(a_batch(1))
    desk.clock.now += 1.9
    learning.tick()
    assert desk.committed().learner.points == 0
    desk.clock.now += 0.2
    learning.tick()
    assert desk.committed().learner.points == 30
    desk.clock.now += 1.9
    learning.learn(a_batch(2, 10))
    assert desk.committed().learner.points == 30
    desk.clock.now += 0.2
    learning.learn(a_batch(3, 10))
    assert desk.committed().learner.points == 50
    assert desk.committed().position == {"points": "3-0"}


def writes(desk: Desk) -> int:
    """Return how many scripts the server has run."""
    stats: Any = desk.client.info("commandstats")
    return int(stats["cmdstat_eval"]["calls"])


@pytest.mark.parametrize("init", [GIVEN, {"kind": "warm_up", "points": 60}])
def test_without_news_nothing_is_written(desk: Desk, init: Any) -> None:
    learning = desk.learning(init=init, commit={"every": "1s"}, publish={"every": "2s"})
    learning.learn(bad_batch(1, 3))
    for _ in range(3):
        desk.clock.now += 10.0
        learning.tick()
    before = writes(desk)
    for _ in range(10):
        desk.clock.now += 10.0
        learning.tick()
    assert writes(desk) == before
    assert desk.committed().position == {"points": "1-0"}


def test_the_committed_state_is_that_of_the_last_batch(desk: Desk) -> None:
    learning = desk.learning(commit={"points": 1})
    for number in range(1, 12):
        learning.learn(a_batch(number, 7))
        found = desk.committed()
        assert found.position == {"points": f"{number}-0"}
        assert found.learner.points == 7 * number
        assert found.layout == LAYOUT
        assert same(found, learning.checkpoint)


def test_a_batch_of_bad_entries_moves_the_position(desk: Desk) -> None:
    learning = desk.learning(init=GIVEN, commit={"points": 3})
    learning.learn(bad_batch(4, 3))
    found = desk.committed()
    assert found.position == {"points": "4-0"}
    assert (found.dead, found.learner.points) == (3, 0)
    assert len(desk.versions) == 1


def test_the_group_shows_the_committed_position(desk: Desk) -> None:
    for number in range(1, 10):
        desk.client.xadd(desk.stream, {"x": 1}, id=f"{number}-0")
    learning = desk.learning(streams=[desk.stream], commit={"points": 60, "every": "1d"})
    shown = []
    for number in range(1, 6):
        learning.learn(a_batch(number, position={desk.stream: f"{number}-0"}))
        [group] = desk.client.xinfo_groups(desk.stream)
        assert group["name"] == desk.keys.group.encode()
        shown.append(group["last-delivered-id"].decode())
    assert shown == ["0-0", "2-0", "2-0", "4-0", "4-0"]


# ---- versions


def test_the_first_version_comes_with_the_end_of_the_warm_up(desk: Desk) -> None:
    learning = desk.learning()
    learning.learn(a_batch(1, 59))
    assert desk.versions == []
    learning.learn(a_batch(2, 1))
    [model] = desk.versions
    assert (model.version, model.reason, model.points) == (1, "start", 60)
    assert model.position == desk.committed().position == {"points": "2-0"}
    assert model.features == ("x", "y")
    assert model.time_ms == 2000.0
    assert model.score is None
    assert model.mass.sum() == pytest.approx(60.0)
    assert desk.said("warm_up_finished")[0]["points"] == 60


def test_a_version_is_due_after_so_many_points(desk: Desk) -> None:
    learning = desk.learning(init=GIVEN, publish={"points": 70, "every": "1d"})
    for number in range(1, 10):
        learning.learn(a_batch(number))
    assert [model.points for model in desk.versions] == [0, 90, 180, 270]
    assert [model.position["points"] for model in desk.versions] == ["0-0", "3-0", "6-0", "9-0"]
    assert desk.reasons == ["start", "step", "step", "step"]
    assert all(model.score for model in desk.versions[1:])
    assert same(desk.committed(), learning.checkpoint)


def test_a_version_is_due_after_so_much_time(desk: Desk) -> None:
    learning = desk.learning(init=GIVEN, publish={"points": 10**9, "every": "5s"})
    learning.learn(a_batch(1))
    desk.clock.now += 4.9
    learning.tick()
    assert len(desk.versions) == 1
    desk.clock.now += 0.2
    learning.tick()
    assert [model.points for model in desk.versions] == [0, 30]
    desk.clock.now += 60.0
    learning.tick()
    assert len(desk.versions) == 2


def test_versions_count_without_gaps_through_restarts(desk: Desk) -> None:
    number = 0
    for _ in range(5):
        learning = desk.learning(publish={"points": 20})
        for _ in range(4):
            number += 1
            learning.learn(a_batch(number))
    versions = [model.version for model in desk.versions]
    while more := list(follow(desk.client, desk.keys, versions[-1])):
        versions += [model.version for model in more]
    assert versions == list(range(1, len(versions) + 1))
    assert len(versions) == number - 1  # the warm-up took two batches
    assert desk.committed().version == versions[-1]


def test_old_versions_are_trimmed(desk: Desk) -> None:
    learning = desk.learning(publish={"points": 1, "keep": 3})
    for number in range(1, 9):
        learning.learn(a_batch(number))
    assert [model.version for model in desk.versions] == [5, 6, 7]


def test_a_version_with_revived_components_says_so(desk: Desk) -> None:
    by_points = {"kind": "points", "half_life": 40}
    learning = desk.learning(forgetting=by_points, publish={"points": 30})
    for number in range(1, 4):
        learning.learn(a_batch(number))
    for number in range(4, 12):  # one of the blobs is gone
        learning.learn(a_batch(number, X=np.random.default_rng(number).normal(size=(30, 2))))
    revived = desk.said("components_revived")
    assert revived
    assert desk.reasons.count("reseed") == len(revived)
    assert set(desk.reasons) <= {"start", "step", "reseed", "resolve"}


def test_a_version_of_a_fit_of_the_coreset_says_so(desk: Desk) -> None:
    learning = desk.learning(publish={"points": 30})
    X = 20.0 * np.random.default_rng(5).normal(size=(40, 1, 2)) + a_batch(1).X
    for number in range(1, 40):  # a blob after the other: the start saw but two
        learning.learn(a_batch(number, X=X[number]))
    taken_over = desk.said("model_reclustered")
    assert 0 < desk.reasons.count("resolve") <= len(taken_over)  # reseeds say so first


def test_a_drift_is_logged_counted_and_published_at_once(desk: Desk) -> None:
    learning = desk.learning(drift={"detector": "page_hinkley", "on_drift": "forget"})
    for number in range(1, 40):
        learning.learn(a_batch(number))
    assert desk.said("drift_detected") == []
    assert desk.reasons == ["start"]
    for number in range(40, 60):
        learning.learn(a_batch(number, X=a_batch(number).X + 50.0))
    [line] = desk.said("drift_detected")
    [version] = [model for model in desk.versions if model.reason == "drift"]
    assert line["log_level"] == "warning"
    assert line["points"] == version.points < 30 * 50
    assert learning.progress.drifts == 1
    # and a restart doesn't publish it again
    again = desk.learning(drift={"detector": "page_hinkley", "on_drift": "forget"})
    again.learn(a_batch(60, X=a_batch(60).X + 50.0))
    assert desk.reasons.count("drift") == 1
    assert desk.committed().learner.drift.drifts == 1


def test_leaving_commits_and_publishes_what_is_not_yet(desk: Desk) -> None:
    learning = desk.learning()
    for number in range(1, 5):
        learning.learn(a_batch(number))
    assert desk.committed().learner.points == 60
    learning.leave()
    assert same(desk.committed(), learning.checkpoint)
    assert desk.reasons == ["start", "leave"]
    assert desk.versions[-1].points == desk.committed().learner.points == 120
    learning.leave()
    assert len(desk.versions) == 2


def test_leaving_publishes_what_was_committed_and_no_more(desk: Desk) -> None:
    learning = desk.learning(commit={"points": 1})
    for number in range(1, 4):
        learning.learn(a_batch(number))
    assert desk.committed().learner.points == 90
    assert len(desk.versions) == 1
    desk.learning().leave()  # of the next worker, which learned nothing itself
    assert [model.points for model in desk.versions] == [60, 90]


def test_leaving_in_the_warm_up_keeps_the_sample(desk: Desk) -> None:
    learning = desk.learning()
    learning.learn(a_batch(1))
    learning.leave()
    assert desk.versions == []
    assert len(desk.committed().learner.sample) == 30
    again = desk.learning()
    assert again.progress.phase == "warming"
    again.learn(a_batch(2))
    assert again.progress.phase == "learning"
    assert desk.versions[0].points == 60


def test_the_average_is_published_where_it_is_asked_for(desk: Desk) -> None:
    power = {"kind": "power", "kappa": 0.6, "average": True}
    learning = desk.learning(forgetting=power)
    for number in range(1, 9):
        learning.learn(a_batch(number))
    learning.leave()
    state = learning.checkpoint.learner
    assert state.average is not None
    assert state.params is not None
    newest = desk.versions[-1]
    assert newest.means.tolist() == state.average.averages(state.params.means).tolist()
    assert newest.means.tolist() != state.params.means.tolist()
