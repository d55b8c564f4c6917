"""The first pass over points: their number, and all of them or a uniform sample."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from streamclust.arrays import has_gaps
from streamclust.engine.identity import SAME
from streamclust.engine.points import Points, joined
from streamclust.formats.container import Fields

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamclust.arrays import Array

    PointsAndTickets = tuple[Points, Array]


_SAMPLE_BYTES = 1 << 28
"""Largest size of a sample, 256 MiB: a sample of very wide points has fewer points."""


@dataclass(frozen=True, eq=False)
class Surveyed:
    """The points of some parts.

    Parameters
    ----------
    chunks : tuple of (Points, array)
        Points and their tickets: all points, or at least the points with the smallest tickets.
    weight : float
        Total weight of all points.
    sizes : tuple of int
        Number of points of each part.
    n_features : int or None
        None if there are no points.
    whole : bool
        Whether `chunks` has all points.
    missing : array of shape (D,), optional
        Total weight of the points that lack each feature; None if no value is missing.
    """

    chunks: tuple[PointsAndTickets, ...]
    weight: float
    sizes: tuple[int, ...]
    n_features: int | None
    whole: bool
    missing: Array | None = None

    @property
    def count(self) -> int:
        """Number of all points."""
        return sum(self.sizes)


def _owned(values: Array) -> Array:
    """Return an array in float64 that isn't a view of a file or of a larger array."""
    is_own = values.flags.owndata and values.dtype == np.float64
    return values if is_own else np.array(values, np.float64)


def _sum(a: Array | None, b: Array | None) -> Array | None:
    """Return the sum of both; None counts as zeros."""
    if a is None or b is None:
        return b if a is None else a
    return a + b


@dataclass(frozen=True)
class Survey:
    """The task: keep all points, or a uniform sample if they don't fit in memory.

    Each point gets a random ticket, from the seed and the number of the part. The points with the
    smallest tickets are the sample.

    Parameters
    ----------
    seed : int
    sample : int
        Number of points of the sample.
    max_bytes : int
        Largest size of all points in memory.
    """

    seed: int
    sample: int
    max_bytes: int

    kind: ClassVar[str] = "survey"
    kernels: ClassVar[str] = SAME

    def run(self, number: int, blocks: Iterable[Points]) -> Surveyed:
        """Return the points of a part."""
        rng = np.random.default_rng((self.seed, 1, number))
        chunks: list[PointsAndTickets] = []
        weight, count, n_features, whole = 0.0, 0, None, True
        missing: Array | None = None
        for block in blocks:
            own = Points(_owned(block.X), _owned(block.w))
            chunks.append((own, rng.random(len(block.w))))
            weight, count = weight + float(block.w.sum()), count + len(block.w)
            n_features = block.X.shape[1]
            if has_gaps(block.X):
                missing = _sum(missing, block.w @ np.isnan(block.X))
            chunks, whole = self._pruned(chunks, whole)
        return Surveyed(tuple(chunks), weight, (count,), n_features, whole, missing)

    def merge(self, a: Surveyed, b: Surveyed) -> Surveyed:
        """Return the points of both."""
        chunks, whole = self._pruned([*a.chunks, *b.chunks], a.whole and b.whole)
        D = b.n_features if a.n_features is None else a.n_features
        weight, missing = a.weight + b.weight, _sum(a.missing, b.missing)
        return Surveyed(tuple(chunks), weight, a.sizes + b.sizes, D, whole, missing)

    def _pruned(
        self, chunks: list[PointsAndTickets], whole: bool
    ) -> tuple[list[PointsAndTickets], bool]:
        """Return the points to keep. If they don't all fit into memory, drop most of the others."""
        size = sum(chunk.X.nbytes + chunk.w.nbytes for chunk, _ in chunks)
        whole = whole and size <= self.max_bytes
        if not whole and sum(len(tickets) for _, tickets in chunks) > 2 * self.sample:
            chunks = [self._smallest(chunks)]
        return chunks, whole

    def points(self, found: Surveyed) -> Points:
        """Return all points, or the sample, in the order of the parts."""
        if found.whole:
            return joined([chunk for chunk, _ in found.chunks])
        return self._smallest(list(found.chunks))[0]

    def _smallest(self, chunks: list[PointsAndTickets]) -> PointsAndTickets:
        """Return the points with the smallest tickets, without a copy of all points."""
        tickets = np.concatenate([numbers for _, numbers in chunks])
        most = min(self.sample, _SAMPLE_BYTES // (8 * chunks[0][0].X.shape[1]))
        is_kept = np.ones(len(tickets), np.bool_)
        if len(tickets) > most:
            is_kept[np.argpartition(tickets, most)[most:]] = False
        ends = np.cumsum([len(numbers) for _, numbers in chunks])[:-1]
        masks = np.split(is_kept, ends)
        sampled = [
            Points(chunk.X[mask], chunk.w[mask])
            for (chunk, _), mask in zip(chunks, masks, strict=True)
        ]
        return joined(sampled), tickets[is_kept]

    def to_fields(self) -> Fields:
        """Return the numbers."""
        return Fields({}, asdict(self))

    @classmethod
    def from_fields(cls, fields: Fields) -> Survey:
        """Return the task."""
        return cls(**fields.values)

    def result_to_fields(self, result: Surveyed) -> Fields:
        """Return the points in one array."""
        arrays = {"weight": np.array([result.weight])}
        if result.chunks:
            X, w = joined([chunk for chunk, _ in result.chunks])
            tickets = np.concatenate([numbers for _, numbers in result.chunks])
            arrays |= {"X": X, "w": w, "tickets": tickets}
        if result.missing is not None:
            arrays["missing"] = result.missing
        values = {"sizes": list(result.sizes), "D": result.n_features, "whole": result.whole}
        return Fields(arrays, values)

    def result_from_fields(self, fields: Fields) -> Surveyed:
        """Return the points."""
        arrays, values = fields.arrays, fields.values
        chunks: tuple[PointsAndTickets, ...] = ()
        if "X" in arrays:
            chunks = ((Points(arrays["X"], arrays["w"]), arrays["tickets"]),)
        weight, sizes = float(arrays["weight"][0]), tuple(values["sizes"])
        missing = arrays.get("missing")
        return Surveyed(chunks, weight, sizes, values["D"], values["whole"], missing)
