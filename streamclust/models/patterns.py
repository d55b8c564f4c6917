"""Missingness patterns: which values of a point are present, and which points share a pattern."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from streamclust.arrays import Labels, Points

_WORD = 8
"""Bytes of a number that holds 64 features."""


class Patterns(NamedTuple):
    """The points of a batch by their missingness patterns.

    Parameters
    ----------
    complete : array of shape (n,)
        Rows without a gap.
    absent : array of bool, shape (P, D)
        The different patterns, in an order that depends on the patterns alone: True where the value
        is missing.
    rows : list of P arrays
        Rows of each pattern, ascending.
    """

    complete: Labels
    absent: NDArray[np.bool_]
    rows: list[Labels]

    def chunks(self, cells: int, most: int) -> Iterator[slice]:
        """Yield slices of the patterns, so that each slice needs at most `most` cells of memory.

        `cells` is the number of cells per pattern.
        """
        step = max(1, most // cells)
        for start in range(0, len(self.rows), step):
            yield slice(start, min(start + step, len(self.rows)))


def patterns(X: Points) -> Patterns:
    """Return the rows of points (N, D) by their missingness patterns."""
    absent = np.isnan(X)
    gap = absent.any(axis=1)
    gappy, complete = np.flatnonzero(gap), np.flatnonzero(~gap)
    if not len(gappy):
        return Patterns(complete, absent[:0], [])
    absent = absent[gappy]
    bits = np.packbits(absent, axis=1)
    words = np.zeros((len(bits), -(-bits.shape[1] // _WORD) * _WORD), np.uint8)
    words[:, : bits.shape[1]] = bits
    keys = words.view(">u8")
    order = np.lexsort(keys.T[::-1]) if keys.shape[1] > 1 else np.argsort(keys[:, 0], kind="stable")
    keys = keys[order]
    first = np.flatnonzero(np.r_[True, (keys[1:] != keys[:-1]).any(axis=1)])
    return Patterns(complete, absent[order[first]], np.split(gappy[order], first[1:]))
