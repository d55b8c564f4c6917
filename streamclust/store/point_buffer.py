"""Room for the points of a batch, which are decoded one behind another, so that none is moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from streamclust.arrays import Points


class PointBuffer:
    """Gathers points until they are as many as a batch wants.

    Parameters
    ----------
    wanted : int
        Points that are still to come, whether they can be learned or not; the last entry may
        bring more.

    Attributes
    ----------
    used : int
        Points that lie in the array.
    """

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.used = 0
        self._size = wanted
        self._X: Points = np.empty((0, 0))

    def room(self, n: int, largest: int, D: int, dtype: type[Any]) -> Points:
        """Return rows to write to, behind those in use, for what is wanted of `n` points.

        Parameters
        ----------
        n, largest : int
            Points that all entries to be read hold at most, and that one does.
        D : int
        dtype : type
        """
        needed = min(n, self.wanted + largest)
        if self._X.shape[1] != D or self._X.dtype != dtype or len(self._X) - self.used < needed:
            self._X, self.used = np.empty((max(needed, self._size + largest), D), dtype), 0
        return self._X[self.used :]

    def points(self, n: int) -> Points | None:
        """Return the points of a batch if it has `n` and all of them lie here."""
        if self.used != n:
            return None
        X = self._X[:n]
        return X if 2 * n >= len(self._X) else X.copy()  # a short batch needn't hold it all
