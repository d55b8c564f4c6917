"""States of a learner and models of any family, for tests of the formats."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from streamclust.formats.layout import Layout
from streamclust.formats.model import Model
from streamclust.models import Family
from streamclust.online.learner import LearnerState, StreamLearner
from tests.support.strategies import random_params

LAYOUT = Layout("fields", None, "w", ("x", "ÿ"), 2, strict=True)
POSITION = {"points": "1526919030474-55", "naïve name": "0-0"}

_RNG = np.random.default_rng(0)


def same(a: Any, b: Any) -> bool:
    """Whether two states are equal to the last bit, with the same types throughout."""
    if is_dataclass(a) and type(a) is type(b):
        return all(same(getattr(a, each.name), getattr(b, each.name)) for each in fields(a))
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    return type(a) is type(b) and bool(a == b)


def batch(number: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Skewed blobs that drift and move away now and then, so that components die."""
    rng = np.random.default_rng((seed, number))
    places = np.array([[0.0, 0.0], [8.0, 1.0], [-5.0, 9.0]]) + 40.0 * (number // 6)
    X = places[rng.integers(0, 3, 30)] + rng.normal(size=(30, 2)) @ [[1.0, 0.4], [0.0, 0.5]]
    return np.asarray(X)


def step(
    learner: StreamLearner[Any], state: LearnerState[Any], number: int, seed: int = 0
) -> LearnerState[Any]:
    weight = np.random.default_rng(number).choice([0.0, 0.5, 1.0, 3.0], 30)
    return learner.update(state, batch(number, seed), weight, time_ms=1000.0 * number)[0]


def a_model(family: Family[Any], **changes: Any) -> Model:
    model = Model(
        name="palette",
        version=7,
        reason="step",
        family=family,
        params=random_params(family, _RNG.normal(size=(family.n_components, 3)), _RNG),
        mass=_RNG.uniform(1.0, 100.0, family.n_components),
        position={"pixels": "1526919030474-55", "pixels2": "0-0"},
        points=123_456_789_012,
        loss=0.1 + 0.2,
        time_ms=1526919030474.0,
        features=("r", "g", "b"),
    )
    return replace(model, **changes)
