"""The state of the streaming learner between steps, and its report of a step."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import numpy as np

from streamclust.arrays import short_repr
from streamclust.hyperparameters import deprecated_name, renamed
from streamclust.models.coreset import CoresetState
from streamclust.online.averaging import Averaging
from streamclust.online.components import Components
from streamclust.online.coreset_fit import ReclusterState
from streamclust.online.drift import DriftState
from streamclust.online.forgetting import ForgettingState

if TYPE_CHECKING:
    from streamclust.arrays import Array, Labels, Points
    from streamclust.models.family import Params
    from streamclust.models.feature_distribution import FeatureDistribution
    from streamclust.models.scaling import Scaling
    from streamclust.models.spread import Spread
    from streamclust.models.stats import Stats
    from streamclust.online.scores import ScoreMemory

P = TypeVar("P", bound="Params")

Phase = Literal["warming", "started", "learning"]


@dataclass(frozen=True)
class Clock:
    """Counters of the learned stream, and its latest event time.

    Parameters
    ----------
    steps : int
        Batches learned since the start.
    points : int
        Points learned in total, with those of the warm-up.
    held : float
        Weight learned since the start, counted until it reaches `Forgetting.hold`.
    time_ms : float or None
        Event time of the newest batch.
    """

    steps: int = 0
    points: int = 0
    held: float = 0.0
    time_ms: float | None = None

    def elapsed(self, time_ms: float | None) -> float | None:
        """Return the event time since the newest batch; None for a batch without a time."""
        if time_ms is None or self.time_ms is None:
            return None if time_ms is None else 0.0
        return time_ms - self.time_ms

    def advance(
        self, n_points: int, time_ms: float | None, *, steps: int = 0, held: float = 0.0
    ) -> Clock:
        """Return the clock after a batch; the event time never goes back."""
        before = self.time_ms
        if before is not None:
            time_ms = before if time_ms is None else max(before, time_ms)
        return Clock(self.steps + steps, self.points + n_points, self.held + held, time_ms)


@dataclass(frozen=True)
class Counts:
    """Counters of the events of a model.

    Parameters
    ----------
    drifts : int
        Drifts that were detected.
    revived : int
        Components that were revived.
    reclustered : int
        Fits of the coreset that replaced the live parameters.
    resized : int
        Steps in which components were born or died.
    """

    drifts: int = 0
    revived: int = 0
    reclustered: int = 0
    resized: int = 0

    def add(self, drifted: bool, revived: int) -> Counts:
        """Return the counts after a step with a drift or revived components, if any."""
        if not drifted and not revived:
            return self
        return replace(self, drifts=self.drifts + drifted, revived=self.revived + revived)


@dataclass(frozen=True, eq=False)
class WarmUp:
    """Points that are gathered for a fit: for the start, or again after a drift.

    Parameters
    ----------
    X, w : arrays of shape (M, D) and (M,)
        The points so far, in the original units before the start; else empty.
    gathering : bool
        Whether points are gathered after a drift.
    """

    X: Array = field(default_factory=lambda: np.empty((0, 0)))
    w: Array = field(default_factory=lambda: np.empty(0))
    gathering: bool = False

    def __repr__(self) -> str:
        return short_repr(self, points=len(self), gathering=self.gathering)

    def __len__(self) -> int:
        return len(self.X)

    def add(self, X: Points, w: Array) -> WarmUp:
        """Return the warm-up with more points."""
        rows = np.array(X, np.float64)  # a copy: the caller may change the batch
        rows = np.concatenate([self.X, rows]) if len(self.X) else rows
        return WarmUp(rows, np.concatenate([self.w, w]), self.gathering)


@dataclass(frozen=True, eq=False)
class LearnerState(Generic[P]):
    """All that the next step needs; a checkpoint is this and a stream position.

    Each part belongs to the module whose functions return it.

    Parameters
    ----------
    params : KMeansParams or MixtureParams or None
        None during the warm-up.
    stats : Stats or None
        Running statistics. Their objective and count cover scored points only, so that
        `objective / count` is the prequential (out-of-sample) score.
    averaging : Averaging
        Polyak-Ruppert average of the normalised statistics, if the policy averages.
    clock : Clock
    counts : Counts
    warm_up : WarmUp
    coreset : CoresetState
    recluster : ReclusterState
    components : Components
    forgetting : ForgettingState
    drift : DriftState
    scaling : Scaling or None
        The scales of the features, from the warm-up. All other parts are in scaled units.
    spread : Spread or None
        The stored variance of each feature, to which the ridge of the covariances is relative;
        None for K-means.
    scores : ScoreMemory or None
        The distribution of scores, if the learner stores it.
    feature_distribution : FeatureDistribution or None
        The distribution of each feature, if the learner stores it.
    """

    params: P | None = None
    stats: Stats | None = None
    averaging: Averaging = field(default_factory=Averaging)
    clock: Clock = field(default_factory=Clock)
    counts: Counts = field(default_factory=Counts)
    warm_up: WarmUp = field(default_factory=WarmUp)
    coreset: CoresetState = field(default_factory=CoresetState)
    recluster: ReclusterState[P] = field(default_factory=ReclusterState)
    components: Components = field(default_factory=Components)
    forgetting: ForgettingState = field(default_factory=ForgettingState)
    drift: DriftState = field(default_factory=DriftState)
    scaling: Scaling | None = None
    spread: Spread | None = None
    scores: ScoreMemory | None = None
    feature_distribution: FeatureDistribution | None = None

    def __repr__(self) -> str:
        if self.stats is None:
            return short_repr(self, phase="warming", points=self.points)
        K, D = self.stats.first.shape
        return short_repr(self, K=K, D=D, points=self.points, steps=self.clock.steps)

    @property
    def points(self) -> int:
        """Points learned in total, with those of the warm-up."""
        return self.clock.points

    @property
    def ids(self) -> Labels:
        """Numbers of the components, (K,): 0 to K - 1 unless K adapts."""
        if self.stats is None or len(self.components.ids):
            return self.components.ids
        return np.arange(len(self.stats.weight))

    def fallen_from(self, before: LearnerState[P]) -> LearnerState[P]:
        """Return the state; if its mass is below that of `before`, with a `Fall` of the mass."""
        if self.stats is None or before.stats is None or not before.stats.mass:
            return self
        share = self.stats.mass / before.stats.mass
        return replace(self, forgetting=self.forgetting.fall(self.clock.points, share))


@renamed(resolved="reclustered")
@dataclass(frozen=True)
class Info:
    """A report of one update, for operators.

    Parameters
    ----------
    phase : {'warming', 'started', 'learning'}
    points : int
        Points in the batch without those of weight 0; at the start, and while the start waits for
        distinct points, the points in the warm-up sample.
    loss : float or None
        Loss per point of this batch before it was learned; None while warming up.
    step_size : float
        gamma = m / (lam n + m); 0 if nothing was learned.
    revived : tuple of int
        Components that were revived.
    drifted : bool
        Whether this batch completed a drift.
    reason : str
        Why the learner is still warming up, if it is.
    reclustered : bool
        Whether a fit of the coreset replaced the live parameters.
    born, died : tuple of int
        Numbers of new components, and of removed ones, if K adapts.
    """

    phase: Phase
    points: int
    loss: float | None = None
    step_size: float = 0.0
    revived: tuple[int, ...] = ()
    drifted: bool = False
    reason: str = ""
    reclustered: bool = False
    born: tuple[int, ...] = ()
    died: tuple[int, ...] = ()

    @property
    @deprecated_name("reclustered")
    def resolved(self) -> bool:
        """The earlier name of `reclustered`."""
        return self.reclustered

    def __repr__(self) -> str:
        values = {each: getattr(self, each.name) for each in fields(self)}
        return short_repr(self, **{k.name: v for k, v in values.items() if v != k.default})
