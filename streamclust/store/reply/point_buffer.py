"""A buffer for the points of a batch: they are decoded into one array, without a copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from streamclust.arrays import Points


class PointBuffer:
    """The points of one batch.

    Parameters
    ----------
    batch_points : int
        Number of points, good or bad, that the batch still needs. The last entry can have more.

    Attributes
    ----------
    used : int
        Number of points in the buffer.
    has_bad : bool
        Whether some of them are bad.
    """

    def __init__(self, batch_points: int) -> None:
        self.batch_points = batch_points
        self.used = 0
        self.has_bad = False
        self._size = batch_points
        self._X: Points = np.empty((0, 0))

    def room(self, n: int, largest: int, D: int, dtype: type[Any]) -> Points:
        """Return free rows, after the used rows, for those of `n` points that the batch needs.

        Parameters
        ----------
        n, largest : int
            Maximum number of points in all entries to decode, and in one of them.
        D : int
        dtype : type
        """
        needed = min(n, self.batch_points + largest)
        if self._X.shape[1] != D or self._X.dtype != dtype or len(self._X) - self.used < needed:
            self._X, self.used = np.empty((max(needed, self._size + largest), D), dtype), 0
        return self._X[self.used :]

    def points(self, n: int) -> Points | None:
        """Return the batch's `n` points; None if the buffer doesn't have exactly these points."""
        if self.used != n or self.has_bad:
            return None
        X = self._X[:n]
        return X if 2 * n >= len(self._X) else X.copy()  # a short batch must not keep a large array
