"""Sizes that are awkward for tiles and vector units, and an exact distance."""

from __future__ import annotations

from fractions import Fraction

from _pytest.mark import ParameterSet

from streamclust.arrays import Array
from tests.support.exhaustive import combinations

SIZES = (1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 65, 97)


def exact_square(x: Array, c: Array) -> Fraction:
    """Squared distance without any rounding."""
    pairs = zip(x.tolist(), c.tolist(), strict=True)
    return sum(((Fraction(a) - Fraction(b)) ** 2 for a, b in pairs), Fraction(0))


def each_size() -> list[ParameterSet]:
    """Return every size as a parameter; every second one for `make test-all` only."""
    return combinations(SIZES, always=lambda size: size in SIZES[::2])
