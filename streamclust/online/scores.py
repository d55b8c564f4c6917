"""The memory of scores: distributions that give the quantile of a new score.

Each batch is scored under the parameters before it, and its scores are added to a distribution that
decays like the statistics. Each step changes the parameters, so it would change the scores of older
points too. So each step moves the distribution as the scores of some stored points move.

After a jump of the data, the high scores of the first points would distort the tail of this
distribution for many half-lives. So a second distribution of recent scores decays 32 times as fast.
While the two differ by more than chance, the first one decays as fast as the second one. If they
differ by much more, the second one replaces the first one.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import numpy as np

from streamclust.errors import DataError
from streamclust.hyperparameters import as_flag, as_number, check_choice, store
from streamclust.models.family import usable
from streamclust.models.feature_distribution import FeatureDistribution
from streamclust.models.score_distribution import ScoreDistribution
from streamclust.models.scores import AnomalyScore, anomaly_score

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamclust.arrays import Array
    from streamclust.models.coreset import CoresetState
    from streamclust.models.family import Family, Params

P = TypeVar("P", bound="Params")

_RECENT_DECAY = 32.0
"""Number of half-lives of the recent scores in one half-life of the statistics."""

_MIN_HALF_LIFE, _MAX_HALF_LIFE = 1000.0, 50_000.0
"""Limits of the half-life of the recent scores, in points."""

_LEVELS = np.array([0.1, 0.03, 0.01, 0.003, 0.001])
"""Rates at which the two distributions are compared."""

_MIN_EXPECTED = 4.0
"""A rate is compared if at least this many recent scores above its threshold are expected."""

_BAND = float(_LEVELS[1] - _LEVELS[3])
"""Expected share of the scores between two thresholds. Far anomalies don't change it."""

_MIN_RISES = np.array([0.25, *4 * (np.inf,), 0.1])
"""Least relative rises that count: of the shares above the thresholds, and of the band."""

_DIFFERENT = 4.0
"""Above this difference, in standard deviations, older scores decay like the recent ones."""

_OUTDATED = 8.0
"""Above this difference, in standard deviations, all scores except the recent ones are dropped."""

_OUTDATED_HALF_LIVES = 12.0
"""After this many of their half-lives, the recent scores have no outdated scores. If old scores are
high, one of them in 10,000 points changes the threshold of the rate 1e-4."""

_QUANTILES = (0.5, 0.95)
"""A step moves the distribution so that these quantiles of stored points move correctly."""

_MAX_SLOPE = 2.0
"""Largest change of the scale of the scores in a step; for a larger one, nothing is moved."""

_MAX_STORED, _MIN_STORED = 256, 64
"""Largest and least number of stored points for this move."""

_PARTS_OF_WARM_UP, _PARTS_OF_CORESET = 20, 5
"""Number of parts in which the points of a fit are scored. More parts take longer."""


@dataclass(frozen=True)
class Anomaly:
    """Anomaly detection: which score a learner stores, and whether it learns flagged points.

    Parameters
    ----------
    rate : float, optional
        Share of the points that are flagged: those with the highest scores. Needed if
        `learn_flagged` is False.
    learn_flagged : bool, default=True
        With False, flagged points have weight 0 in the statistics. Their scores are stored too:
        without them, the threshold would fall with each batch.
    score : {'model', 'tail_score'}, default='model'
        Which score is stored: that of the family, or the tail score
        (`streamclust.models.feature_distribution`).

    Raises
    ------
    DataError
        If a value isn't allowed.
    """

    rate: float | None = None
    _: KW_ONLY
    learn_flagged: bool = True
    score: AnomalyScore = "model"

    def __post_init__(self) -> None:
        expected = "a number between 0 and 1"
        learn_flagged = as_flag("learn_flagged", self.learn_flagged)
        check_choice("score", self.score, get_args(AnomalyScore))
        if self.rate is None:
            if not learn_flagged:
                raise DataError(f"rate is None, but learn_flagged is False; expected {expected}")
            rate = None
        else:
            rate = as_number("rate", self.rate, expected, positive=True)
            if rate >= 1.0:
                raise DataError(f"rate is {rate}; expected {expected}")
        store(self, rate=rate, learn_flagged=learn_flagged)


