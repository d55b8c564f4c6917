r"""The distribution of the values of each feature, and the tail score of a point.

The tail score is that of COPOD (Li, Zhao, Botta, Ionescu & Hu 2020). With the tail probabilities

    l_j = P(feature j <= x_j),    r_j = P(feature j >= x_j)

it is a sum over the features. The term of a feature is large if its value is far out in a tail:

    sum_j max(-log s_j, (-log l_j - log r_j) / 2 + (1 - a_j) |log l_j - log r_j| / 2)

where s_j is r_j if the feature is skewed to the right, else l_j; a_j = min(|skewness| / 0.2, 1). A
skewed feature (a_j = 1) has the term of COPOD. A symmetric feature (a_j = 0) has the term of ECOD
(Li, Zhao, Hu, Botta, Ionescu & Chen 2022), with the smaller of the two tail probabilities. The term
is interpolated between these, so that no score jumps where the sign of the skewness changes.

The probabilities come from a histogram per feature that merges and decays like statistics. Bins
have equal width in

    u = asinh((x - reference) / unit),    bin = floor(16 u + 1/2),    from -128 to 128

Near the reference, a bin is 1 / 16 unit wide. Far from the reference, a bin is 1 / 16 of the
distance wide. The outermost bins hold all values farther than 1444 units. A tail includes the whole
bin of the value, so the probabilities are exact for values rounded to bins. As in COPOD, the point
itself counts once in each of its tails, so no probability is 0.
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

MAX_FEATURES = 1000
"""Largest number of features: 2 MB in each state and each version."""

TOO_MANY_FEATURES = (
    f"the tail score remembers {BINS} numbers per feature, and the limit is {MAX_FEATURES:,} "
    "features; use another score"
)
"""End of the error for more features than `MAX_FEATURES`."""

_SYMMETRIC = 0.2
"""A feature with at least this skewness counts as skewed."""

_CLIPPED = 20.0
"""For the skewness, values are clipped to this distance from the reference, in units, so that a few
far values don't decide the sign."""

_MIN_BINS = 8
"""Least number of bins between the first and the ninth decile of a feature."""

_UNITS = 8.0
"""Units between the first and the ninth decile of a feature."""

_LOCATION_SAMPLE = 1024
"""Number of points from which references and units are computed."""

_NEGLIGIBLE = 2.0**-50
"""A bin is emptied if its mass is below this share of the mass of the feature."""

_TILE_CELLS = 1 << 18
"""Values whose bins are computed at once."""

_U = (np.arange(BINS) - _HALF) / RESOLUTION
_MIDDLES = np.sinh(_U)
"""Middles of the bins, in units from the reference."""


def _empty() -> Array:
    return np.empty(0)


