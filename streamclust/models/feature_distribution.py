r"""The distribution of the values of each feature, and the tail score of a point.

The tail score is that of COPOD (Li, Zhao, Botta, Ionescu & Hu 2020). With the tail probabilities

    l_j = P(feature j <= x_j),    r_j = P(feature j >= x_j)

it is a sum over the features. The term of a feature is large if its value is far out in a tail:

    sum_j max(-log s_j, (-log l_j - log r_j) / 2 + (1 - a_j) |log l_j - log r_j| / 2)

where s_j is r_j if the feature is skewed to the right, else l_j; a_j = min(|skewness| / 0.2, 1). A
skewed feature (a_j = 1) has the term of COPOD. A symmetric feature (a_j = 0) has that of ECOD (Li,
Zhao, Hu, Botta, Ionescu & Chen 2022): the smaller one of both tail probabilities. In between, the
term is interpolated, so that no score jumps where the sign of the skewness changes.

The probabilities come from a histogram per feature that merges and decays like statistics. Bins
have equal width in

    u = asinh((x - reference) / unit),    bin = floor(16 u + 1/2),    from -128 to 128

Near the reference, a bin is 1 / 16 unit wide. Far from it, the width is 1 / 16 of the distance to
it. The outermost bins hold all values farther than 1444 units. A tail includes the whole bin of the
value, so the probabilities are exact for values rounded to bins. A point counts once in its own
tail, as a point of COPOD's sample does: no probability is 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from streamclust.arrays import Array, Labels, Points, short_repr
from streamclust.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

RESOLUTION = 16
"""Bins per unit of u."""

_HALF = 128

BINS = 2 * _HALF + 1
"""Bins per feature: 2 kB."""

MOST_FEATURES = 1000
"""Largest number of features: 2 MB in each state and each version."""

TOO_MANY_FEATURES = (
    f"the tail score remembers {BINS} numbers per feature, and the limit is {MOST_FEATURES:,} "
    "features; use another score"
)
"""End of errors about more features than that."""

_SYMMETRIC = 0.2
"""Skewness from which on a feature is skewed."""

_CLIPPED = 20.0
"""Distance to the reference, in units, at which a value's influence on the skewness stops growing,
so that a few far values don't decide the sign."""

_FEWEST_BINS = 8
"""Least number of bins between the first and the last tenth of a feature's values."""

_UNITS = 8.0
"""Units between the first and the last tenth of a feature's values."""

_LOCATED_BY = 1024
"""Number of points that give references and units."""

_FADED = 2.0**-50
"""Share of a feature's mass, below which a bin is emptied."""

_TILE_CELLS = 1 << 18
"""Values whose bins are computed at once."""

_U = (np.arange(BINS) - _HALF) / RESOLUTION
_MIDDLES = np.sinh(_U)
"""Middles of the bins, in units from the reference."""


def _empty() -> Array:
    return np.empty(0)