@dataclass(frozen=True, eq=False)
class ScoreMemory:
    """The scores that a model remembers.

    Parameters
    ----------
    usual : ScoreDistribution
        The distribution for quantiles and thresholds. It decays like the statistics, and faster
        while `recent` differs.
    recent : ScoreDistribution
        The distribution of recent scores, which decays faster.
    outdated : int
        Number of further points for which `usual` equals `recent`, because older scores are
        outdated.
    score : {'model', 'tail_score'}
        Which scores these are.
    """

    usual: ScoreDistribution = field(default_factory=ScoreDistribution)
    recent: ScoreDistribution = field(default_factory=ScoreDistribution)
    outdated: int = 0
    score: AnomalyScore = "model"

    def carried(self, before: Array, after: Array) -> ScoreMemory:
        """Return the memory under the parameters after a step.

        Each score becomes slope * score + offset, so that two quantiles of `before` become those of
        `after`. This is exact if a step changes the scale of all clusters alike.

        Parameters
        ----------
        before, after : arrays of shape (N,)
            Scores of the same points under the parameters before and after the step.
        """
        rows = [int(quantile * (len(before) - 1)) for quantile in _QUANTILES]
        (low, high), (new_low, new_high) = (
            np.sort(scores)[rows].tolist() for scores in (before, after)
        )
        if not (math.isfinite(high) and math.isfinite(new_high) and high > low):
            return self
        slope = (new_high - new_low) / (high - low)
        if not 1.0 / _MAX_SLOPE < slope < _MAX_SLOPE:
            return self
        offset = new_low - slope * low
        usual, recent = (scores.mapped(slope, offset) for scores in (self.usual, self.recent))
        return replace(self, usual=usual, recent=recent)

    @property
    def emptied(self) -> ScoreMemory:
        """The memory without scores, with the same bins."""
        nothing = self.usual.decay(0.0)
        return replace(self, usual=nothing, recent=nothing, outdated=0)

    def observe(self, scores: Array, w: Array, lam: float) -> ScoreMemory:
        """Return the memory after a batch of prequential scores.

        Parameters
        ----------
        scores, w : arrays of shape (N,)
        lam : float
            The factor of the statistics.
        """
        slowest, fastest = (
            2.0 ** (-len(scores) / each) for each in (_MAX_HALF_LIFE, _MIN_HALF_LIFE)
        )
        faster = max(min(lam**_RECENT_DECAY, slowest), min(lam, fastest))
        older = self.usual.decay(lam).located(scores)
        batch = older.histogram(scores, w)  # all have the same bins
        recent = self.recent.decay(faster).rebinned(older.reference, older.unit)
        usual, recent = (each.merge(batch).without_negligible() for each in (older, recent))
        outdated = max(self.outdated - len(scores), 0)
        difference = ScoreMemory(usual, recent).difference
        if difference > _OUTDATED:
            outdated = (
                math.ceil(_OUTDATED_HALF_LIVES * len(scores) / -math.log2(faster))
                if faster > 0.0
                else 0
            )
        elif difference > _DIFFERENT:
            usual = older.decay(faster).merge(batch).without_negligible()
        return ScoreMemory(recent if outdated else usual, recent, outdated, self.score)

    @property
    def difference(self) -> float:
        """The difference of the recent scores from `usual`, in standard deviations.

        At each rate, the share of recent scores above the threshold is compared with the rate. A
        smaller share means that the tail has old, high scores. A larger share may be a burst of
        anomalies, which must not become usual at once. So it counts only if most scores have
        moved: if the share at the rate 1/10 is above 1/8, or the share between the second and the
        fourth threshold is larger.
        """
        usual, recent = self.usual, self.recent
        if not recent.is_known:
            return 0.0
        if not usual.is_known:
            return math.inf
        share, expected = recent.exceedance(usual.thresholds(_LEVELS)), _LEVELS
        share, expected = np.append(share, share[1] - share[3]), np.append(expected, _BAND)
        excess = share - expected
        deviation = np.sqrt(
            expected * (1.0 - expected) * (1.0 / usual.points + 1.0 / recent.points)
        )
        counts = (excess < 0.0) & (np.arange(len(share)) < len(_LEVELS)) | (
            excess > _MIN_RISES * expected
        )
        counts &= recent.points * expected >= _MIN_EXPECTED
        return float(np.max(np.abs(excess) / deviation, where=counts, initial=0.0))


