"""Sizes that are awkward for tiles and vector units, and an exact distance."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import pytest

from streamclust import kernels
from streamclust.arrays import Array
from tests.support.exhaustive import is_exhaustive

NATIVE = tuple(name for name in kernels.available() if name != "numpy")
"""Kernels of the native library that can run here."""

SIZES = (1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 63, 65, 97)


def exact_square(x: Array, c: Array) -> Fraction:
    """Squared distance without any rounding."""
    pairs = zip(x.tolist(), c.tolist(), strict=True)
    return sum(((Fraction(a) - Fraction(b)) ** 2 for a, b in pairs), Fraction(0))


def each_size() -> tuple[int, ...]:
    """Return every size in `make test-all`, every second one in `make test`."""
    return SIZES if is_exhaustive() else SIZES[::2]


@contextmanager
def native(name: str) -> Iterator[None]:
    """Use a native kernel for the block. A failure names it.

    For tests that compare several kernels with one result of the twin, which takes longer than they
    do.
    """
    with kernels.using(name):
        try:
            yield
        except BaseException as error:
            error.add_note(f"kernel: {name}")
            raise


needs_native = pytest.mark.skipif(not NATIVE, reason="there is no native library here")
