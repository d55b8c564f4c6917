"""The points of a state in their own value, which commits append to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamclust import (
    Drift,
    Forgetting,
    GaussianMixture,
    HalfLife,
    HalfLifeTime,
    KMeans,
    StreamLearner,
)
from streamclust.errors import FormatError
from streamclust.formats.checkpoint import (
    Checkpoint,
    decode_checkpoint,
    encode_checkpoint,
    encode_commit,
    stored_points,
)
from streamclust.formats.state_points import StatePoints, with_points
from streamclust.models import Family

FEEDS: list[tuple[Family[Any], Any, dict[str, Any]]] = [
    (KMeans(4), HalfLife(500.0), {"coreset": 300}),
    (KMeans(4), Forgetting(), {}),
    (KMeans(3), HalfLifeTime(5.0), {"coreset": 200, "drift": Drift("page_hinkley")}),
    (KMeans(6, min_clusters=2), HalfLife(900.0), {"coreset": 400}),
    (GaussianMixture(2, "full"), HalfLife(200.0), {"coreset": 250}),
    (GaussianMixture(2, "diag"), Forgetting(), {"coreset": 0}),
]


def points(number: int) -> Any:
    rng = np.random.default_rng(number)
    return rng.normal(size=(rng.integers(1, 40), 3)) + 9.0 * (number // 40)


@pytest.mark.parametrize(("family", "forgetting", "more"), FEEDS, ids=str)
def test_any_series_of_commits_leaves_the_bytes_of_one_commit(
    family: Family[Any], forgetting: Any, more: dict[str, Any]
) -> None:
    # Given a learner, and commits after random numbers of steps
    rng = np.random.default_rng(1)
    learner = StreamLearner(family, forgetting, warm_up=200, **more)
    state, value = learner.init(), b""
    before: StatePoints | None = stored_points(Checkpoint(learner=state), family)
    changes = {"set": 0, "append": 0, "keep": 0}
    for number in range(60):
        state, _ = learner.update(state, points(number), time_ms=100.0 * number)
        if rng.random() < 0.6:
            continue
        # When each commit writes what has changed
        checkpoint = Checkpoint(learner=state)
        done = encode_commit(checkpoint, family, before)
        change = done.change
        assert change.how == "set" or change.before == len(value)
        value = change.data if change.how == "set" else value + change.data
        changes[change.how] += 1
        before = done.points
        # Then both values are those that one commit writes, and the state is read back
        whole = encode_commit(checkpoint, family, None)
        assert (whole.state, whole.change.data) == (done.state, value)
        found = decode_checkpoint(done.state, family, "state", value)
        assert encode_checkpoint(found, family) == encode_checkpoint(checkpoint, family)
    # and most commits write only what is new
    assert changes["append"] + changes["keep"] > changes["set"]


def committed() -> tuple[bytes, bytes]:
    family = KMeans(3)
    learner = StreamLearner(family, warm_up=60, coreset=100)
    state = learner.init()
    for number in range(20):
        state, _ = learner.update(state, points(number))
    done = encode_commit(Checkpoint(learner=state), family, None)
    return done.state, done.change.data


STATE, CORESET = committed()


@pytest.mark.parametrize(
    "coreset",
    [b"", CORESET[:-1], CORESET[:-32], CORESET + bytes(32), CORESET[::-1], b"x" * len(CORESET)],
    ids=["gone", "cut", "fewer", "more", "reversed", "other"],
)
def test_points_of_another_state_are_refused(coreset: bytes) -> None:
    with pytest.raises(FormatError, match="where with :coreset holds the points of another state"):
        decode_checkpoint(STATE, KMeans(3), "where", coreset)


@pytest.mark.parametrize("place", range(0, len(CORESET), 97))
def test_each_flipped_bit_is_found(place: int) -> None:
    damaged = bytearray(CORESET)
    damaged[place] ^= 1 << (place % 8)
    with pytest.raises(FormatError):
        decode_checkpoint(STATE, KMeans(3), "where", bytes(damaged))


@pytest.mark.parametrize(
    "damage",
    [
        {"base": -1},
        {"base": "x"},
        {"base": 1 << 70},
        {"growing": ["core", "w"]},
        {"growing": None},
        {"shape": [-1, 3]},
        {"shape": [1]},
        {"shape": None},
        {"crc32": None},
    ],
    ids=str,
)
def test_damaged_facts_of_the_points_raise_no_other_error(damage: dict[str, Any]) -> None:
    meta = {"base": 0, "growing": ["fresh", "fresh_weight"], "shape": [0, 3], "crc32": 0}
    with pytest.raises((FormatError, LookupError, TypeError, ValueError)):
        with_points({}, {**meta, **damage}, b"", "where")
