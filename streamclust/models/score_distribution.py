r"""The distribution of the scores of points: a histogram that merges and decays like statistics.

A score s is higher for a more unusual point (`streamclust.models.scores`). Bins have equal width in

    u = asinh((s - reference) / unit),    bin = floor(m u)

so near the reference they are as wide as unit / m, and far from it their width is a constant
share of the distance to it (the relative error of DDSketch; Masson, Rim & Lee 2019). The reference
is the median of the first scores, and the unit is a power of two near their spread, so the bins
follow any shift of the scores and any scale that is a power of two. The masses of bins are sums of
weights:

    H + H' -> H    (merge)        lam H -> H    (decay)

The share of mass above a score is interpolated within its bin. The far tail, where the histogram
has too few points, is a generalised Pareto distribution of the excesses over a high score (peaks
over threshold; Pickands 1975; Siffer, Fouque, Termier & Largouet 2017), fitted by
probability-weighted moments (Hosking & Wallis 1987). It follows from the masses and isn't stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from streamclust.arrays import Array, Labels, short_repr
from streamclust.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

RESOLUTION = 64
"""Bins per unit of u. Distances to the reference have a relative error of at most 1 / 128."""

_FARTHEST = 40
"""Largest |u|; the last bin has all scores farther than 1e17 units from the reference."""

_FADED = 2.0**-50
"""Share of the total mass below which the outermost bins are dropped."""

_TAIL_POINTS = 250.0
"""Number of points in the tail; above this many, the histogram itself is accurate enough."""

_TAIL_SHARE = 0.1
"""Largest share of all points in the tail."""

_FEWEST = 100.0
"""Number of points, below which no threshold is known."""

_SHAPE_PRIOR = 0.15
"""Standard deviation of the shape's prior, whose mean is 0: an exponential tail."""

_UNCERTAIN = 5.0
"""Posterior variances that are added to the shape. A threshold that is too low by chance flags more
points in excess than one that is too high flags too few; with this, the average is the rate."""

_HEAVY, _FEWEST_IN_TAIL = 0.5, 10.0
"""Shape, and least number of points, that limit a single excess."""

_SHAPES = (-0.5, 0.9)
"""Smallest and largest shape of the tail; the moments of others don't exist, or are unreliable."""

_LOCATED_BY = 256
"""Number of scores that give a reference and a unit."""

_SMALLEST = 2.0**-1000
"""Smallest spread that isn't 0."""

_FEWEST_BINS = 16
"""Least number of bins between the first and the last tenth of the scores of a batch."""

_FEWEST_SCORES = 32
"""Least number of scores of a batch that can change the reference."""


_NUMBERS = ("first", "reference", "unit", "square")


class Tail(NamedTuple):
    """The generalised Pareto distribution of the excesses x = s - start.

    P(s > start + x) = share (1 + shape x / scale)^(-1 / shape)
    """

    start: float
    share: float
    shape: float
    scale: float

    def exceedance(self, scores: Array) -> Array:
        """Return P(s > score), for scores from `start` on."""
        excess = np.maximum(scores - self.start, 0.0) / self.scale
        if self.shape == 0.0:
            return self.share * np.exp(-excess)
        with np.errstate(divide="ignore"):  # beyond the end of a tail that has one
            log = np.log1p(np.maximum(self.shape * excess, -1.0))
        return np.asarray(self.share * np.exp(-log / self.shape))

    def thresholds(self, rates: Array) -> Array:
        """Return the scores with P(s > score) = rate, for rates up to `share`."""
        log = np.log(self.share / rates)
        if self.shape == 0.0:
            return self.start + self.scale * log
        return self.start + self.scale * np.expm1(self.shape * log) / self.shape