@dataclass(frozen=True, eq=False)
class FeatureDistribution:
    """Masses of the values that a model remembers, by feature and bin.

    Parameters
    ----------
    mass : array of shape (D, 257)
        Total weight of the values in each bin; of shape (0, 257) before the first point.
    square : array of shape (D,)
        Sums of the squared weights, from which the weight of one point follows.
    reference, unit : arrays of shape (D,)
        Location and scale of the bins; `unit` is positive.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).exponential(size=(20_000, 2))
    >>> known = FeatureDistribution().add(X)
    >>> known.scores(np.array([[0.5, 0.5], [0.5, 9.0]])).round().tolist()
    [1.0, 9.0]
    """

    mass: Array = field(default_factory=lambda: np.empty((0, BINS)))
    square: Array = field(default_factory=_empty)
    reference: Array = field(default_factory=_empty)
    unit: Array = field(default_factory=_empty)

    def __repr__(self) -> str:
        mass = float(self.total.max(initial=0.0))
        return short_repr(self, features=len(self.mass), mass=mass)

    @classmethod
    def of(cls, arrays: Mapping[str, Array], D: int) -> FeatureDistribution:
        """Return the distribution of D features with these arrays, by the names of its fields.

        Raises
        ------
        DataError
            If they aren't those of a distribution.
        LookupError, TypeError, ValueError
            If an array is missing, or doesn't hold numbers.
        """
        found = cls(*(np.asarray(arrays[each.name], np.float64) for each in fields(cls)))
        shapes = [found.mass.shape, found.square.shape, found.reference.shape, found.unit.shape]
        if shapes != [(D, BINS), (D,), (D,), (D,)]:
            raise DataError(f"a distribution of {D} features has arrays of the shapes {shapes}")
        finite = all(np.isfinite(getattr(found, each.name)).all() for each in fields(cls))
        if not (finite and (found.mass >= 0.0).all() and (found.square >= 0.0).all()):
            raise DataError("a distribution of features holds NaN, infinity or a negative number")
        if not (found.unit > 0.0).all():
            raise DataError("a distribution of features has a unit that isn't positive")
        return found

    @property
    def arrays(self) -> dict[str, Array]:
        """All fields by name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @cached_property
    def total(self) -> Array:
        """Total mass of each feature, (D,)."""
        return np.asarray(self.mass.sum(axis=1))

    @property
    def is_empty(self) -> bool:
        """Whether there are no values."""
        return not self.total.any()

    def add(self, X: Points, weights: Array | None = None) -> FeatureDistribution:
        """Return the distribution with more points (N, D); NaN is a missing value.

        Parameters
        ----------
        X : array of shape (N, D)
        weights : array of shape (N,), optional
            Not negative. Default: 1 for each point.
        """
        w = np.ones(len(X)) if weights is None else weights
        return self.observe(X, w, 1.0) if len(X) else self

    def observe(self, X: Points, w: Array, lam: float) -> FeatureDistribution:
        """Return the distribution after a batch of points, (N, D) and (N,).

        `lam` is the factor of the statistics.
        """
        before = self.located(X).decay(lam)
        return before.merge(before.histogram(X, w))

    def histogram(self, X: Points, w: Array) -> FeatureDistribution:
        """Return the distribution of these points alone, in the bins of this one."""
        D = len(self.reference)
        mass, square = np.zeros(D * BINS), np.zeros(D)
        for part in _tiles(X):
            bins, present = self._bins(X[part]), ~np.isnan(X[part])
            weights = np.where(present, w[part, None], 0.0)
            flat = (bins + BINS * np.arange(D)).ravel()
            mass += np.bincount(flat, weights=weights.ravel(), minlength=D * BINS)
            square += np.einsum("nd,nd->d", weights, weights)
        return FeatureDistribution(mass.reshape(D, BINS), square, self.reference, self.unit)

    def decay(self, lam: float) -> FeatureDistribution:
        """Return the distribution with every weight multiplied by `lam` (>= 0)."""
        if lam == 1.0:
            return self
        square = lam * lam * self.square  # 0 also where the square of a small factor underflows
        kept = (square[:, None] > 0.0) & (self.mass > _FADED * self.total[:, None])
        mass = np.where(kept, lam * self.mass, 0.0)
        return replace(self, mass=mass, square=square)

    def merge(self, other: FeatureDistribution) -> FeatureDistribution:
        """Return the distribution of both sets of points, in the bins of this one.

        A feature that has no values here has the bins of the other one.
        """
        if not len(self.mass) or not len(other.mass):
            return self if len(self.mass) else other
        none = self.total == 0.0
        reference = np.where(none, other.reference, self.reference)
        unit = np.where(none, other.unit, self.unit)
        other = other.rebinned(reference, unit)
        return FeatureDistribution(
            self.mass + other.mass, self.square + other.square, reference, unit
        )

    def rebinned(self, reference: Array, unit: Array) -> FeatureDistribution:
        """Return the distribution in other bins: each mass goes to the bin of its middle."""
        moved = np.flatnonzero((reference != self.reference) | (unit != self.unit))
        if not len(moved):
            return self
        found = replace(self, mass=self.mass.copy(), reference=reference, unit=unit)
        middles = self.reference[moved] + self.unit[moved] * _MIDDLES[:, None]
        bins = _bins_of(middles, reference[moved], unit[moved])
        for place, d in enumerate(moved):
            found.mass[d] = np.bincount(bins[:, place], self.mass[d], minlength=BINS)
        return found

    def mapped(self, scale: Array | float, offset: Array | float) -> FeatureDistribution:
        """Return the distribution of scale * x + offset, for scales above 0."""
        return replace(
            self,
            reference=np.asarray(scale * self.reference + offset),
            unit=np.asarray(scale * self.unit),
        )

    def scores(self, X: Points) -> Array:
        """Return the tail score of each point, shape (N,); 0 without points.

        In place of a missing value (NaN), the mean of the feature's terms counts, so that the
        scores of points with different gaps are comparable.
        """
        score = np.empty(len(X))
        for part in _tiles(X):
            terms = self.terms(X[part])
            score[part] = np.where(np.isnan(terms), self._usual, terms).sum(axis=1)
        return score

    def terms(self, X: Points) -> Array:
        """Return the term of each feature in the scores, (N, D); NaN for a missing value."""
        found = self._table[np.arange(len(self.mass)), self._bins(X)]
        return np.where(np.isnan(X), np.nan, found)

    def first_scores(self, X: Points, w: Array) -> Array:
        """Return the scores of the first points, (N,): each one's among the others of them."""
        known = self.add(X, w)
        D = np.arange(len(known.mass))
        score = np.empty(len(X))
        for part in _tiles(X):
            bins, own = known._bins(X[part]), w[part, None]
            left, right = (each[D, bins] - own for each in known._tails)
            terms = known._terms(left, right, np.maximum(known.total - own, 0.0))
            score[part] = np.where(np.isnan(X[part]), known._usual, terms).sum(axis=1)
        return score

    @cached_property
    def medians(self) -> Array:
        """Median of each feature, (D,), as the middle of its bin."""
        middle = np.argmax(self._tails[0] >= 0.5 * self.total[:, None], axis=1)
        return np.asarray(self.reference + self.unit * _MIDDLES[middle])

    @cached_property
    def _tails(self) -> tuple[Array, Array]:
        """Mass up to each bin, and from each bin on, both (D, BINS)."""
        right = np.cumsum(self.mass[:, ::-1], axis=1)[:, ::-1]
        return np.cumsum(self.mass, axis=1), right

    @cached_property
    def _table(self) -> Array:
        """Term of each feature by bin, (D, BINS)."""
        left, right = (each.T for each in self._tails)
        return np.asarray(self._terms(left, right, self.total).T)

    @cached_property
    def _usual(self) -> Array:
        """Mean of the terms of each feature, (D,)."""
        total = np.where(self.total > 0.0, self.total, 1.0)
        return np.asarray(np.einsum("db,db->d", self.mass, self._table) / total)

    @cached_property
    def _skewness(self) -> Array:
        """Skewness of each feature, (D,); 0 for a feature that doesn't vary."""
        x = np.clip(_MIDDLES, -_CLIPPED, _CLIPPED)
        share = self.mass / np.where(self.total > 0.0, self.total, 1.0)[:, None]
        deviation = x - (share @ x)[:, None]
        square = np.einsum("db,db,db->d", share, deviation, deviation)
        cube = np.einsum("db,db->d", share, deviation**3)
        varies = square > _FADED / RESOLUTION**2
        return np.where(varies, cube / np.where(varies, square, 1.0) ** 1.5, 0.0)

    def _terms(self, left: Array, right: Array, total: Array) -> Array:
        """Return terms from the masses of both tails, (n, D), of the total masses (D,)."""
        has = self.total > 0.0
        one = np.where(has, self.square / np.where(has, self.total, 1.0), 1.0)  # weight of a point
        log_l, log_r = (
            -np.log(np.minimum((np.maximum(mass, 0.0) + one) / (total + one), 1.0))
            for mass in (left, right)
        )
        skewness = self._skewness
        skewed = np.minimum(np.abs(skewness) / _SYMMETRIC, 1.0)
        both = 0.5 * (log_l + log_r + (1.0 - skewed) * np.abs(log_l - log_r))
        return np.asarray(np.maximum(np.where(skewness > 0.0, log_r, log_l), both))

    def located(self, X: Points) -> FeatureDistribution:
        """Return the distribution in bins that are fine enough for these points, (N, D).

        The bins of a feature move if its first to last tenth of the mass, and of these points, are
        in fewer than 8 bins, or in the outermost ones.
        """
        D = X.shape[1]
        if not len(self.mass):
            nothing = np.zeros(D)
            empty = FeatureDistribution(np.zeros((D, BINS)), nothing, nothing, np.ones(D))
            return empty.located(X)
        share = self._tails[0] / np.where(self.total > 0.0, self.total, 1.0)[:, None]
        low, high = np.argmax(share >= 0.1, axis=1), np.argmax(share >= 0.9, axis=1)
        coarse = np.flatnonzero((self.total == 0.0) | ~_are_fine(low, high))
        if not len(coarse):
            return self
        reference, unit = self.reference.copy(), self.unit.copy()
        some = np.asarray(X[:: max(1, len(X) // _LOCATED_BY)], np.float64)
        for d in coarse.tolist():
            reference[d], unit[d] = self._place(d, some[:, d])
        return self.rebinned(reference, unit)

    def _place(self, d: int, values: Array) -> tuple[float, float]:
        """Return reference and unit of a feature from values of it, (n,)."""
        before, is_new = (float(self.reference[d]), float(self.unit[d])), self.total[d] == 0.0
        values = np.sort(values[~np.isnan(values)])
        if not len(values):
            return before
        if not is_new:  # so that points one by one have a spread too
            values = np.sort(np.append(values, before[0]))
        n = len(values)
        low, middle, high = values[[n // 10, n // 2, n - 1 - n // 10]].tolist()
        if low == high:
            low, high = values[[0, -1]].tolist()
        if low == high:  # the other values, if there will be any, are in the outermost bins
            return (middle, max(abs(middle) * 2.0**-40, _SMALLEST)) if is_new else before
        if not is_new:
            bins = _bins_of(np.array([low, high]), *before)
            if _are_fine(bins[0], bins[1]):
                return before
        return middle, max((high - low) / _UNITS, _SMALLEST)

    def _bins(self, X: Points) -> Labels:
        """Return the bin of each value, (N, D); any bin for a missing one."""
        values: Points = np.where(np.isnan(X), self.reference, X)
        return _bins_of(values, self.reference, self.unit)


_SMALLEST = 2.0**-900
"""Least unit."""


def _bins_of(values: Points, reference: Array | float, unit: Array | float) -> Labels:
    with np.errstate(over="ignore"):  # far from the reference of a feature that didn't vary
        place = RESOLUTION * np.arcsinh((values - reference) / unit)
    return np.clip(np.floor(place + 0.5), -_HALF, _HALF).astype(np.intp) + _HALF


def _are_fine(low: Labels, high: Labels) -> NDArray[np.bool_]:
    """Return whether the values between two bins can be distinguished."""
    return np.asarray((high - low >= _FEWEST_BINS) & (low > 0) & (high < BINS - 1))


def _tiles(X: Points) -> Iterator[slice]:
    """Yield ranges of rows of at most `_TILE_CELLS` values."""
    rows = max(1, _TILE_CELLS // max(1, X.shape[1]))
    return (slice(start, start + rows) for start in range(0, len(X), rows))
