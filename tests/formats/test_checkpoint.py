"""Checkpoints: a learner goes on from one as if it had never stopped, to the last bit."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamclust.errors import FormatError
from streamclust.formats.checkpoint import (
    FORMAT,
    Checkpoint,
    Covered,
    decode_checkpoint,
    encode_checkpoint,
)
from streamclust.formats.container import pack, unpack
from streamclust.formats.lost import Lost
from streamclust.models import Family, GaussianMixture, KMeans
from streamclust.models.score_distribution import ScoreDistribution
from streamclust.online.forgetting import Forgetting, HalfLife, HalfLifeTime, PowerSchedule
from streamclust.online.learner import LearnerState, StreamLearner
from streamclust.online.scores import Anomaly
from streamclust.online.state import Counts
from tests.support.exhaustive import examples, some
from tests.support.states import LAYOUT, POSITION, batch, same, step
from tests.support.strategies import FAMILIES, family_of

WHERE = "key {ns:m}:state"
WARM_UP = 60

POLICIES: dict[str, Forgetting] = {
    "none": Forgetting(),
    "points": HalfLife(100.0),
    "time": HalfLifeTime(3.0),
    "power": PowerSchedule(0.6, t0=2.0, hold=45.0),
    "averaged": PowerSchedule(0.7, t0=2.0, hold=45.0, average=True),
}


def through_bytes(state: LearnerState[Any], family: Family[Any]) -> LearnerState[Any]:
    data = encode_checkpoint(Checkpoint(learner=state), family)
    return decode_checkpoint(data, family, WHERE).learner


@pytest.fixture(params=some(FAMILIES, "kmeans", "spherical", "full"))
def family(request: pytest.FixtureRequest) -> Family[Any]:
    return family_of(request.param, 3)


@pytest.mark.parametrize("policy", some(POLICIES, "none", "points", "averaged"))
def test_a_learner_goes_on_to_the_last_bit(family: Family[Any], policy: str) -> None:
    learner = StreamLearner(family, POLICIES[policy], warm_up=WARM_UP, coreset=60)
    state = stopped = learner.init()
    for number in range(20):
        state = step(learner, state, number)
        stopped = step(learner, through_bytes(stopped, family), number)
        assert same(state, stopped)
    assert same(state, through_bytes(state, family))
    assert state.clock.steps > 15
    assert (state.averaging.average is not None) == (policy == "averaged")


def test_a_learner_goes_on_while_a_solve_is_pending(family: Family[Any]) -> None:
    learner = StreamLearner(family, warm_up=WARM_UP, coreset=60)
    state = stopped = learner.init()
    waited = 0
    for number in range(40):
        state = step(learner, state, number % 6)
        stopped = step(learner, through_bytes(stopped, family), number % 6)
        waited += state.recluster.pending is not None
        assert same(state, stopped)
    assert waited > 1


def test_the_way_of_the_test_meets_every_part_of_a_state() -> None:
    learner = StreamLearner(KMeans(3), HalfLife(30.0), warm_up=WARM_UP)
    state, seen = learner.init(), []
    for number in range(30):
        state = step(learner, state, number)
        seen.append(state)
    assert len(seen[0].warm_up.X) == len(seen[0].warm_up.w) > 0
    assert seen[-1].counts.revived > 0
    assert seen[-1].components.peak_total > 0.0
    assert len(seen[-1].components.peak) == 3
    assert seen[-1].clock.time_ms == 29_000.0


@examples(25)
@given(st.integers(1, 6), st.integers(0, 1000), st.sampled_from(FAMILIES))
def test_any_state_comes_back_to_the_last_bit(K: int, seed: int, name: str) -> None:
    family = family_of(name, K)
    anomaly = (None, Anomaly(), Anomaly(score="tail_score"))[seed % 3]
    learner = StreamLearner(family, HalfLife(50.0), warm_up=WARM_UP, anomaly=anomaly)
    state = learner.init()
    for number in range(6):
        state = step(learner, state, number, seed)
        assert same(state, through_bytes(state, family))


def test_outdated_scores_come_back_and_older_states_have_none() -> None:
    family = KMeans(3)
    state = step(StreamLearner(family, warm_up=1, anomaly=Anomaly()), LearnerState(), 0)
    assert state.scores is not None
    outdated = replace(state, scores=replace(state.scores, outdated=17))
    assert same(outdated, through_bytes(outdated, family))
    arrays, meta = unpack(encode_checkpoint(Checkpoint(state), family), FORMAT, WHERE)
    assert set(meta["scores"]) == {"usual", "recent"}
    for wrong in ({"outdated": -1}, {"score": "odd"}):
        refused(pack(FORMAT, arrays, {**meta, "scores": {**meta["scores"], **wrong}}))


def test_a_learner_with_tail_scores_goes_on_to_the_last_bit() -> None:
    family = GaussianMixture(3, "diag")
    anomaly = Anomaly(0.05, learn_flagged=False, score="tail_score")
    learner = StreamLearner(
        family, HalfLife(100.0), warm_up=WARM_UP, coreset=0, scale="standard", anomaly=anomaly
    )
    state = stopped = learner.init()
    for number in range(12):
        state = step(learner, state, number)
        stopped = step(learner, through_bytes(stopped, family), number)
        assert same(state, stopped)
    assert state.scores is not None
    assert state.scores.score == "tail_score"
    assert state.feature_distribution is not None


def test_a_damaged_distribution_of_features_is_refused() -> None:
    learner = StreamLearner(KMeans(3), warm_up=1, tail_scores=True)
    data = encode_checkpoint(Checkpoint(step(learner, LearnerState(), 0)), KMeans(3))
    arrays, meta = unpack(data, FORMAT, WHERE)
    names = [name for name in arrays if name.startswith("feature_distribution.")]
    assert len(names) == 4
    for name in names:
        refused(pack(FORMAT, {k: v for k, v in arrays.items() if k != name}, meta))
        refused(pack(FORMAT, {**arrays, name: -np.ones_like(arrays[name])[:1]}, meta))


def test_given_parameters_come_back_to_the_last_bit(family: Family[Any]) -> None:
    learner = StreamLearner(family, warm_up=WARM_UP)
    started = learner.init()
    for number in range(3):
        started = step(learner, started, number)
    state = learner.init(started.params, weight=12.5)
    assert same(state, through_bytes(state, family))
    assert same(step(learner, state, 9), step(learner, through_bytes(state, family), 9))


def test_all_else_comes_back_too(family: Family[Any]) -> None:
    family = replace(family, missing="learn")
    checkpoint = Checkpoint(
        learner=step(StreamLearner(family), LearnerState(), 0),
        position=POSITION,
        layout=LAYOUT,
        version=42,
        published_points=2**53 + 1,
        published=Counts(drifts=9, revived=3, reclustered=2, resized=4),
        dead=7,
        refit="17-ab",
        unpublished=7,
        published_threshold=0.1,
        former_streams=Covered({"gone": "5-0"}, {"gone": 12}),
        read={"points": 2**40, "other": None},
        lost={"points": Lost(7, 1, 2)},
        missing=3,
    )
    found = decode_checkpoint(encode_checkpoint(checkpoint, family), family, WHERE)
    assert same(found, checkpoint)
    changed = {each.name for each in fields(Checkpoint)}
    assert not any(same(getattr(checkpoint, name), getattr(Checkpoint(), name)) for name in changed)


def test_the_first_checkpoint_of_all_comes_back(family: Family[Any]) -> None:
    found = decode_checkpoint(encode_checkpoint(Checkpoint(), family), family, WHERE)
    assert same(found, Checkpoint())


def test_a_state_keeps_nothing_of_the_bytes_alive_to_be_changed(family: Family[Any]) -> None:
    learner = StreamLearner(family, HalfLife(50.0), warm_up=WARM_UP)
    state = learner.init()
    for number in range(4):
        state = step(learner, state, number)
    data = encode_checkpoint(Checkpoint(learner=state), family)
    kept = bytes(data)
    found = decode_checkpoint(data, family, WHERE).learner
    for number in range(4, 12):
        found = step(learner, found, number)
    assert data == kept


# ---- another model's state


def learned(family: Family[Any]) -> bytes:
    learner = StreamLearner(family, warm_up=WARM_UP)
    state = learner.init()
    for number in range(3):
        state = step(learner, state, number)
    return encode_checkpoint(Checkpoint(learner=state), family)


@pytest.mark.parametrize(
    ("before", "now", "name", "found", "wanted"),
    [
        (KMeans(3), KMeans(4), "n_clusters", "3", "4"),
        (GaussianMixture(3), GaussianMixture(4), "n_components", "3", "4"),
        (KMeans(3), GaussianMixture(3), "kind", "'kmeans'", "'gaussian_mixture'"),
        (GaussianMixture(3), KMeans(3), "kind", "'gaussian_mixture'", "'kmeans'"),
        (GaussianMixture(3), GaussianMixture(3, "diag"), "covariance_type", "'full'", "'diag'"),
        (GaussianMixture(2, "diag"), GaussianMixture(2, "tied"), "covariance_type", "'d", "'t"),
    ],
    ids=str,
)
def test_a_state_of_another_model_is_refused(
    before: Family[Any], now: Family[Any], name: str, found: str, wanted: str
) -> None:
    with pytest.raises(FormatError) as failure:
        decode_checkpoint(learned(before), now, WHERE)
    text = str(failure.value)
    assert text.startswith(f"{WHERE} was learned with {name} {found}")
    assert f"the config says {wanted}" in text
    assert text.endswith("change it back, or give the model a new name")


def test_a_changed_floor_is_taken() -> None:
    before, now = GaussianMixture(3, reg_covar=1e-6), GaussianMixture(3, reg_covar=1e-3)
    data = learned(before)
    found = decode_checkpoint(data, now, WHERE).learner
    assert same(found, decode_checkpoint(data, before, WHERE).learner)
    after = step(StreamLearner(now), found, 5)
    assert not same(after, step(StreamLearner(before), found, 5))


# ---- damaged


STATE_CHANGES: list[dict[str, Any]] = [
    {"family": None},
    {"family": "kmeans"},
    {"learner": None},
    {"learner": {}},
    {"learner": []},
    {"sums": None},
    {"sums": {"stats": 5}},
    {"sums": {"stats": [1.0]}},
    {"sums": {"stats": [1.0, 2.0], "average": [0.0, 0.0]}},
    {"position": None},
    {"position": 3},
    {"position": "0-0"},
    {"layout": 5},
    {"layout": {}},
    {"layout": {**LAYOUT.to_dict(), "n_features": 0}},
    {"layout": {**LAYOUT.to_dict(), "colour": "red"}},
    {"version": "x"},
    {"version": float("inf")},
    {"dead": None},
    {"published": []},
    {"unpublished": float("nan")},
    {"scores": 5},
    {"scores": {}},
    {"published_threshold": "high"},
    {"published_threshold": []},
    {"scores": dict.fromkeys(("usual", "recent"), ScoreDistribution().numbers)},
]


@pytest.mark.parametrize("changes", STATE_CHANGES, ids=str)
def test_damaged_metadata_are_refused(changes: dict[str, Any]) -> None:
    arrays, meta = unpack(learned(KMeans(3)), FORMAT, WHERE)
    refused(pack(FORMAT, arrays, {**meta, **changes}))


@pytest.mark.parametrize(
    "field",
    ["family", "learner", "sums", "position", "layout", "version", "published", "dead"],
)
def test_missing_metadata_are_refused(field: str) -> None:
    arrays, meta = unpack(learned(KMeans(3)), FORMAT, WHERE)
    del meta[field]
    refused(pack(FORMAT, arrays, meta))


@pytest.mark.parametrize(
    "name",
    ["sample", "sample_weight", "params.centroids", "stats.weight", "stats.reference"],
)
def test_missing_arrays_are_refused(name: str) -> None:
    arrays, meta = unpack(learned(KMeans(3)), FORMAT, WHERE)
    del arrays[name]
    refused(pack(FORMAT, arrays, meta))


def full_state(family: Family[Any]) -> bytes:
    """A state in which every field has something to lose."""
    learner = StreamLearner(
        family, warm_up=WARM_UP, coreset=60, scale="standard", anomaly=Anomaly()
    )
    state = learner.init()
    for number in range(40):
        state = step(learner, state, number % 6)
        if state.recluster.pending is not None:
            break
    assert state.recluster.pending is not None
    known: dict[str, Any] = {"read": {"points": 7}, "lost": {"points": Lost(1, 2, 3)}}
    left = Covered({"gone": "5-0"}, {"gone": 12}, {"gone": Lost(1, 2, 3)})
    return encode_checkpoint(
        Checkpoint(state, POSITION, LAYOUT, 3, refit="17-ab", former_streams=left, **known), family
    )


def without(part: Any, *path: str) -> Any:
    """A copy of nested dicts without the field at this path."""
    name, *rest = path
    copy = dict(part)
    if rest:
        copy[name] = without(copy[name], *rest)
    else:
        del copy[name]
    return copy


def paths(part: Any) -> list[tuple[str, ...]]:
    """The path of every field of nested dicts."""
    if not isinstance(part, dict):
        return []
    return [path for name in part for path in ((name,), *((name, *p) for p in paths(part[name])))]


ADAPTING = KMeans(5, min_clusters=2)


@pytest.mark.parametrize("kind", [KMeans(3), GaussianMixture(3), ADAPTING], ids=str)
def test_a_state_without_any_one_field_goes_on_or_names_the_field(kind: Family[Any]) -> None:
    arrays, meta = unpack(full_state(kind), FORMAT, WHERE)
    learner = StreamLearner(kind, warm_up=WARM_UP, coreset=60, scale="standard")
    required = {
        *("family", "learner", "sums", "position", "layout", "version", "published", "dead"),
        *("averaged", "steps", "points", "held", "time_ms", "revivals", "sample", "sample_weight"),
    }
    taken = 0
    smaller = [
        (path, pack(FORMAT, arrays, without(meta, *path)))
        for path in paths(meta)
        if path[0] != "family" or len(path) == 1  # a setting that it lacks isn't compared
    ]
    smaller += [((name,), pack(FORMAT, without(arrays, name), meta)) for name in arrays]
    for path, data in smaller:
        try:
            found = decode_checkpoint(data, kind, WHERE)
        except FormatError as error:
            # A part of what is itself required, or of a whole that makes no sense without it.
            wholes = ("params.", "stats.", "pending", "scaling.", "layout", "sums", "scores")
            assert path[-1] in required or path[0].startswith(wholes), path
            assert path[-1].rpartition(".")[2] in str(error), (path, str(error))
            continue
        assert path[0] not in required or len(path) > 1, path
        state = found.learner
        state = step(learner, state, 40)
        assert state.points > found.learner.points
        taken += 1
    assert taken > 30


def test_a_state_without_the_fields_of_later_versions_goes_on_alike() -> None:
    # What the first version of this format wrote, and a field of a version to come.
    arrays, meta = unpack(learned(KMeans(3)), FORMAT, WHERE)
    first = ("averaged", "steps", "points", "held", "time_ms", "revivals")
    old = {name: meta[name] for name in ("family", "sums", "position", "layout", "version")}
    old |= {name: meta[name] for name in ("published", "dead")}
    old["learner"] = {name: meta["learner"][name] for name in first} | {"colour": "red"}
    arrays = {
        name: array
        for name, array in arrays.items()
        if name.startswith(("params.", "stats.", "sample"))
    }
    found = decode_checkpoint(pack(FORMAT, arrays, old), KMeans(3), WHERE).learner
    whole = decode_checkpoint(learned(KMeans(3)), KMeans(3), WHERE).learner
    assert whole.stats is not None
    assert found.components.peak.tolist() == whole.stats.weight.tolist()
    learner = StreamLearner(KMeans(3), warm_up=WARM_UP)
    one, other = (step(learner, state, 9) for state in (found, whole))
    assert same(one.params, other.params)


def test_fields_of_a_later_version_are_passed_over() -> None:
    arrays, meta = unpack(full_state(KMeans(3)), FORMAT, WHERE)
    meta["drift"]["colour"] = meta["lost"]["points"]["colour"] = meta["left"]["colour"] = "red"
    found = decode_checkpoint(pack(FORMAT, arrays, meta), KMeans(3), WHERE)
    assert same(found, decode_checkpoint(full_state(KMeans(3)), KMeans(3), WHERE))


def refused(data: bytes) -> None:
    with pytest.raises(FormatError) as failure:
        decode_checkpoint(data, KMeans(3), WHERE)
    text = str(failure.value)
    assert text.startswith(f"{WHERE} holds a damaged state")
    assert text.endswith("move it away")
    assert "\n" not in text


def test_every_number_that_is_damaged_is_found() -> None:
    family = GaussianMixture(2, "diag")
    state = step(StreamLearner(family, warm_up=20), LearnerState(), 0)
    state = replace(state, clock=replace(state.clock, held=12.5))
    data = encode_checkpoint(Checkpoint(state, POSITION, LAYOUT, 1), family)
    for at in range(0, len(data), 7):
        damaged = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        try:
            found = decode_checkpoint(damaged, family, WHERE)
        except FormatError:
            continue
        assert same(found, decode_checkpoint(data, family, WHERE))


def test_a_state_from_before_the_spread_was_remembered_goes_on() -> None:
    family = GaussianMixture(3)
    learner = StreamLearner(family, HalfLifeTime(3.0), warm_up=WARM_UP)
    state = learner.init()
    for number in range(8):
        state = step(learner, state, number)
    arrays, meta = unpack(encode_checkpoint(Checkpoint(learner=state), family), FORMAT, WHERE)
    kept = {name: array for name, array in arrays.items() if "spread" not in name}
    del meta["learner"]["forgotten"]
    older = decode_checkpoint(pack(FORMAT, kept, meta), family, WHERE).learner
    assert older.spread is None
    assert older.forgetting.weight == older.points
    for number in range(8, 12):  # after a pause, and one point at a time
        X = batch(number)[:1]
        older, _ = learner.update(older, X, time_ms=1e9 * number)
    assert older.spread is not None
    assert older.params is not None
    assert np.linalg.eigvalsh(older.params.covariances).min() > 1e-3
