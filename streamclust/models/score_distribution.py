r"""The distribution of the scores of points: a histogram that merges and decays like statistics.

A score s is higher for a more unusual point (`streamclust.models.scores`). Bins have equal width in

    u = asinh((s - reference) / unit),    bin = floor(m u)

Near the reference, the bins are unit / m wide. Far from it, their width is a constant share of the
distance to the reference (the relative error of DDSketch; Masson, Rim & Lee 2019). The reference is
the median of the first scores, and the unit is a power of two near their spread. So the bins follow
any shift of the scores, and any scale that is a power of two. The masses H of the bins are sums of
weights:

    H + H' -> H    (merge)        lam H -> H    (decay)

The share of mass above a score is interpolated within its bin. The far tail, where the histogram
has too few points, is a generalised Pareto distribution of the excesses over a high score (peaks
over threshold; Pickands 1975; Siffer, Fouque, Termier & Largouet 2017), fitted by
probability-weighted moments (Hosking & Wallis 1987). The tail is computed from the masses and isn't
stored.
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

_NEGLIGIBLE = 2.0**-50
"""Outermost bins are dropped if their mass is below this share of the total mass."""

_TAIL_POINTS = 250.0
"""Largest number of points in the tail; with more points, the histogram is accurate enough."""

_TAIL_SHARE = 0.1
"""Largest share of all points in the tail."""

_MIN_POINTS = 100.0
"""Least number of points for a threshold."""

_SHAPE_PRIOR = 0.15
"""Standard deviation of the prior of the shape. Its mean is 0: an exponential tail."""

_UNCERTAIN = 5.0
"""Number of posterior variances that are added to the shape. A threshold that is too low by chance
changes the number of flagged points more than one that is too high. With this correction, the
average share of flagged points is the rate."""

_HEAVY, _MIN_TAIL_POINTS = 0.5, 10.0
"""Shape, and least number of points, that limit a single excess."""

_SHAPES = (-0.5, 0.9)
"""Smallest and largest shape of the tail; for others, moments don't exist or are unreliable."""

_LOCATION_SAMPLE = 256
"""Number of scores from which the reference and the unit are computed."""

_MIN_SPREAD = 2.0**-1000
"""Smallest spread that isn't 0."""

_MIN_BINS = 16
"""Least number of bins between the first and the ninth decile of the scores of a batch."""

