"""Stored states: each field has one place, and only values of its kind are read."""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter
from typing import Any

import pytest

from streamclust.errors import FormatError
from streamclust.formats import learner_state
from streamclust.formats.container import Fields
from streamclust.formats.learner_state import from_stored, to_stored
from streamclust.models import KMeans
from streamclust.online.learner import LearnerState, StreamLearner
from tests.support.states import same, step


def a_state() -> LearnerState[Any]:
    learner = StreamLearner(KMeans(3), warm_up=60)
    state = learner.init()
    for number in range(5):
        state = step(learner, state, number)
    return state


def test_every_field_has_a_place_of_its_own() -> None:
    paths = [path for path, _ in learner_state._leaves(LearnerState())]
    places = {learner_state._place(path) for path in paths}
    assert len(places) == len(paths)


def test_the_tables_name_fields_that_exist() -> None:
    for path in [*learner_state._NAMES, *learner_state._OWN_FORM]:
        attrgetter(path)(LearnerState())


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("learner", "steps", "5"),
        ("learner", "steps", 5.5),
        ("learner", "gathering", 1),
        ("learner", "points", True),
        ("learner", "best_total", None),
        ("learner", "time_ms", "now"),
        ("learner", "falls", [3]),
        ("drift", "batches", [1]),
        ("averaging", "rough", None),
    ],
)
def test_a_value_of_another_kind_is_refused(section: str, name: str, value: Any) -> None:
    family, state = KMeans(3), a_state()
    stored = to_stored(state, family)
    assert same(from_stored(stored, family), state)
    values = {**stored.values, section: {**stored.values[section], name: value}}
    with pytest.raises((FormatError, TypeError)):
        from_stored(replace(stored, values=values), family)


def test_a_part_without_one_of_its_fields_has_the_default_of_this_field() -> None:
    family, state = KMeans(3), a_state()
    stored = to_stored(state, family)
    arrays = {name: array for name, array in stored.arrays.items() if name not in ("best", "ids")}
    learner = {name: value for name, value in stored.values["learner"].items() if name != "held"}
    found = from_stored(Fields(arrays, {**stored.values, "learner": learner}), family)
    assert state.stats is not None
    assert found.components.peak.tolist() == state.stats.weight.tolist()
    assert found.components.ids.tolist() == []  # K doesn't adapt
    assert found.clock == replace(state.clock, held=0.0)


def test_an_older_state_gives_new_components_the_numbers_after_its_largest() -> None:
    family = KMeans(4, min_clusters=2)
    learner = StreamLearner(family, warm_up=60)
    state = learner.init()
    for number in range(3):
        state = step(learner, state, number)
    stored = to_stored(state, family)
    old = {name: value for name, value in stored.values["learner"].items() if name != "next_id"}
    arrays = {**stored.arrays, "ids": stored.arrays["ids"] + 5}
    found = from_stored(Fields(arrays, {**stored.values, "learner": old}), family)
    assert found.components.next_id == 6 + max(state.ids)
