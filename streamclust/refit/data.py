"""The points of a refit: in memory if they fit, else read in each pass of the batch loop."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from streamclust.engine import ArrayPart, EStep, Inline, Notes, Points, Reader
from streamclust.engine.base import Done, check, never
from streamclust.engine.points import in_blocks
from streamclust.engine.survey import Survey, Surveyed
from streamclust.errors import TooFewPointsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamclust.arrays import Array
    from streamclust.engine import Engine, Part, Task
    from streamclust.models.family import Family
    from streamclust.models.scaling import Scaling
    from streamclust.models.stats import Stats
    from streamclust.refit.sources import Source

R = TypeVar("R")

IN_MEMORY = 1 << 28
"""Maximum bytes of points in memory, 256 MiB; more points are read again in each pass."""

SAMPLE = 1 << 17
"""Number of points of the sample for seeds, if the points don't fit in memory."""


@dataclass(frozen=True)
class Reports:
    """Functions that a dataset calls while it is read.

    Parameters
    ----------
    on_points : callable
        Called with the number of points read so far in a pass.
    on_part : callable
        Called with the number of parts that are done in a pass, and the number of all parts; the
        latter is 0 if unknown.
    warn : callable
        Called with a sentence about points that were trimmed.
    stop : callable
        Returns whether to raise `StoppedError` in the first pass.
    """

    on_points: Callable[[int], object] = lambda _: None
    on_part: Callable[[int, int], object] = lambda _done, _total: None
    warn: Callable[[str], object] = lambda _: None
    stop: Callable[[], bool] = never


@dataclass(frozen=True, eq=False)
class Dataset:
    """The points of a source after the first pass over it.

    Parameters
    ----------
    source : Source
    sample : Points
        All points, if they fit in memory, else a uniform sample.
    weight : float
        Total weight.
    parts : tuple of Part
    sizes : tuple of int
        Number of points of positive weight in each part.
    missing : array of shape (D,) or None
        Total weight of the points without a value of each feature; None if no value is missing.
    scaling : Scaling or None
        The scales of the features. `sample` is already scaled; each pass scales the other points.
    engine : Engine
        Computes each pass.
    reports : Reports
    """

    source: Source
    sample: Points
    weight: float
    parts: tuple[Part, ...]
    sizes: tuple[int, ...]
    missing: Array | None = None
    scaling: Scaling | None = None
    engine: Engine = field(default_factory=Inline)
    reports: Reports = field(default_factory=Reports)
    _lost: list[int] = field(default_factory=list)

    @cached_property
    def count(self) -> int:
        """Number of points with a positive weight."""
        return sum(self.sizes)

    @property
    def is_in_memory(self) -> bool:
        """Whether `sample` has all points."""
        return len(self.sample.w) == self.count

    def e_step(self, family: Family[Any], params: Any, stop: Callable[[], bool]) -> Stats:
        """Return the sum of the e-steps over all points, part by part."""
        return self.fold(EStep(family, params), stop)

    def fold(self, task: Task[R], stop: Callable[[], bool]) -> R:
        """Return the merged results of a task over all parts.

        Points in memory are divided into the same parts. So the bits of the result don't depend on
        whether all points fit in memory.
        """
        if self.is_in_memory and not self.engine.remote:
            return self.engine.fold(task, Reader(), self._parts_in_memory, stop)
        points, done_parts, lost = 0, 0, 0

        def on_done(done: Done[R]) -> None:
            nonlocal points, done_parts, lost
            points, done_parts = points + done.notes.points, done_parts + 1
            lost += done.notes.lost
            self.reports.on_points(points)
            self.reports.on_part(done_parts, len(self.parts))

        reader = replace(self.source.reader(), scaling=self.scaling)
        result = self.engine.fold(task, reader, self.parts, stop, on_done)
        if lost > sum(self._lost):
            self._lost.append(lost - sum(self._lost))
            self.reports.warn(
                f"{lost:,} points of {self.source.label} were trimmed since the first pass; "
                "further passes don't include them"
            )
        return result

    @cached_property
    def log_volume(self) -> float:
        """Mean of log |dx / dz| of a point, where z has the scaled values; see `Scaling`.

        Only the present values of a point count.
        """
        if self.scaling is None:
            return 0.0
        if self.missing is None:
            return self.scaling.log_volume
        shares = 1.0 - self.missing / self.weight
        return float(shares @ np.log(self.scaling.scale))

    def scaled(self, scaling: Scaling | None) -> Dataset:
        """Return the points in the units that the model learns in."""
        if scaling is None:
            return self
        sample = Points(scaling.apply(self.sample.X), self.sample.w)
        return replace(self, sample=sample, scaling=scaling)

    @cached_property
    def _parts_in_memory(self) -> tuple[ArrayPart, ...]:
        """The same parts as `parts`, from the sample."""
        ends = np.cumsum((0, *self.sizes)).tolist()
        X, w = self.sample
        return tuple(ArrayPart(X[start:stop], w[start:stop]) for start, stop in pairwise(ends))


def gather(
    source: Source,
    seed: int,
    *,
    in_memory: int = IN_MEMORY,
    sample: int = SAMPLE,
    engine: Engine | None = None,
    reports: Reports | None = None,
) -> Dataset:
    """Read a source once; store its points, or a uniform sample if they don't fit in memory.

    Raises
    ------
    TooFewPointsError
        If there are no points.
    StoppedError
        If `reports.stop` returned True.
    """
    engine, reports = engine or Inline(), reports or Reports()
    task, count = Survey(seed, sample, in_memory), 0
    source.on_points = reports.on_points
    parts: list[Part] = []
    merged: Surveyed | None = None
    for part, total, done in _first_pass(source, task, engine, reports.stop):
        parts.append(part)
        source.note(part, done.notes)
        if done.value.n_features is not None:
            source.check(done.value.n_features)
        merged = done.value if merged is None else task.merge(merged, done.value)
        count += done.value.count
        reports.on_points(count)
        reports.on_part(len(parts), total)
    source.end()
    if merged is None or not merged.count:
        raise TooFewPointsError(f"no points in {source.label}")
    sample_of_points = task.points(merged)
    return Dataset(
        source,
        sample_of_points,
        merged.weight,
        tuple(parts),
        merged.sizes,
        merged.missing,
        engine=engine,
        reports=reports,
    )


def _first_pass(
    source: Source, task: Survey, engine: Engine, stop: Callable[[], bool]
) -> Iterator[tuple[Part, int, Done[Surveyed]]]:
    """Yield each part, the number of all parts (0 if unknown), and its result."""
    later: list[Part] = []
    for number, (part, points) in enumerate(source.parts()):
        if points is None:
            later.append(part)
            continue
        check(stop)
        value = task.run(number, in_blocks(points))
        yield part, 0, Done(value, Notes(value.count))
    results = engine.map(task, source.reader(), enumerate(later), stop)
    for part, done in zip(later, results, strict=True):
        yield part, len(later), done


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
        Called with the parameters and their statistics after each pass.
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
        """Revive components by `Family.revive`, with points of the sample."""
        dying = np.flatnonzero(~stats.alive).tolist()
        X, w = self.points.sample
        return self.family.revive(stats, dying, X, w, self.rng)[0]
