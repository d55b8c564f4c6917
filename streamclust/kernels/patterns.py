"""Missingness patterns: the set of missing features of each point, and the points of each set."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from streamclust.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamclust.arrays import Labels, Points

_WORD = 8
"""Bytes of a sort key for 64 features."""


class Patterns:
    """The points of a batch by their missingness patterns.

    Parameters
    ----------
    complete : array of shape (n,)
        Rows without a gap, ascending.
    absent : array of bool, shape (P, D)
        The different patterns: True where the value is missing. Their order depends on the patterns
        alone.
    order : array of shape (N - n,)
        Rows with gaps, grouped by pattern; ascending within a pattern.
    starts : array of shape (P + 1,)
        The rows of pattern p are ``order[starts[p] : starts[p + 1]]``.

    Raises
    ------
    DataError
        If a point has no value.
    """

    def __init__(
        self, complete: Labels, absent: NDArray[np.bool_], order: Labels, starts: Labels
    ) -> None:
        if absent.all(axis=1).any():
            raise DataError("a point has no value: all its values are missing; drop such points")
        self.complete, self.absent, self.order, self.starts = complete, absent, order, starts

    def __len__(self) -> int:
        return len(self.absent)

    @cached_property
    def rows(self) -> list[Labels]:
        """Rows of each pattern, ascending."""
        return np.split(self.order, self.starts[1:-1]) if len(self) else []


def sort_by_pattern(X: Points, complete: Labels, gappy: Labels) -> Patterns:
    """Return the patterns, in the order of their bits; the first feature has the highest bit.

    Parameters
    ----------
    X : array of shape (N, D)
        NaN is a missing value.
    complete, gappy : array
        Rows without a gap, and rows with one; ascending.
    """
    absent = np.isnan(X.take(gappy, axis=0))
    bits = np.packbits(absent, axis=1)
    words = np.zeros((len(bits), -(-bits.shape[1] // _WORD) * _WORD), np.uint8)
    words[:, : bits.shape[1]] = bits
    keys = words.view(">u8").astype(np.uint64)
    order = np.lexsort(keys.T[::-1])
    keys = keys[order]
    new = np.ones(len(keys) + 1, np.bool_)
    new[1:-1] = (keys[1:] != keys[:-1]).any(axis=1)
    starts = np.flatnonzero(new)
    return Patterns(complete, absent[order[starts[:-1]]], gappy[order], starts)
