"""Products of parameters of which `make test` runs a part, and `make test-all` runs all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import pytest
from _pytest.mark import ParameterSet


def combinations(*values: Iterable[Any], always: Callable[..., bool]) -> list[ParameterSet]:
    """Return all combinations; those that aren't `always` tested are marked `exhaustive`."""
    return [
        pytest.param(*each, marks=() if always(*each) else (pytest.mark.exhaustive,))
        for each in product(*values)
    ]
