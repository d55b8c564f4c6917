"""Tables to refit models to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamclust.arrays import Array
from streamclust.engine import ArrayPart, Reader
from streamclust.engine.points import points
from streamclust.refit.data import Dataset, gather
from streamclust.refit.sources import Source, SourcePart


@dataclass
class Table(Source):
    """A source that counts how often each of its parts is read."""

    X: Array
    w: Array
    size: int = 100
    label: str = "table"
    reads: int = 0

    def parts(self) -> Iterator[SourcePart]:
        for start in range(0, len(self.X), self.size):
            part = slice(start, start + self.size)
            yield SourcePart(ArrayPart(*points(self.X[part], self.w[part], missing="learn")))

    def reader(self) -> Reader:
        return _Counting(table=self)

    @property
    def passes(self) -> float:
        return self.reads / len(range(0, len(self.X), self.size))


@dataclass(frozen=True)
class _Counting(Reader):
    table: Any = None

    def blocks(self, part: Any, note: Any, **options: Any) -> Any:
        self.table.reads += 1
        return super().blocks(part, note, **options)


def a_table(n: int = 1000, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2)) + 8.0 * rng.integers(0, 3, size=(n, 1))
    return Table(X, rng.integers(0, 3, size=n).astype(float))


def by_chunks(table: Table) -> Dataset:
    return gather(table, 0, in_memory=1000, sample=200)