_MIN_SCORES = 32
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
        with np.errstate(divide="ignore"):  # beyond the end of a bounded tail
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
    """A histogram of scores.

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
        """Return the distribution with these masses, (B,), and `numbers`, its other fields.

        Raises
        ------
        DataError
            If a value isn't allowed.
        LookupError, TypeError, ValueError
            If a number is missing, or isn't a number.
        """
        first = numbers["first"]
        reference, unit, square = (float(numbers[name]) for name in ("reference", "unit", "square"))
        mass = np.asarray(mass, np.float64)
        limit = RESOLUTION * _FARTHEST
        if type(first) is not int or mass.ndim != 1 or not -limit <= first <= limit - len(mass) + 1:
            raise DataError(f"a distribution of scores has {mass.shape} bins from number {first}")
        is_valid = np.isfinite([reference, unit, square]).all() and unit > 0.0 and square >= 0.0
        if not is_valid or not (np.isfinite(mass).all() and (mass >= 0.0).all()):
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
        return before.merge(before.histogram(s, w)).without_negligible()

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

        If this one has no scores, the bins are those of the other one.
        """
        if other.is_empty or self.is_empty:
            return self if other.is_empty else other
        if (other.reference, other.unit) != (self.reference, self.unit):
            other = other.rebinned(self.reference, self.unit)
        first = min(self.first, other.first)
        end = max(self.first + len(self.mass), other.first + len(other.mass))
        mass = np.zeros(end - first)
        for histogram in (self, other):
            mass[histogram.first - first : histogram.first - first + len(histogram.mass)] += (
                histogram.mass
            )
        return self._with(first, mass, self.square + other.square)

    def rebinned(self, reference: float, unit: float) -> ScoreDistribution:
        """Return the distribution in other bins: each mass goes to the bin of its middle."""
        if (reference, unit) == (self.reference, self.unit):
            return self
        if self.is_empty:
            return replace(self, reference=reference, unit=unit)
        after = replace(self, reference=reference, unit=unit)
        bins = after._bins(self._score_at(np.arange(len(self.mass)) + 0.5))
        first = int(bins.min())
        mass = np.asarray(np.bincount(bins - first, weights=self.mass), np.float64)
        return replace(after, first=first, mass=mass)

    def shifted(self, by: float) -> ScoreDistribution:
        """Return the distribution of score + `by`."""
        return replace(self, reference=self.reference + by)

    def mapped(self, slope: float, offset: float) -> ScoreDistribution:
        """Return the distribution of slope * score + offset, for a slope above 0."""
        reference, unit = slope * self.reference + offset, slope * self.unit
        return replace(self, reference=reference, unit=unit)

    def exceedance(self, scores: ArrayLike) -> Array:
        """Return the share of mass above each score, shape (N,); 1 without scores.

        This is 1 - `quantile`, but also accurate for quantiles near 1.
        """
        s = np.asarray(scores, np.float64)
        if self.is_empty:
            return np.ones(s.shape)
        above = self._above
        place = np.clip(RESOLUTION * self._u(s) - self.first, 0.0, len(self.mass))
        bins = np.minimum(place.astype(np.intp), len(self.mass) - 1)
        inside = place - bins
        low, high = above[bins], above[bins + 1]
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
        """Return the score above which a share `rate` of the mass lies.

        The result is infinite as long as there are fewer than 100 points.

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
        above, target = self._above, rates * self.total
        bins = np.searchsorted(-above, -target, side="right") - 1
        low, high = above[bins], above[bins + 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            logarithmic = np.log(target / low) / np.log(high / low)
        inside = np.where(high > 0.0, logarithmic, 1.0 - target / low)
        scores = self._score_at(bins + inside)
        if self.tail is not None:
            in_tail = rates <= self.tail.share
            scores[in_tail] = self.tail.thresholds(rates[in_tail])
        return scores

    @property
    def is_known(self) -> bool:
        """Whether there are enough points for a threshold: 100."""
        return self.points >= _MIN_POINTS

    @cached_property
    def tail(self) -> Tail | None:
        """The far tail; None with too few points, or if many scores equal the highest score."""
        if not self.is_known:
            return None
        above, total, points = self._above, self.total, self.points
        start = int(np.argmax(above <= min(_TAIL_SHARE, _TAIL_POINTS / points) * total))
        if not above[start] > 0.0:  # many scores are equal to the highest one
            return None
        origin = float(self._score_at(start))
        middles = self._score_at(np.arange(start, len(self.mass)) + 0.5)
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

    def _score_at(self, place: ArrayLike) -> Array:
        """Return the scores at places in `mass`; whole numbers are the edges of bins."""
        u = (self.first + np.asarray(place, np.float64)) / RESOLUTION
        return np.asarray(self.reference + self.unit * np.sinh(u))

    def located(self, scores: Array) -> ScoreDistribution:
        """Return the distribution in bins that are fine enough for these scores, (N,).

        Fewer than 32 scores only place the first bins. These bins are small relative to the scores,
        because the spread isn't known yet.
        """
        placed = (self.reference, self.unit) != (0.0, 1.0)
        few = len(scores) < _MIN_SCORES
        if few and placed:
            return self
        sample = np.sort(scores[:: max(1, len(scores) // _LOCATION_SAMPLE)])
        low, middle, high = sample[
            [len(sample) // 10, len(sample) // 2, len(sample) - 1 - len(sample) // 10]
        ]
        spread = float(high - low) or float(sample[-1] - sample[0])
        if few or not spread > _MIN_SPREAD:
            if placed or not self.is_empty:
                return self
            spread = abs(float(middle)) / RESOLUTION
        if not (_MIN_SPREAD < spread < math.inf and math.isfinite(middle)):
            return self
        if not self.is_empty and np.ptp(self._bins(np.array([low, high]))) >= _MIN_BINS:
            return self
        return self.rebinned(float(middle), 2.0 ** math.floor(math.log2(spread)) / 2.0)

    def without_negligible(self) -> ScoreDistribution:
        """Return the distribution without outermost bins of negligible mass."""
        bins = np.flatnonzero(self.mass > _NEGLIGIBLE * self.total)
        if not len(bins):
            return ScoreDistribution(reference=self.reference, unit=self.unit)
        start, end = int(bins[0]), int(bins[-1]) + 1
        if (start, end) == (0, len(self.mass)):
            return self
        return self._with(self.first + start, self.mass[start:end], self.square)

    def _with(self, first: int, mass: Array, square: float) -> ScoreDistribution:
        """Return other masses in the same bins; faster than `replace`, and each step calls it."""
        return ScoreDistribution(first, mass, self.reference, self.unit, square)


def _pareto(excess: Array, mass: Array, points_per_mass: float) -> tuple[float, float]:
    """Return shape and scale of the generalised Pareto distribution of excesses with masses.

    `excess` is in ascending order. The shape is the estimate by probability-weighted moments,
    shrunk towards 0 by the prior, plus a correction for its uncertainty (`_UNCERTAIN`). The scale
    then follows from the mean.
    """
    total = float(mass.sum())
    # A few far anomalies would decide the mean, so no excess counts more than the largest one of a
    # tail of the shape `_HEAVY`.
    middle = excess[np.searchsorted(np.cumsum(mass), 0.5 * total)] / math.log(2.0)
    n = max(total * points_per_mass, _MIN_TAIL_POINTS)
    excess = np.minimum(excess, middle * (n**_HEAVY - 1.0) / _HEAVY)
    above = np.cumsum(mass[::-1])[::-1] - 0.5 * mass
    mean = float(mass @ excess) / total
    weighted = float((mass * above) @ excess) / (total * total)
    shape = 2.0 - mean / (mean - 2.0 * weighted) if mean > 2.0 * weighted else _SHAPES[1]
    variance = 4.0 / 3.0 / (total * points_per_mass)
    trust = _SHAPE_PRIOR**2 / (_SHAPE_PRIOR**2 + variance)
    shape = trust * (shape + _UNCERTAIN * variance)
    shape = min(max(shape, _SHAPES[0]), _SHAPES[1])
    return shape, mean * (1.0 - shape)