@dataclass(frozen=True, eq=False)
class FeatureDistribution:
    """A histogram of the values of each feature.

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
        """Return the distribution of D features from its arrays, by the names of the fields.

        Raises
        ------
        DataError
            If an array has a wrong shape or a value that isn't allowed.
        LookupError, TypeError, ValueError
            If an array is missing, or doesn't hold numbers.
        """
        distribution = cls(*(np.asarray(arrays[each.name], np.float64) for each in fields(cls)))
        shapes = [
            distribution.mass.shape,
            distribution.square.shape,
            distribution.reference.shape,
            distribution.unit.shape,
        ]
        if shapes != [(D, BINS), (D,), (D,), (D,)]:
            raise DataError(f"a distribution of {D} features has arrays of the shapes {shapes}")
        finite = all(np.isfinite(getattr(distribution, each.name)).all() for each in fields(cls))
        if not (finite and (distribution.mass >= 0.0).all() and (distribution.square >= 0.0).all()):
            raise DataError("a distribution of features holds NaN, infinity or a negative number")
        if not (distribution.unit > 0.0).all():
            raise DataError("a distribution of features has a unit that isn't positive")
        return distribution

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
        """Return the distribution decayed by `lam`, with a batch of points (N, D), `w` (N,)."""
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
        is_kept = (square[:, None] > 0.0) & (self.mass > _NEGLIGIBLE * self.total[:, None])
        mass = np.where(is_kept, lam * self.mass, 0.0)
        return replace(self, mass=mass, square=square)

    def merge(self, other: FeatureDistribution) -> FeatureDistribution:
        """Return the distribution of both sets of points, in the bins of this one.

        A feature without values in this distribution has the bins of the other one.
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
        after = replace(self, mass=self.mass.copy(), reference=reference, unit=unit)
        middles = self.reference[moved] + self.unit[moved] * _MIDDLES[:, None]
        bins = _bins_of(middles, reference[moved], unit[moved])
        for place, d in enumerate(moved):
            after.mass[d] = np.bincount(bins[:, place], self.mass[d], minlength=BINS)
        return after

    def mapped(self, scale: Array | float, offset: Array | float) -> FeatureDistribution:
        """Return the distribution of scale * x + offset, for scales above 0."""
        return replace(
            self,
            reference=np.asarray(scale * self.reference + offset),
            unit=np.asarray(scale * self.unit),
        )

    def scores(self, X: Points) -> Array:
        """Return the tail score of each point, shape (N,); 0 if the distribution is empty.

        A missing value (NaN) has the mean of the feature's terms, so that the scores of points with
        different missing values are comparable.
        """
        score = np.empty(len(X))
        for part in _tiles(X):
            terms = self.terms(X[part])
            score[part] = np.where(np.isnan(terms), self._mean_terms, terms).sum(axis=1)
        return score

    def terms(self, X: Points) -> Array:
        """Return the term of each feature in the scores, (N, D); NaN for a missing value."""
        terms = self._table[np.arange(len(self.mass)), self._bins(X)]
        return np.where(np.isnan(X), np.nan, terms)

    def first_scores(self, X: Points, w: Array) -> Array:
        """Return the score of each of the first points under the distribution of the others."""
        known = self.add(X, w)
        D = np.arange(len(known.mass))
        score = np.empty(len(X))
        for part in _tiles(X):
            bins, own = known._bins(X[part]), w[part, None]
            left, right = (each[D, bins] - own for each in known._tails)
            terms = known._terms(left, right, np.maximum(known.total - own, 0.0))
            score[part] = np.where(np.isnan(X[part]), known._mean_terms, terms).sum(axis=1)
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
    def _mean_terms(self) -> Array:
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
        varies = square > _NEGLIGIBLE / RESOLUTION**2
        return np.where(varies, cube / np.where(varies, square, 1.0) ** 1.5, 0.0)

    def _terms(self, left: Array, right: Array, total: Array) -> Array:
        """Return terms from the masses of both tails, (n, D), of the total masses (D,)."""
        has_mass = self.total > 0.0
        point_weight = np.where(
            has_mass, self.square / np.where(has_mass, self.total, 1.0), 1.0
        )  # weight of a point
        log_l, log_r = (
            -np.log(
                np.minimum((np.maximum(mass, 0.0) + point_weight) / (total + point_weight), 1.0)
            )
            for mass in (left, right)
        )
        skewness = self._skewness
        skewed = np.minimum(np.abs(skewness) / _SYMMETRIC, 1.0)
        both = 0.5 * (log_l + log_r + (1.0 - skewed) * np.abs(log_l - log_r))
        return np.asarray(np.maximum(np.where(skewness > 0.0, log_r, log_l), both))

    def located(self, X: Points) -> FeatureDistribution:
        """Return the distribution in bins that are fine enough for these points, (N, D).

        A feature gets new bins if the first and the ninth decile, of its mass and of these points,
        are less than 8 bins apart, or in an outermost bin.
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
        sample = np.asarray(X[:: max(1, len(X) // _LOCATION_SAMPLE)], np.float64)
        for d in coarse.tolist():
            reference[d], unit[d] = self._place(d, sample[:, d])
        return self.rebinned(reference, unit)

    def _place(self, d: int, values: Array) -> tuple[float, float]:
        """Return reference and unit of feature `d` from its `values`, (n,)."""
        before, is_new = (float(self.reference[d]), float(self.unit[d])), self.total[d] == 0.0
        values = np.sort(values[~np.isnan(values)])
        if not len(values):
            return before
        if not is_new:  # so that a batch of one point has a spread too
            values = np.sort(np.append(values, before[0]))
        n = len(values)
        low, middle, high = values[[n // 10, n // 2, n - 1 - n // 10]].tolist()
        if low == high:
            low, high = values[[0, -1]].tolist()
        if low == high:  # later values that differ will be in the outermost bins
            return (middle, max(abs(middle) * 2.0**-40, _MIN_UNIT)) if is_new else before
        if not is_new:
            bins = _bins_of(np.array([low, high]), *before)
            if _are_fine(bins[0], bins[1]):
                return before
        return middle, max((high - low) / _UNITS, _MIN_UNIT)

    def _bins(self, X: Points) -> Labels:
        """Return the bin of each value, (N, D); any bin for a missing one."""
        values: Points = np.where(np.isnan(X), self.reference, X)
        return _bins_of(values, self.reference, self.unit)


_MIN_UNIT = 2.0**-900
"""Least unit."""


def _bins_of(values: Points, reference: Array | float, unit: Array | float) -> Labels:
    with np.errstate(over="ignore"):  # far from the reference of a feature that didn't vary
        place = RESOLUTION * np.arcsinh((values - reference) / unit)
    return np.clip(np.floor(place + 0.5), -_HALF, _HALF).astype(np.intp) + _HALF


def _are_fine(low: Labels, high: Labels) -> NDArray[np.bool_]:
    """Return whether the values between two bins can be distinguished."""
    return np.asarray((high - low >= _MIN_BINS) & (low > 0) & (high < BINS - 1))


def _tiles(X: Points) -> Iterator[slice]:
    """Yield ranges of rows of at most `_TILE_CELLS` values."""
    rows = max(1, _TILE_CELLS // max(1, X.shape[1]))
    return (slice(start, start + rows) for start in range(0, len(X), rows))
