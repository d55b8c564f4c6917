"""Blocks of points: the unit of an e-step, of a fixed size."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from streamclust.arrays import MAX_MAGNITUDE, Array, Missing, as_points, as_sample_weight
from streamclust.models.directions import have_direction, normalized

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import ArrayLike

BLOCK = 1 << 17
"""Largest number of points per block. The sums of a part are taken block by block, so this number
and the next two are parts of the definition of a result."""

_CELLS = 1 << 22
"""Largest number of coordinates of a block: 32 MiB."""

_FEWEST = 256


def block_rows(n_features: int) -> int:
    """Return the number of points per block: `BLOCK`, or 1/2, 1/4, ... of it for wide points."""
    rows = BLOCK
    while rows > _FEWEST and rows * n_features > _CELLS:
        rows //= 2
    return rows


class Points(NamedTuple):
    """Points (N, D), and their weights (N,), all positive.

    Points of a block may be in float32, from which kernels make the same bits as from float64.
    Points that a result holds are in float64.
    """

    X: Array
    w: Array


def points(
    X: ArrayLike,
    w: ArrayLike | None,
    *,
    directions: bool = False,
    missing: Missing = "reject",
    sane: bool = False,
) -> Points:
    """Return points without those of weight 0, in float64; sane ones in float32 stay so.

    Parameters
    ----------
    X : array-like of shape (N, D)
    w : array-like of shape (N,) or None
    directions : bool
        Whether only the direction of a point counts: points become unit vectors, and zero vectors
        are left out.
    missing : {'reject', 'learn'}
        'learn': NaN is a missing value.
    sane : bool
        Whether `X` is a table of numbers that are known to be of a magnitude up to `MAX_MAGNITUDE`.
    """
    if sane and not directions:
        table = cast("Array", np.ascontiguousarray(X))
    else:
        most = float(np.finfo(np.float64).max) if directions else MAX_MAGNITUDE
        table = as_points(X, most=most, missing=missing)
    weight = as_sample_weight(w, len(table))
    if w is None and not directions:
        return Points(table, weight)
    kept = weight > 0.0
    if directions:
        kept &= have_direction(table)
    if not kept.all():
        table, weight = np.ascontiguousarray(table[kept]), weight[kept]
    return Points(np.asarray(normalized(table)) if directions else table, weight)


def in_blocks(chunks: Iterable[Points]) -> Iterator[Points]:
    """Yield the points of chunks in blocks of the size of `block_rows`; the last can be shorter.

    A block without points is never yielded. A chunk that is a block isn't copied.
    """
    kept: list[Points] = []
    count = size = 0
    for chunk in chunks:
        if not len(chunk.w):
            continue
        start, size = 0, size or block_rows(chunk.X.shape[1])
        while count + len(chunk.w) - start >= size:
            stop = start + size - count
            yield joined([*kept, Points(chunk.X[start:stop], chunk.w[start:stop])])
            kept, count, start = [], 0, stop
        if start < len(chunk.w):
            kept.append(Points(chunk.X[start:], chunk.w[start:]))
            count += len(chunk.w) - start
    if kept:
        yield joined(kept)


def array_blocks(found: Points) -> Sequence[Points]:
    """Return the blocks of points in memory."""
    n, size = len(found.w), block_rows(found.X.shape[1])
    if 0 < n <= size:
        return (found,)
    X, w = found
    return [Points(X[start : start + size], w[start : start + size]) for start in range(0, n, size)]


def joined(chunks: list[Points]) -> Points:
    """Return the points of all chunks, at least one, in one array."""
    if len(chunks) == 1:
        return chunks[0]
    return Points(np.concatenate([c.X for c in chunks]), np.concatenate([c.w for c in chunks]))
