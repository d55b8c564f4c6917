"""The memory of scores: what share of the points that a model remembers has a higher score.

Each batch is scored under the parameters before it, and its scores join a distribution that decays
like the statistics. Each step changes the parameters, and with them the score that an older point
would have now. So each step moves the distribution: as far as the scores of some stored points.

After a jump of the data, the high scores of the first points would inflate the tail of this
distribution for many half-lives. So there is a second distribution, which decays 32 times as fast.
While the two differ by more than chance, the first one decays as fast as the second one. If they
differ by much more, the second one replaces the first one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
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

_FASTER = 32.0
"""Number of half-lives of the recent scores in one half-life of the statistics."""

_SHORTEST, _LONGEST = 1000.0, 50_000.0
"""Limits of the half-life of the recent scores, in points."""

_LEVELS = np.array([0.1, 0.03, 0.01, 0.003, 0.001])
"""Rates at which the two distributions are compared."""

_FEWEST_EXPECTED = 4.0
"""Expected number of recent scores above a threshold, below which a rate isn't compared."""

_BAND = float(_LEVELS[1] - _LEVELS[3])
"""Expected share of the scores between two thresholds. Far anomalies don't change it."""

_MOVED = np.array([0.25, *4 * (np.inf,), 0.1])
"""Relative rises of the shares above the levels, and of the band, that count."""

_DIFFERENT = 4.0
"""Difference in standard deviations from which on older scores decay like the recent ones."""

_OUTDATED = 8.0
"""Difference in standard deviations from which on all other scores are forgotten."""

_FADING = 12.0
"""Number of half-lives of the recent scores after which they hold no outdated scores. If the old
scores are high, one of them in 10,000 points changes the threshold of the rate 1e-4."""

_KNOTS = (0.5, 0.95)
"""Quantiles of the scores of the same points whose moves in a step the memory follows."""

_MOST_MOVED = 2.0
"""Largest change of the scale of the scores in a step that the memory follows."""

_REFERENCES, _FEWEST_REFERENCES = 256, 64
"""Largest and least number of these points."""

_OF_WARM_UP, _OF_CORESET = 20, 5
"""Number of parts in which the points of a fit are scored. More parts take longer."""


