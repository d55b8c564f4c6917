"""Products of parameters and laws of which `make test` runs a part, and `make test-all` all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import pytest
from _pytest.mark import ParameterSet
from hypothesis import settings

PROFILE = "exhaustive"
"""Hypothesis profile of `make test-all`."""


def combinations(*values: Iterable[Any], always: Callable[..., bool]) -> list[ParameterSet]:
    """Return all combinations; those that aren't `always` tested are marked `exhaustive`."""
    return [
        pytest.param(*each, marks=() if always(*each) else (pytest.mark.exhaustive,))
        for each in product(*values)
    ]


def some(values: Iterable[Any], *always: Any) -> list[ParameterSet]:
    """Return all values; those that aren't among `always` are marked `exhaustive`."""
    return combinations(values, always=lambda value: value in always)


def is_exhaustive() -> bool:
    """Whether this is `make test-all`."""
    return settings.get_current_profile_name() == PROFILE


def examples(count: int, part: int = 3, **more: Any) -> settings:
    """Return the settings of a law: `count` examples, of which `make test` tries one of `part`."""
    number = count if is_exhaustive() else count // part
    return settings(deadline=None, max_examples=number, **more)
