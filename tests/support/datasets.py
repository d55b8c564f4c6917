"""Tables to refit models to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from streamclust.arrays import Array
from streamclust.refit.data import Dataset, gather
from streamclust.refit.sources import Points, points


@dataclass
class Table:
    """A source that counts how often it is read."""

    X: Array
    w: Array
    size: int = 100
    label: str = "table"
    passes: int = 0

    def chunks(self) -> Iterator[Points]:
        self.passes += 1
        for start in range(0, len(self.X), self.size):
            part = slice(start, start + self.size)
            yield points(self.X[part], self.w[part])


def a_table(n: int = 1000, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2)) + 8.0 * rng.integers(0, 3, size=(n, 1))
    return Table(X, rng.integers(0, 3, size=n).astype(float))


def by_chunks(table: Table) -> Dataset:
    return gather(table, 0, in_memory=1000, sample=200)
