"""Sizes that are awkward for tiles and vector units, and an exact distance."""

from __future__ import annotations

from fractions import Fraction

from streamclust.arrays import Array

SIZES = (1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 65, 97)


def exact_square(x: Array, c: Array) -> Fraction:
    """Squared distance without any rounding."""
    pairs = zip(x.tolist(), c.tolist(), strict=True)
    return sum(((Fraction(a) - Fraction(b)) ** 2 for a, b in pairs), Fraction(0))
