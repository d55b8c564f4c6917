"""The points of a refit for the batch loop: in memory if they fit, else read in chunks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.errors import StoppedError, TooFewPointsError
from streamclust.models.stats import merge
from streamclust.refit.sources import Points

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamclust.arrays import Array
    from streamclust.models.family import Family
    from streamclust.models.scaling import Scaling
    from streamclust.models.stats import Stats
    from streamclust.refit.sources import Source

IN_MEMORY = 1 << 28
"""Maximum bytes of points in memory, 256 MiB; more points are read again in each pass."""

SAMPLE = 1 << 17
"""Points of the sample that seeds the runs, if not all points are in memory."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """The points of a source after the first pass over it.

    Parameters
    ----------
    source : Source
    sample : Points
        All points, if they fit in memory, else a uniform sample.
    count : int
        Number of points with a positive weight.
    weight : float
        Total weight.
    scaling : Scaling or None
        The sample is scaled already; each pass scales the other points.
    on_points : callable
        Given the number of points read so far, in each pass that reads them again.
    """

    source: Source
    sample: Points
    count: int
    weight: float
    scaling: Scaling | None = None
    on_points: Callable[[int], None] = lambda _: None

    @property
    def whole(self) -> bool:
        """Whether the sample holds all points."""
        return len(self.sample.X) == self.count

    def e_step(self, family: Family[Any], params: Any, stop: Callable[[], bool]) -> Stats:
        """Return the sum of the e-steps over all points, by chunks if they aren't in memory."""
        chunks = (self.sample,) if self.whole else self._chunks()
        return reduce(merge, (_e_step(family, params, chunk, stop) for chunk in chunks))

    def scaled(self, scaling: Scaling | None) -> Dataset:
        """Return the points in the units that the model learns in."""
        if scaling is None:
            return self
        sample = Points(scaling.apply(self.sample.X), self.sample.w)
        return replace(self, sample=sample, scaling=scaling)

    def _chunks(self) -> Iterator[Points]:
        count = 0
        for X, w in self.source.chunks():
            yield Points(X if self.scaling is None else self.scaling.apply(X), w)
            count += len(X)
            self.on_points(count)


def _e_step(family: Family[Any], params: Any, chunk: Points, stop: Callable[[], bool]) -> Stats:
    if stop():
        raise StoppedError("interrupted before there was a result; nothing was changed")
    return family.e_step(params, chunk.X, chunk.w)


def gather(
    source: Source,
    seed: int,
    *,
    in_memory: int = IN_MEMORY,
    sample: int = SAMPLE,
    on_points: Callable[[int], None] = lambda _: None,
) -> Dataset:
    """Read a source once; keep its points, or a uniform sample if they don't fit in memory.

    Each point gets a random ticket; the points with the smallest tickets are the sample.

    Raises
    ------
    TooFewPointsError
        If there are no points.
    """
    rng = np.random.default_rng((seed, 1))
    held: list[tuple[Points, Array]] = []
    count, weight, size, whole = 0, 0.0, 0, True
    for chunk in source.chunks():
        held.append((chunk, rng.random(len(chunk.X))))
        count, weight = count + len(chunk.X), weight + float(chunk.w.sum())
        size += chunk.X.nbytes + chunk.w.nbytes
        whole = whole and size <= in_memory
        if not whole and sum(len(tickets) for _, tickets in held) > 2 * sample:
            held = [_smallest(held, sample)]
        on_points(count)
    if not count:
        raise TooFewPointsError(f"no points in {source.label}")
    kept = held if whole else [_smallest(held, sample)]
    sampled = _joined([chunk for chunk, _ in kept])
    return Dataset(source, sampled, count, weight, on_points=on_points)


def _smallest(held: list[tuple[Points, Array]], n: int) -> tuple[Points, Array]:
    """Return the points with the `n` smallest tickets, in the order of the source."""
    all_points = _joined([chunk for chunk, _ in held])
    tickets = np.concatenate([numbers for _, numbers in held])
    if len(tickets) <= n:
        return all_points, tickets
    kept = np.sort(np.argpartition(tickets, n)[:n])
    return Points(all_points.X[kept], all_points.w[kept]), tickets[kept]


def _joined(chunks: list[Points]) -> Points:
    if len(chunks) == 1:
        return chunks[0]
    return Points(np.concatenate([c.X for c in chunks]), np.concatenate([c.w for c in chunks]))


@dataclass(frozen=True, eq=False)
class Observed:
    """`Data` for the batch loop that reports each pass, and can be stopped within a pass.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    points : Dataset
    rng : numpy.random.Generator
        For reviving components without points.
    on_pass : callable
        Given the parameters and their statistics, after each pass.
    stop : callable
        Returns whether to raise `StoppedError`.
    """

    family: Family[Any]
    points: Dataset
    rng: np.random.Generator
    on_pass: Callable[[Any, Stats], None]
    stop: Callable[[], bool]

    def e_step(self, params: Any) -> Stats:
        """Return the sum of the e-steps over all points."""
        stats = self.points.e_step(self.family, params, self.stop)
        self.on_pass(params, stats)
        return stats

    def revive(self, stats: Stats) -> Stats:
        """Revive by the family's own rule, on the points or their sample."""
        dying = np.flatnonzero(~stats.alive).tolist()
        X, w = self.points.sample
        return self.family.revive(stats, dying, X, w, self.rng)[0]