def memory_of(memory: ScoreMemory | None, score: AnomalyScore) -> ScoreMemory:
    """Return `memory`; an empty memory if it is None or has another score than `score`."""
    return memory if memory is not None and memory.score == score else ScoreMemory(score=score)


def unflagged(scores: Array, memory: ScoreMemory, anomaly: Anomaly) -> NDArray[np.bool_]:
    """Return which points of a batch are learned, (N,); all of them with `learn_flagged`."""
    if anomaly.learn_flagged or anomaly.rate is None:
        return np.ones(len(scores), np.bool_)
    return np.asarray(scores <= memory.usual.threshold(anomaly.rate))


def first_memory(
    family: Family[P], params: P, X: Array, w: Array, score: AnomalyScore = "model"
) -> ScoreMemory:
    """Return the memory of a learner that starts from a fit of points (N, D), `w` (N,)."""
    if score == "tail_score":
        scores = FeatureDistribution().first_scores(X, w)
    else:
        scores = cross_fitted(family, params, X, w, _PARTS_OF_WARM_UP)
    return ScoreMemory(ScoreDistribution().add(scores, w), score=score)


def cross_fitted(family: Family[P], params: P, X: Array, w: Array, parts: int) -> Array:
    """Return the scores that the points of a fit would have as new points, shape (N,).

    Parameters fit their own points better than other points. So the points are divided into random
    parts, and each part is scored under the m-step of the other parts.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    params : KMeansParams or MixtureParams
        Result of the fit.
    X : array of shape (N, D)
    w : array of shape (N,)
    parts : int
    """
    part = np.random.default_rng(0).permutation(len(X)) % parts
    scores = np.empty(len(X))
    for number in range(min(parts, len(X))):
        own = part == number
        others = family.m_step(family.e_step(params, X[~own], w[~own]), params)
        scores[own] = anomaly_score(family, others if usable(others) else params, X[own])
    return scores


def carried(
    memory: ScoreMemory, family: Family[P], before: P, after: P, coreset: CoresetState
) -> ScoreMemory:
    """Return the memory after a step from the parameters `before` to `after`.

    `coreset` is the coreset from before the step, because the scores of the batch's own points
    change differently. Without a coreset the memory stays. Tail scores don't depend on the
    parameters.
    """
    X = coreset.fresh.X if len(coreset.fresh.X) >= _MIN_STORED else coreset.core.X
    if before is after or len(X) < _MIN_STORED or memory.score == "tail_score":
        return memory
    X = X[:: max(1, len(X) // _MAX_STORED)]
    return memory.carried(anomaly_score(family, before, X), anomaly_score(family, after, X))


def rebuilt(
    memory: ScoreMemory | None,
    family: Family[Any],
    params: Any,
    coreset: CoresetState,
    *,
    before: Any = None,
    is_fit: bool = False,
) -> ScoreMemory | None:
    """Return the memory of a learner after a fit has replaced its parameters.

    Past scores move as in a step. If they then differ too much from the scores of the coreset under
    the new parameters, the scores of the coreset replace them. Without a coreset, past scores stay
    until recent scores differ from them. Tail scores stay, because they don't depend on the
    parameters.

    Parameters
    ----------
    memory : ScoreMemory or None
    family : KMeans or GaussianMixture
    params : KMeansParams or MixtureParams
    coreset : CoresetState
    before : KMeansParams or MixtureParams, optional
        The parameters that were replaced. Without them, no past scores stay.
    is_fit : bool, default=False
        Whether the parameters are a fit of the coreset.
    """
    if memory is None or memory.score == "tail_score":
        return memory
    points = coreset.points
    if not len(points.w):
        return ScoreMemory(memory.usual)
    if is_fit:
        scores = cross_fitted(family, params, points.X, points.w, _PARTS_OF_CORESET)
    else:
        scores = anomaly_score(family, params, points.X)
    of_coreset = ScoreDistribution().add(scores, points.w)
    if before is not None and not memory.outdated:
        moved = memory.carried(anomaly_score(family, before, points.X), scores)
        if moved is not memory and replace(moved, recent=of_coreset).difference <= _OUTDATED:
            return ScoreMemory(moved.usual)
    return ScoreMemory(of_coreset)