@dataclass(frozen=True, eq=False)
class ScoreDistribution:
    """Masses of the scores that a model remembers, by bin.

    Parameters
    ----------
    first : int
        Number of the bin of `mass[0]`.
    mass : array of shape (B,)
        Total weight of the scores in each bin; empty without scores.
    reference, unit : float
        Location and scale of the bins.
    square : float
        Sum of the squared weights, from which the number of points follows.

    Examples
    --------
    >>> import numpy as np
    >>> scores = np.random.default_rng(0).exponential(size=20_000)
    >>> known = ScoreDistribution().add(scores)
    >>> known.quantile([0.7, 4.6]).round(2).tolist()
    [0.51, 0.99]
    >>> float(np.mean(scores > known.threshold(0.01)).round(3))
    0.01
    """

    first: int = 0
    mass: Array = field(default_factory=lambda: np.empty(0))
    reference: float = 0.0
    unit: float = 1.0
    square: float = 0.0

    def __repr__(self) -> str:
        return short_repr(self, points=self.points, mass=self.total, bins=len(self.mass))

    @classmethod
    def of(cls, mass: Array, numbers: Mapping[str, float]) -> ScoreDistribution:
        """Return the distribution with these masses and `numbers`.

        Raises
        ------
        DataError
            If they aren't those of a distribution.
        LookupError, TypeError, ValueError
            If a number is missing, or isn't a number.
        """
        first = numbers["first"]
        reference, unit, square = (float(numbers[name]) for name in ("reference", "unit", "square"))
        mass = np.asarray(mass, np.float64)
        most = RESOLUTION * _FARTHEST
        if type(first) is not int or mass.ndim != 1 or not -most <= first <= most - len(mass) + 1:
            raise DataError(f"a distribution of scores has {mass.shape} bins from number {first}")
        plain = np.isfinite([reference, unit, square]).all() and unit > 0.0 and square >= 0.0
        if not plain or not (np.isfinite(mass).all() and (mass >= 0.0).all()):
            raise DataError("a distribution of scores holds NaN, infinity or a negative number")
        return cls(first, mass, reference, unit, square)

    @property
    def numbers(self) -> dict[str, Any]:
        """All fields except `mass`, for JSON."""
        return {name: value for name, value in vars(self).items() if name in _NUMBERS}

    @cached_property
    def total(self) -> float:
        """Total mass."""
        return float(self.mass.sum())

    @property
    def points(self) -> float:
        """Effective number of points (Kish 1965): (sum w)^2 / sum w^2."""
        return self.total**2 / self.square if self.square > 0.0 else 0.0

    @property
    def is_empty(self) -> bool:
        """Whether there are no scores."""
        return not len(self.mass)

    def add(self, scores: ArrayLike, weights: ArrayLike | None = None) -> ScoreDistribution:
        """Return the distribution with more scores.

        Parameters
        ----------
        scores : array-like of shape (N,)
        weights : array-like of shape (N,), optional
            Not negative. Default: 1 for each score.
        """
        s = np.asarray(scores, np.float64)
        if not len(s):
            return self
        w = np.ones(len(s)) if weights is None else np.asarray(weights, np.float64)
        before = self.located(s)
        return before.merge(before.histogram(s, w)).without_faded()

    def histogram(self, scores: Array, weights: Array) -> ScoreDistribution:
        """Return the distribution of these scores alone, (N,), in the bins of this one."""
        bins = self._bins(scores)
        first = int(bins.min())
        mass = np.asarray(np.bincount(bins - first, weights=weights), np.float64)
        return self._with(first, mass, float(weights @ weights))

    def decay(self, lam: float) -> ScoreDistribution:
        """Return the distribution with every weight multiplied by `lam` (>= 0)."""
        if lam == 1.0 or self.is_empty:
            return self
        square = lam * lam * self.square
        if not square > 0.0:  # also where the square of a small factor underflows
            return ScoreDistribution(reference=self.reference, unit=self.unit)
        return self._with(self.first, lam * self.mass, square)

    def merge(self, other: ScoreDistribution) -> ScoreDistribution:
        """Return the distribution of both sets of scores, in the bins of this one.

        If it has no scores, the bins are those of the other one.
        """
        if other.is_empty or self.is_empty:
            return self if other.is_empty else other
        if (other.reference, other.unit) != (self.reference, self.unit):
            other = other.rebinned(self.reference, self.unit)
        first = min(self.first, other.first)
        end = max(self.first + len(self.mass), other.first + len(other.mass))
        mass = np.zeros(end - first)
        for each in (self, other):
            mass[each.first - first : each.first - first + len(each.mass)] += each.mass
        return self._with(first, mass, self.square + other.square)

    def rebinned(self, reference: float, unit: float) -> ScoreDistribution:
        """Return the distribution in other bins: each mass goes to the bin of its middle."""
        if (reference, unit) == (self.reference, self.unit):
            return self
        if self.is_empty:
            return replace(self, reference=reference, unit=unit)
        found = replace(self, reference=reference, unit=unit)
        bins = found._bins(self._at(np.arange(len(self.mass)) + 0.5))
        first = int(bins.min())
        mass = np.asarray(np.bincount(bins - first, weights=self.mass), np.float64)
        return replace(found, first=first, mass=mass)

    def shifted(self, by: float) -> ScoreDistribution:
        """Return the distribution of scores that are larger by a constant, as in other units."""
        return replace(self, reference=self.reference + by)

    def mapped(self, slope: float, offset: float) -> ScoreDistribution:
        """Return the distribution of slope * score + offset, for a slope above 0."""
        reference, unit = slope * self.reference + offset, slope * self.unit
        return replace(self, reference=reference, unit=unit)

    def exceedance(self, scores: ArrayLike) -> Array:
        """Return the share of mass above each score, shape (N,); 1 without scores.

        This is 1 - `quantile`, and accurate where that is nearly 1.
        """
        s = np.asarray(scores, np.float64)
        if self.is_empty:
            return np.ones(s.shape)
        above = self._above
        place = np.clip(RESOLUTION * self._u(s) - self.first, 0.0, len(self.mass))
        at = np.minimum(place.astype(np.intp), len(self.mass) - 1)
        inside = place - at
        low, high = above[at], above[at + 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            logarithmic = low * (high / low) ** inside
        share = np.where(high > 0.0, logarithmic, low * (1.0 - inside)) / self.total
        if self.tail is not None:
            in_tail = s > self.tail.start
            share[in_tail] = self.tail.exceedance(s[in_tail])
        return share

    def quantile(self, scores: ArrayLike) -> Array:
        """Return the share of mass below each score, shape (N,), from 0 to 1; 0 without scores."""
        return 1.0 - self.exceedance(scores)

    def threshold(self, rate: float) -> float:
        """Return the score that a share `rate` of the mass is above.

        It is infinite as long as there are fewer than 100 points.

        Parameters
        ----------
        rate : float
            Between 0 and 1.
        """
        return float(self.thresholds(np.array([rate]))[0])

    def thresholds(self, rates: Array) -> Array:
        """Return the `threshold` of each rate, shape (R,)."""
        if not self.is_known:
            return np.full(len(rates), math.inf)
        above, wanted = self._above, rates * self.total
        at = np.searchsorted(-above, -wanted, side="right") - 1
        low, high = above[at], above[at + 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            logarithmic = np.log(wanted / low) / np.log(high / low)
        inside = np.where(high > 0.0, logarithmic, 1.0 - wanted / low)
        found = self._at(at + inside)
        if self.tail is not None:
            in_tail = rates <= self.tail.share
            found[in_tail] = self.tail.thresholds(rates[in_tail])
        return found

    @property
    def is_known(self) -> bool:
        """Whether there are enough points for a threshold: 100."""
        return self.points >= _FEWEST

    @cached_property
    def tail(self) -> Tail | None:
        """The far tail; None with too few points, or if many equal the highest score."""
        if not self.is_known:
            return None
        above, total, points = self._above, self.total, self.points
        start = int(np.argmax(above <= min(_TAIL_SHARE, _TAIL_POINTS / points) * total))
        if not above[start] > 0.0:  # many scores are equal to the highest one
            return None
        origin = float(self._at(start))
        middles = self._at(np.arange(start, len(self.mass)) + 0.5)
        shape, scale = _pareto(middles - origin, self.mass[start:], points / total)
        return Tail(origin, float(above[start]) / total, shape, scale)

    @cached_property
    def _above(self) -> Array:
        """Mass from each bin on, shape (B + 1,)."""
        return np.append(np.cumsum(self.mass[::-1])[::-1], 0.0)

    def _u(self, scores: Array) -> Array:
        u = np.arcsinh((scores - self.reference) / self.unit)
        return np.asarray(np.fmax(np.fmin(u, _FARTHEST), -_FARTHEST))  # NaN is the farthest

    def _bins(self, scores: Array) -> Labels:
        return np.floor(RESOLUTION * self._u(scores)).astype(np.intp)

    def _at(self, place: ArrayLike) -> Array:
        """Return the scores at places in `mass`; whole numbers are the edges of bins."""
        u = (self.first + np.asarray(place, np.float64)) / RESOLUTION
        return np.asarray(self.reference + self.unit * np.sinh(u))

    def located(self, scores: Array) -> ScoreDistribution:
        """Return the distribution in bins that are fine enough for these scores, (N,).

        Fewer than 32 scores place only the first bins: bins that are small relative to the scores,
        because their spread isn't known.
        """
        placed = (self.reference, self.unit) != (0.0, 1.0)
        few = len(scores) < _FEWEST_SCORES
        if few and placed:
            return self
        some = np.sort(scores[:: max(1, len(scores) // _LOCATED_BY)])
        low, middle, high = some[[len(some) // 10, len(some) // 2, len(some) - 1 - len(some) // 10]]
        spread = float(high - low) or float(some[-1] - some[0])
        if few or not spread > _SMALLEST:
            if placed or not self.is_empty:
                return self
            spread = abs(float(middle)) / RESOLUTION
        if not (_SMALLEST < spread < math.inf and math.isfinite(middle)):
            return self
        if not self.is_empty and np.ptp(self._bins(np.array([low, high]))) >= _FEWEST_BINS:
            return self
        return self.rebinned(float(middle), 2.0 ** math.floor(math.log2(spread)) / 2.0)

    def without_faded(self) -> ScoreDistribution:
        """Return the distribution without the outermost bins of hardly any mass."""
        kept = np.flatnonzero(self.mass > _FADED * self.total)
        if not len(kept):
            return ScoreDistribution(reference=self.reference, unit=self.unit)
        start, end = int(kept[0]), int(kept[-1]) + 1
        if (start, end) == (0, len(self.mass)):
            return self
        return self._with(self.first + start, self.mass[start:end], self.square)

    def _with(self, first: int, mass: Array, square: float) -> ScoreDistribution:
        """Return other masses in the same bins; faster than `replace`, and each step calls it."""
        return ScoreDistribution(first, mass, self.reference, self.unit, square)


def _pareto(excess: Array, mass: Array, points_per_mass: float) -> tuple[float, float]:
    """Return shape and scale of the excesses, which rise, with their masses.

    The shape is that of the probability-weighted moments, drawn towards 0 by its prior, and raised
    by what its uncertainty costs. The scale then follows from the mean.
    """
    total = float(mass.sum())
    # A few far anomalies would decide the mean, so no excess counts more than the largest one of a
    # tail of the shape `_HEAVY`.
    middle = excess[np.searchsorted(np.cumsum(mass), 0.5 * total)] / math.log(2.0)
    n = max(total * points_per_mass, _FEWEST_IN_TAIL)
    excess = np.minimum(excess, middle * (n**_HEAVY - 1.0) / _HEAVY)
    above = np.cumsum(mass[::-1])[::-1] - 0.5 * mass
    mean = float(mass @ excess) / total
    weighted = float((mass * above) @ excess) / (total * total)
    shape = 2.0 - mean / (mean - 2.0 * weighted) if mean > 2.0 * weighted else _SHAPES[1]
    variance = 4.0 / 3.0 / (total * points_per_mass)
    kept = _SHAPE_PRIOR**2 / (_SHAPE_PRIOR**2 + variance)
    shape = kept * (shape + _UNCERTAIN * variance)
    shape = min(max(shape, _SHAPES[0]), _SHAPES[1])
    return shape, mean * (1.0 - shape)
