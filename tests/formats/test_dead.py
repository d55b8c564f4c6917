"""Dead points are counted exactly, and made into objects only where somebody looks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamclust.formats.dead import DeadBlock, DeadPoint, DeadPoints


def block(entry_id: Any, places: list[int]) -> DeadBlock:
    def explain(index: Any) -> Iterator[tuple[str, bytes]]:
        return ((f"why {place}", b"%d" % place * 2000) for place in index.tolist())

    return DeadBlock(entry_id, np.array(places, np.int64), explain, 1)


def single(entry_id: Any) -> DeadPoint:
    return DeadPoint(entry_id, -1, "no point", b"x")


blocks = st.lists(st.integers(0, 9), unique=True, min_size=1).map(sorted)
parts = st.lists(st.one_of(st.none(), blocks), max_size=6).map(
    lambda some: [single(n) if p is None else block(n, p) for n, p in enumerate(some)]
)


@given(parts, st.integers(-20, 20), st.integers(-20, 20))
def test_they_are_cut_as_a_tuple_is(some: list[Any], start: int, stop: int) -> None:
    dead = DeadPoints(some)
    objects = tuple(dead)
    assert len(dead) == len(objects)
    assert dead == objects
    assert dead[start:stop] == objects[start:stop]
    assert dead.newest(3) == objects[max(len(objects) - 3, 0) :]
    assert [dead[place] for place in range(-len(dead), len(dead))] == [*objects, *objects]


@given(parts)
def test_each_entry_has_as_many_as_it_has(some: list[Any]) -> None:
    dead = DeadPoints(some)
    entries = [point.entry_id for point in dead]
    assert dead.per_entry(9).tolist() == [entries.count(n) for n in range(9)]
    assert dead.places().tolist() == [max(point.index, 0) for point in dead]
    assert [point.entry_id for point in dead.shifted(5)] == [n + 5 for n in entries]


def test_an_excerpt_is_cut() -> None:
    [point] = DeadPoints([block(1, [7])])
    assert point == DeadPoint(1, 7, "why 7", b"7" * 1024)


def test_objects_are_made_of_those_only_that_are_looked_at() -> None:
    looked: list[int] = []

    def explain(index: Any) -> Iterator[tuple[str, bytes]]:
        looked.extend(index.tolist())
        return (("why", b"") for _ in index)

    dead = DeadPoints([DeadBlock(1, np.arange(1000), explain, 1), single(2)])
    assert len(dead) == 1001
    assert dead.newest(3)[0].index == 998
    assert looked == [998]