@dataclass(frozen=True)
class Anomaly:
    """That a learner remembers its scores, and whether it learns the most unusual points.

    Parameters
    ----------
    rate : float, optional
        Share of the points that are flagged: those with the highest scores. Needed if flagged
        points aren't learned.
    learn_flagged : bool, default=True
        With False, flagged points have weight 0 in the statistics. Their scores count like others:
        a distribution without them would flag the same share of the rest, and so on.
    score : {'model', 'tail_score'}, default='model'
        Which score is remembered: that of the family, or the tail score
        (`streamclust.models.feature_distribution`).
    """

    rate: float | None = None
    learn_flagged: bool = True
    score: AnomalyScore = "model"

    def __post_init__(self) -> None:
        expected = "a number between 0 and 1"
        learn_flagged = as_flag("learn_flagged", self.learn_flagged)
        check_choice("score", self.score, get_args(AnomalyScore))
        if self.rate is None:
            if not learn_flagged:
                raise DataError(f"learn_flagged is False, but rate is None; expected {expected}")
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
        It decays like the statistics, and faster while `recent` differs. New scores are compared
        with it.
    recent : ScoreDistribution
        It decays faster.
    outdated : int
        Number of points during which `usual` is `recent`, because older scores are outdated.
    score : {'model', 'tail_score'}
        Which scores these are.
    """

    usual: ScoreDistribution = field(default_factory=ScoreDistribution)
    recent: ScoreDistribution = field(default_factory=ScoreDistribution)
    outdated: int = 0
    score: AnomalyScore = "model"

    def carried(self, before: Array, after: Array) -> ScoreMemory:
        """Return the memory under the parameters after a step.

        The map slope * score + offset brings two quantiles of `before` to those of `after`. It is
        exact if a step changes the scale of all clusters alike.

        Parameters
        ----------
        before, after : arrays of shape (N,)
            Scores of the same points under the parameters before and after the step.
        """
        at = [int(knot * (len(before) - 1)) for knot in _KNOTS]
        (low, high), (new_low, new_high) = (np.sort(each)[at].tolist() for each in (before, after))
        if not (math.isfinite(high) and math.isfinite(new_high) and high > low):
            return self
        slope = (new_high - new_low) / (high - low)
        if not 1.0 / _MOST_MOVED < slope < _MOST_MOVED:
            return self
        offset = new_low - slope * low
        usual, recent = (each.mapped(slope, offset) for each in (self.usual, self.recent))
        return replace(self, usual=usual, recent=recent)

    @property
    def emptied(self) -> ScoreMemory:
        """The memory without scores; it keeps the places of the bins."""
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
        slowest, fastest = (2.0 ** (-len(scores) / each) for each in (_LONGEST, _SHORTEST))
        faster = max(min(lam**_FASTER, slowest), min(lam, fastest))
        older = self.usual.decay(lam).located(scores)
        batch = older.histogram(scores, w)  # all have the same bins
        recent = self.recent.decay(faster).rebinned(older.reference, older.unit)
        usual, recent = (each.merge(batch).without_negligible() for each in (older, recent))
        outdated = max(self.outdated - len(scores), 0)
        difference = ScoreMemory(usual, recent).difference
        if difference > _OUTDATED:
            outdated = math.ceil(_FADING * len(scores) / -math.log2(faster)) if faster > 0.0 else 0
        elif difference > _DIFFERENT:
            usual = older.decay(faster).merge(batch).without_negligible()
        return ScoreMemory(recent if outdated else usual, recent, outdated, self.score)

    @property
    def difference(self) -> float:
        """By how much the recent scores make the others wrong, in standard deviations.

        Fewer recent scores than expected are above a threshold: the tail has old, high scores. More
        of them may be a burst of anomalies, which must not become usual at once. So more of them
        count only if the body of the distribution has moved: if a tenth became an eighth, or if
        more scores are in the band from the second to the fourth rate.
        """
        usual, recent = self.usual, self.recent
        if not recent.is_known:
            return 0.0
        if not usual.is_known:
            return math.inf
        share, expected = recent.exceedance(usual.thresholds(_LEVELS)), _LEVELS
        share, expected = np.append(share, share[1] - share[3]), np.append(expected, _BAND)
        more = share - expected
        deviation = np.sqrt(
            expected * (1.0 - expected) * (1.0 / usual.points + 1.0 / recent.points)
        )
        counts = (more < 0.0) & (np.arange(len(share)) < len(_LEVELS)) | (more > _MOVED * expected)
        counts &= recent.points * expected >= _FEWEST_EXPECTED
        return float(np.max(np.abs(more) / deviation, where=counts, initial=0.0))


def memory_of(memory: ScoreMemory | None, score: AnomalyScore) -> ScoreMemory:
    """Return the memory of the scores of this name: an empty one if it has others, or is None."""
    return memory if memory is not None and memory.score == score else ScoreMemory(score=score)


def unflagged(scores: Array, memory: ScoreMemory, anomaly: Anomaly) -> NDArray[np.bool_]:
    """Return which points of a batch are learned, (N,): with `learn_flagged`, all of them."""
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
        scores = cross_fitted(family, params, X, w, _OF_WARM_UP)
    return ScoreMemory(ScoreDistribution().add(scores, w), score=score)


def cross_fitted(family: Family[P], params: P, X: Array, w: Array, parts: int) -> Array:
    """Return the scores that points of a fit would have as new points, shape (N,).

    Parameters fit their own points better than others. So each part of the points, drawn at random,
    is scored under the m-step of the other parts.

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

    The step doesn't change the scores of points of the batch as it changes those of others, so the
    coreset is that from before the step. Without a coreset the memory stays. Tail scores don't
    depend on the parameters.
    """
    X = coreset.fresh.X if len(coreset.fresh.X) >= _FEWEST_REFERENCES else coreset.core.X
    if before is after or len(X) < _FEWEST_REFERENCES or memory.score == "tail_score":
        return memory
    X = X[:: max(1, len(X) // _REFERENCES)]
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
    """Return the memory of a learner whose parameters were replaced by those of a fit.

    The scores of the past move as in a step. If then they differ too much from the scores of the
    coreset under the new parameters, these replace them. Without a coreset the scores of the past
    stay, until the recent scores differ from them. Tail scores don't depend on the parameters, and
    stay.

    Parameters
    ----------
    memory : ScoreMemory or None
    family : KMeans or GaussianMixture
    params : KMeansParams or MixtureParams
    coreset : CoresetState
    before : KMeansParams or MixtureParams, optional
        The parameters that were replaced. Without them, no scores of the past stay.
    is_fit : bool, default=False
        Whether the parameters are a fit of the coreset.
    """
    if memory is None or memory.score == "tail_score":
        return memory
    points = coreset.points
    if not len(points.w):
        return ScoreMemory(memory.usual)
    if is_fit:
        scores = cross_fitted(family, params, points.X, points.w, _OF_CORESET)
    else:
        scores = anomaly_score(family, params, points.X)
    known = ScoreDistribution().add(scores, points.w)
    if before is not None and not memory.outdated:
        moved = memory.carried(anomaly_score(family, before, points.X), scores)
        if moved is not memory and replace(moved, recent=known).difference <= _OUTDATED:
            return ScoreMemory(moved.usual)
    return ScoreMemory(known)
