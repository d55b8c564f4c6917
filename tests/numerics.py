"""Arithmetic that is watched: dividing by zero and making NaN are errors, not warnings."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def strict_floats() -> Iterator[None]:
    """Let NumPy raise on a division by zero and on an invalid operation."""
    with np.errstate(divide="raise", invalid="raise"):
        yield
