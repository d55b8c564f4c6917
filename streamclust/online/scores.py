"""The memory of scores: what share of the points that a model remembers has a higher score.

Each batch is scored under the parameters before it, and its scores join a distribution that decays
like the statistics. After a jump of the data, the high scores of the first points would inflate the
tail of this distribution for many half-lives. So there is a second distribution, which decays 32
times as fast. It takes the place of the first one where the two differ by more than chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from streamclust.errors import DataError
from streamclust.hyperparameters import as_flag, as_number, store
from streamclust.models.score_distribution import ScoreDistribution
from streamclust.models.scores import anomaly_score

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

_DIFFERENT = 2.0
"""Difference in standard deviations from which on the recent scores are used."""

_OUTDATED = 8.0
"""Difference in standard deviations from which on all other scores are forgotten."""


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
    """

    rate: float | None = None
    learn_flagged: bool = True

    def __post_init__(self) -> None:
        expected = "a number between 0 and 1"
        learn_flagged = as_flag("learn_flagged", self.learn_flagged)
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
        It decays like the statistics.
    recent : ScoreDistribution
        It decays faster.
    """

    usual: ScoreDistribution = field(default_factory=ScoreDistribution)
    recent: ScoreDistribution = field(default_factory=ScoreDistribution)

    @cached_property
    def current(self) -> ScoreDistribution:
        """The distribution that new scores are compared with."""
        return self.recent if self._difference > _DIFFERENT else self.usual

    @property
    def emptied(self) -> ScoreMemory:
        """The memory without scores; it keeps the places of the bins."""
        nothing = self.usual.decay(0.0)
        return ScoreMemory(nothing, nothing)

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
        usual = self.usual.decay(lam).located(scores)
        batch = usual.histogram(scores, w)  # both have the same bins
        recent = self.recent.decay(faster).rebinned(usual.reference, usual.unit)
        usual, recent = (each.merge(batch).without_faded() for each in (usual, recent))
        found = ScoreMemory(usual, recent)
        return ScoreMemory(recent, recent) if found._difference > _OUTDATED else found

    @cached_property
    def _difference(self) -> float:
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


def unflagged(scores: Array, memory: ScoreMemory, anomaly: Anomaly) -> NDArray[np.bool_]:
    """Return which points of a batch are learned, (N,): with `learn_flagged`, all of them."""
    if anomaly.learn_flagged or anomaly.rate is None:
        return np.ones(len(scores), np.bool_)
    return np.asarray(scores <= memory.current.threshold(anomaly.rate))


def rebuilt(
    memory: ScoreMemory | None, family: Family[Any], params: Any, coreset: CoresetState
) -> ScoreMemory | None:
    """Return the memory of a learner whose parameters were replaced by those of a fit.

    The scores of the past under the old parameters mean nothing under the new ones. So they are
    replaced by the scores of the coreset under the new parameters. Without a coreset they stay,
    until the recent scores differ from them.
    """
    if memory is None:
        return None
    points = coreset.points
    if not len(points.w):
        return ScoreMemory(memory.usual)
    scores = anomaly_score(family, params, points.X)
    return ScoreMemory(ScoreDistribution().add(scores, points.w))
