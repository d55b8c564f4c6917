"""Tables of components: of one version, and of the change between two."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamclust import KMeans, KMeansParams, Model
from streamclust.cli._components import centroid_changes, component_lines, difference_lines
from streamclust.cli._terminal import Terminal


def a_model(means: Any, version: int = 1, **fields: Any) -> Model:
    means = np.asarray(means, float)
    K = len(means)
    whole: dict[str, Any] = {"mass": np.arange(1.0, K + 1.0), **fields}
    return Model(
        "m",
        version,
        "step",
        KMeans(K),
        KMeansParams(means),
        whole.pop("mass"),
        {},
        100,
        1.0,
        None,
        **whole,
    )


@given(
    st.integers(1, 30),
    st.floats(-300, 300).map(lambda power: 10.0**power),
    st.integers(30, 250),
    st.randoms(use_true_random=False),
)
def test_each_value_is_whole_in_every_width(D: int, scale: float, width: int, random: Any) -> None:
    means = [[random.uniform(-scale, scale) for _ in range(D)] for _ in range(4)]
    lines = component_lines(a_model(means), Terminal(width))
    assert max(map(len, lines)) <= width
    features = [word for word in lines[0].split() if word.startswith("x")]
    for row, mean in zip(lines[1:5], means, strict=True):
        assert "…" not in row
        values = [float(word.replace(",", "")) for word in row.split()[-len(features) :]]
        assert values == pytest.approx(mean[: len(features)], rel=6e-3, abs=0.0)
    if len(features) < D:
        assert " ".join(lines[5:]).startswith(f"+{D - len(features)} more feature")


def test_an_embedding_shows_the_features_that_fit() -> None:
    model = a_model(np.full((2, 384), -9.97e-05))
    assert component_lines(model, Terminal(80))[-1] == "+379 more features; --json has all"
    assert component_lines(model, Terminal(None)) == component_lines(model, Terminal(80))
    wide = component_lines(model, Terminal(160))
    assert wide[1].count("-9.97e-05") == 13


def test_only_the_heaviest_of_many_components_are_shown() -> None:
    lines = component_lines(a_model(np.ones((1000, 2))), Terminal(80), 3, "; elsewhere")
    assert [line.split()[0] for line in lines[1:4]] == ["997", "998", "999"]
    assert lines[4] == "+997 lighter components; elsewhere"


def test_a_change_shows_what_moved_most_and_births_and_deaths_first() -> None:
    before = a_model([[0.0, 0.0], [5.0, 5.0], [9.0, 9.0]], ids=np.array([0, 3, 4]))
    after = a_model([[0.0, 2.0], [5.0, 5.5], [1.0, 1.0]], 2, ids=np.array([0, 3, 7]))
    _, *rows = difference_lines(before, after, 20, Terminal(80))
    assert [row.split() for row in rows] == [
        ["4", "died", "50.00%", "-", "-", "-", "-"],
        ["7", "born", "-", "50.00%", "-", "-", "-"],
        ["0", "2.0", "16.67%", "16.67%", "+0.00", "pp", "+0", "+2.0"],
        ["3", "0.5", "33.33%", "33.33%", "+0.00", "pp", "+0", "+0.5"],
    ]
    assert centroid_changes(before, after) == [[0.0, 2.0], [0.0, 0.5], None]


def test_of_many_features_those_that_changed_most_are_shown() -> None:
    means = np.zeros((1, 300))
    moved = means.copy()
    moved[0, [17, 250]] = [1.0, -2.0]
    lines = difference_lines(a_model(means), a_model(moved, 2), 20, Terminal(60))
    assert lines[0].split()[7:9] == ["x250", "x17"]
    assert lines[1].split()[6:8] == ["-2", "+1"]
    assert "features that changed less" in " ".join(lines[2:])
