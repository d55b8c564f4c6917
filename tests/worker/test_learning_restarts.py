"""One model through restarts, bad input and refusals: nothing is lost, and nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from streamclust.errors import FormatError, LeaseLostError, ServerError
from streamclust.formats.checkpoint import FORMAT, Checkpoint, encode_checkpoint
from streamclust.formats.container import pack, unpack
from streamclust.models import GaussianMixture
from streamclust.store.model.dead_letters import newest_letter
from streamclust.store.server.connect import Address, open_server
from tests.support.commits import dump
from tests.support.states import same
from tests.support.worker_fixture import GIVEN, LAYOUT, WorkerFixture, a_batch, bad_batch


@pytest.fixture
def fixture(address: Address, namespace: str) -> Iterator[WorkerFixture]:
    with open_server(address) as server:
        yield WorkerFixture(server.client(), namespace)


# ---- restarts


def test_points_that_were_deleted_are_written_again(fixture: WorkerFixture) -> None:
    learning = fixture.learning(commit={"points": 1})
    for number in range(1, 5):
        learning.learn(a_batch(number))
        learning.tick()
        fixture.client.delete(fixture.keys.coreset)
    learning.learn(a_batch(5))
    learning.tick()
    assert same(fixture.committed().learner, learning.checkpoint.learner)


def test_a_state_in_one_value_is_carried_over(fixture: WorkerFixture) -> None:
    # Given a model, and the state of a release that wrote one value
    learning = fixture.learning(commit={"points": 1})
    for number in range(1, 5):
        learning.learn(a_batch(number))
        learning.tick()
    before = fixture.committed()
    fixture.client.set(fixture.keys.state, encode_checkpoint(before, learning.learner.family))
    fixture.client.delete(fixture.keys.coreset)
    # When a worker continues
    learning = fixture.learning(commit={"points": 1})
    assert same(learning.checkpoint.learner, before.learner)
    learning.learn(a_batch(5))
    learning.tick()
    # Then it writes two values
    assert fixture.client.strlen(fixture.keys.coreset) > 0
    assert same(fixture.committed().learner, learning.checkpoint.learner)


@pytest.mark.parametrize(
    "more",
    [
        {"kind": "kmeans"},
        {"kind": "gaussian_mixture", "covariance_type": "full"},
        pytest.param(
            {"kind": "gaussian_mixture", "covariance_type": "diag"}, marks=pytest.mark.exhaustive
        ),
        {"kind": "kmeans", "forgetting": {"kind": "power", "average": True}},
        {"kind": "gaussian_mixture", "forgetting": {"kind": "time", "half_life": "9s"}},
        pytest.param({"kind": "kmeans", "scale": "robust"}, marks=pytest.mark.exhaustive),
        {"kind": "kmeans", "drift": {"detector": "adwin"}},
        {"kind": "kmeans", "anomaly": {"rate": 0.05, "learn_flagged": False}},
        {"kind": "gaussian_mixture", "scale": "robust", "anomaly": {"rate": 0.05}},
        {"kind": "kmeans", "scale": "standard", "anomaly": {"rate": 0.05, "score": "tail_score"}},
    ],
    ids=str,
)
def test_restarts_change_nothing_to_the_last_bit(
    fixture: WorkerFixture, namespace: str, more: dict[str, Any]
) -> None:
    more = {**more, "commit": {"points": 75, "every": "1d"}}
    # Given a worker that learns 20 batches without a disturbance
    quiet = WorkerFixture(fixture.client, f"{namespace}-quiet").learning(**more)
    for number in range(1, 21):
        quiet.learn(a_batch(number))
    # and others that crash after five, some of which they learned in vain
    ends: list[int] = []
    while not ends or ends[-1] < 20:
        learning = fixture.learning(**more)
        begin = int(learning.checkpoint.position["points"].partition("-")[0])
        ends.append(min(begin + 5, 20))
        for number in range(begin + 1, ends[-1] + 1):
            learning.learn(a_batch(number))
    # Then they end with the same state
    assert len(ends) > 4
    assert same(learning.checkpoint.learner, quiet.checkpoint.learner)
    assert learning.checkpoint.position == quiet.checkpoint.position


def test_a_restart_goes_on_from_the_committed_position(fixture: WorkerFixture) -> None:
    first = fixture.learning(commit={"points": 60, "every": "1d"})
    for number in range(1, 6):
        first.learn(a_batch(number))
    assert first.checkpoint.position == {"points": "5-0"}
    second = fixture.learning()
    assert second.checkpoint.position == {"points": "4-0"}
    assert second.checkpoint.learner.points == 120
    assert second.checkpoint.layout == LAYOUT
    assert fixture.said("model_resumed")[0]["points"] == 120


@pytest.mark.parametrize("started", [False, True], ids=["warming", "learning"])
def test_when_the_commits_came_is_not_in_the_state(fixture: WorkerFixture, started: bool) -> None:
    # Given a worker that committed after its last batch, with nothing new to publish, and crashed
    more: dict[str, Any] = {"init": GIVEN} if started else {}
    eager = fixture.learning(commit={"points": 1}, **more)
    eager.learn(bad_batch(1, 5))
    before = dump(fixture.client, fixture.keys)[fixture.keys.state.encode()]
    # When the next one finds nothing to learn, and leaves
    fixture.learning(**more).leave()
    assert dump(fixture.client, fixture.keys)[fixture.keys.state.encode()] == before
    # Then the state is the same as that of a worker that committed when it left, and only then
    lazy = WorkerFixture(fixture.client, f"{fixture.namespace}-lazy")
    learning = lazy.learning(**more)
    learning.learn(bad_batch(1, 5))
    learning.leave()
    assert dump(lazy.client, lazy.keys)[lazy.keys.state.encode()] == before


def test_a_crash_before_the_mirror_is_mended_by_the_next_worker(
    fixture: WorkerFixture,
) -> None:
    # Given a position that was committed and not yet mirrored
    for number in range(1, 4):
        fixture.client.xadd(fixture.stream, {"x": 1}, id=f"{number}-0")
    learning = fixture.learning(streams=[fixture.stream])
    learning.learn(bad_batch(3, 3, fixture.stream))
    learning.leave()
    fixture.client.xgroup_setid(fixture.stream, fixture.keys.group, "1-0")
    # When the next worker starts, with nothing to learn
    fixture.learning(streams=[fixture.stream])
    # Then the group shows the truth
    [group] = fixture.client.xinfo_groups(fixture.stream)
    assert (group["last-delivered-id"], group["pending"]) == (b"3-0", 0)


# ---- dead letters


def test_dead_letters_are_numbered_through_commits_and_restarts(
    fixture: WorkerFixture,
) -> None:
    for worker in range(3):
        learning = fixture.learning(commit={"points": 4}, init=GIVEN)
        for number in range(1, 4):
            learning.learn(bad_batch(10 * worker + number, 2))
        learning.leave()
    assert newest_letter(fixture.client, fixture.keys) == (18, "18-0")
    assert fixture.committed().dead == 18
    letters: Any = fixture.client.xrange(fixture.keys.dead)
    assert [entry_id.decode() for entry_id, _ in letters] == [f"{n}-0" for n in range(1, 19)]
    assert [each["count"] for each in fixture.said("points_rejected")] == [4, 2] * 3


def test_dead_letters_of_a_crash_are_not_there_twice(fixture: WorkerFixture) -> None:
    fixture.learning(init=GIVEN).learn(bad_batch(1, 5))
    learning = fixture.learning(init=GIVEN)
    learning.learn(bad_batch(1, 5))
    learning.leave()
    assert newest_letter(fixture.client, fixture.keys) == (5, "5-0")


def test_more_dead_letters_than_are_kept(fixture: WorkerFixture) -> None:
    learning = fixture.learning(init=GIVEN, dead={"keep": 7})
    for number in range(1, 6):
        learning.learn(bad_batch(number, 4))
    learning.leave()
    letters: Any = fixture.client.xrange(fixture.keys.dead)
    assert [entry_id.decode() for entry_id, _ in letters] == [f"{n}-0" for n in range(14, 21)]
    assert letters[-1][1][b"id"] == b"5-0"
    assert fixture.said("points_rejected")[0]["count"] == 20


# ---- the end of the feed


def test_begin_now_makes_do_with_what_is_there(fixture: WorkerFixture) -> None:
    learning = fixture.learning()
    learning.learn(a_batch(1))
    learning.begin_now()
    learning.leave()
    [model] = fixture.versions
    assert (model.version, model.reason, model.points) == (1, "start", 30)
    learning.begin_now()
    learning.leave()
    assert len(fixture.versions) == 1


@pytest.mark.parametrize("n", [0, 1, 25])
def test_begin_now_with_too_few_distinct_points_is_no_crash(fixture: WorkerFixture, n: int) -> None:
    learning = fixture.learning()
    learning.learn(a_batch(1, n, X=np.ones((n, 2))))
    learning.begin_now()
    learning.leave()
    assert fixture.versions == []
    assert learning.progress.phase == "warming"
    assert fixture.committed().position == {"points": "1-0"}
    assert len(fixture.said("warm_up_delayed")) == (n > 0)
    # and the next worker goes on from there
    again = fixture.learning()
    again.learn(a_batch(2))
    again.begin_now()
    again.leave()
    assert fixture.versions[0].points == n + 30


def test_begin_now_leaves_a_model_that_learns_alone(fixture: WorkerFixture) -> None:
    learning = fixture.learning(init=GIVEN)
    learning.learn(a_batch(1))
    before = learning.checkpoint
    learning.begin_now()
    assert learning.checkpoint is before


# ---- what an operator sees


def test_progress(fixture: WorkerFixture) -> None:
    learning = fixture.learning()
    assert learning.progress.phase == "warming"
    learning.learn(a_batch(1))
    learning.learn(bad_batch(2, 3))
    learning.learn(a_batch(3))
    progress = learning.progress
    assert (progress.phase, progress.points, progress.dead) == ("learning", 60, 3)
    assert (progress.version, progress.loss) == (1, None)
    learning.learn(a_batch(4))
    assert learning.progress.points == 90
    assert learning.progress.loss is not None


# ---- what is refused, and left as it was


def test_a_lost_lease_writes_nothing(fixture: WorkerFixture) -> None:
    learning = fixture.learning(publish={"points": 1})
    learning.learn(a_batch(1))
    learning.learn(a_batch(2))
    newer = fixture.learning()
    before = dump(fixture.client, fixture.keys)
    with pytest.raises(LeaseLostError):
        learning.learn(a_batch(3))
    with pytest.raises(LeaseLostError):
        learning.leave()
    assert dump(fixture.client, fixture.keys) == before
    newer.learn(a_batch(3))
    newer.leave()


def refused(fixture: WorkerFixture, error: type[Exception], **more: Any) -> str:
    """Return what is said; nothing but the lease may change."""
    before = dump(fixture.client, fixture.keys)
    with pytest.raises(error) as failure:
        fixture.learning(**more)
    after = dump(fixture.client, fixture.keys)
    for key in (fixture.keys.lease.encode(), fixture.keys.token.encode()):
        before.pop(key, None)
        after.pop(key, None)
    assert after == before
    assert "\n" not in str(failure.value)
    return str(failure.value)


def test_a_state_of_another_type_is_refused(fixture: WorkerFixture) -> None:
    fixture.client.rpush(fixture.keys.state, "x")
    text = refused(fixture, ServerError)
    assert text.startswith(f"key {fixture.keys.state} holds a list, expected a string; move it")


@pytest.mark.parametrize("name", ["models", "dead"])
def test_another_key_of_another_type_is_refused(fixture: WorkerFixture, name: str) -> None:
    key = getattr(fixture.keys, name)
    fixture.client.set(key, "x")
    text = refused(fixture, ServerError)
    assert text.startswith(f"key {key} holds a string")


def test_points_of_another_type_are_refused(fixture: WorkerFixture) -> None:
    fixture.client.set(fixture.stream, "x")
    text = refused(fixture, ServerError, streams=[fixture.stream])
    assert text.startswith(f"key {fixture.stream} holds a string, expected a stream; move it")
    assert "models.m.streams" in text


@pytest.mark.parametrize("state", [b"", b"x", bytes(100), b"\x10" + bytes(7) + b"{}"], ids=str)
def test_a_damaged_state_is_refused(fixture: WorkerFixture, state: bytes) -> None:
    fixture.client.set(fixture.keys.state, state)
    text = refused(fixture, FormatError)
    assert text.startswith(f"key {fixture.keys.state} does not hold")
    assert "move it away" in text


def flipped(state: bytes) -> bytes:
    return state[:-9] + bytes([state[-9] ^ 4]) + state[-8:]


def halved(state: bytes) -> bytes:
    return state[: len(state) // 2]


def newer(state: bytes) -> bytes:
    return pack("streamclust.state/3", *unpack(state, FORMAT, ""))


@pytest.mark.parametrize("damage", [flipped, halved, newer])
def test_a_learned_state_that_was_damaged_is_refused_and_kept(
    fixture: WorkerFixture, damage: Any
) -> None:
    learning = fixture.learning()
    learning.learn(a_batch(1, 60))
    learning.learn(bad_batch(2, 3))
    learning.leave()
    state: Any = fixture.client.get(fixture.keys.state)
    fixture.client.set(fixture.keys.state, damage(state))
    text = refused(fixture, FormatError)  # which compares all keys
    assert fixture.keys.state in text
    mend = "use the version that wrote it, or move the key" if damage is newer else "move it away"
    assert mend in text


def test_a_state_of_another_model_is_refused(fixture: WorkerFixture) -> None:
    learning = fixture.learning()
    learning.learn(a_batch(1, 60))
    text = refused(fixture, FormatError, n_clusters=3)
    assert "n_clusters 2, the config says 3" in text
    client, keys = fixture.client, fixture.keys
    client.set(keys.state, encode_checkpoint(Checkpoint(), GaussianMixture(2)))
    assert "kind 'gaussian_mixture', the config says 'kmeans'" in refused(fixture, FormatError)


def test_a_state_that_was_deleted_overwrites_no_versions(fixture: WorkerFixture) -> None:
    learning = fixture.learning(publish={"points": 1})
    for number in range(1, 5):
        learning.learn(a_batch(number))
    before = [model.version for model in fixture.versions]
    fixture.client.delete(fixture.keys.state)
    text = refused(fixture, ServerError, init=GIVEN)
    assert text.startswith(f"{fixture.keys.models} already had an entry 1-0")
    assert [model.version for model in fixture.versions] == before


# ---- settings that don't fit what was learned


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (
            {"points": {"features": ["y", "x"]}},
            r"points.features ['x', 'y'], the config says ['y', 'x']",
        ),
        ({"points": {"features": ["x"]}}, "points.features ['x', 'y'], the config says ['x']"),
        ({"points": {"n_features": 3}}, "points.n_features 2, the config says 3"),
        ({"points": {"format": "json"}}, "points.format 'fields', the config says 'json'"),
        ({"points": {"weight_field": "w"}}, "points.weight_field None, the config says 'w'"),
        ({"scale": "robust"}, "scale 'none', the config says 'robust'"),
    ],
)
def test_settings_that_change_the_meaning_of_points_are_refused(
    fixture: WorkerFixture, changed: dict[str, Any], text: str
) -> None:
    learning = fixture.learning()
    learning.learn(a_batch(1, 60))
    learning.leave()
    said = refused(fixture, FormatError, **changed)
    assert text in said
    assert said.endswith("change it back, or give the model a new name")


def test_settings_that_name_what_was_found_are_taken(fixture: WorkerFixture) -> None:
    learning = fixture.learning()
    learning.learn(a_batch(1, 60))
    learning.leave()
    named = {"format": "fields", "features": ["x", "y"], "n_features": 2}
    found = fixture.learning(points=named).checkpoint.layout
    assert found == replace(LAYOUT, strict=False)
    assert fixture.learning(points={"features": ["x", "y"]}).checkpoint.learner.points == 60


def test_points_of_given_parameters_have_their_number_of_features(
    fixture: WorkerFixture,
) -> None:
    fixture.learning(init=GIVEN)
    text = refused(fixture, FormatError, points={"features": ["a", "b", "c"]})
    assert "points.n_features 2, the config says 3" in text


# ---- the model ID


def begin(fixture: WorkerFixture) -> int:
    """Learn until there is a version; return its model ID."""
    learning = fixture.learning()
    learning.learn(a_batch(1, 60))
    learning.leave()
    assert learning.model_id
    assert {model.model_id for model in fixture.versions} == {learning.model_id}
    return learning.model_id


def test_a_model_keeps_its_id_as_long_as_its_state(fixture: WorkerFixture) -> None:
    first = begin(fixture)
    learning = fixture.learning()
    assert learning.model_id == first
    learning.learn(a_batch(2, 60))
    learning.leave()
    assert [model.model_id for model in fixture.versions] == [first, first]
    # and one that is begun anew has another, though the key of the ID stayed
    fixture.client.delete(fixture.keys.state, fixture.keys.models, fixture.keys.token)
    assert begin(fixture) != first


def test_the_id_is_no_part_of_what_is_learned(fixture: WorkerFixture) -> None:
    before = (
        begin(fixture),
        fixture.client.mget(fixture.keys.state, fixture.keys.coreset),
        payloads(fixture),
    )
    fixture.client.delete(*dump(fixture.client, fixture.keys))
    after = (
        begin(fixture),
        fixture.client.mget(fixture.keys.state, fixture.keys.coreset),
        payloads(fixture),
    )
    assert after[0] != before[0]
    assert after[1:] == before[1:]


def payloads(fixture: WorkerFixture) -> list[bytes]:
    entries: Any = fixture.client.xrange(fixture.keys.models)
    return [fields[b"payload"] for _, fields in entries]


def test_a_model_of_before_is_given_an_id_with_its_next_version(
    fixture: WorkerFixture,
) -> None:
    begin(fixture)
    fixture.client.delete(fixture.keys.id)
    learning = fixture.learning()
    learning.learn(a_batch(2, 60))
    learning.leave()
    assert fixture.client.get(fixture.keys.id) == b"%d" % learning.model_id


@pytest.mark.parametrize("stream", [None, "points"])
def test_codes_repeat_the_id_of_a_model_that_was_begun_anew(
    fixture: WorkerFixture, stream: str | None
) -> None:
    first = begin(fixture)
    assert fixture.versions[-1].code_id == 0
    fixture.client.xadd(fixture.keys.codes(stream), {"code": "1"})
    fixture.client.delete(fixture.keys.state, fixture.keys.models)
    assert fixture.versions == []
    second = begin(fixture)
    assert fixture.versions[-1].code_id == second != first
