"""Forgetting policies: how fast old points decay.

A policy gives the factor lam of each step, S <- lam S + s, for the running statistics S of weight n
and the statistics s of a batch of weight m. The step size is gamma = m / (lam n + m).
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

from streamclust.errors import DataError
from streamclust.hyperparameters import as_flag, as_number, store

_ROUNDING = 1e-9
"""A smaller relative loss of mass is a rounding error, and no fall."""

_MAX_FALLS = 64
"""Number of falls that are stored: far more than happen during a refit."""


class Fall(NamedTuple):
    """A fall of the mass that isn't forgetting: at a drift, a rollback, or a small refit.

    Parameters
    ----------
    points : int
        Number of points learned before the fall.
    share : float
        Share of the mass that was left.
    drifted : bool
        Whether the fall was in a step, at a drift, in addition to forgetting.
    """

    points: int
    share: float
    drifted: bool = False


@dataclass(frozen=True)
class ForgettingState:
    """Totals of the forgetting so far.

    Parameters
    ----------
    weight : float
        Total weight that forgetting has removed from the statistics. The parameters can represent
        up to this many points more than the statistics.
    falls : tuple of Fall
        The newest falls of the mass. A refit that started before a fall is reduced by the same
        share.
    n_falls : int
        Total number of falls.
    """

    weight: float = 0.0
    falls: tuple[Fall, ...] = ()
    n_falls: int = 0

    def forget(self, lam: float, mass: float) -> ForgettingState:
        """Return the state after statistics of weight `mass` were multiplied by `lam`."""
        if lam >= 1.0:
            return self
        return ForgettingState(self.weight + (1.0 - lam) * mass, self.falls, self.n_falls)

    def fall(self, points: int, share: float, *, drifted: bool = False) -> ForgettingState:
        """Return the state after a fall that left this share of the mass; see `Fall`."""
        if share >= 1.0 - _ROUNDING:
            return self
        falls = (*self.falls, Fall(points, share, drifted))[-_MAX_FALLS:]
        return ForgettingState(self.weight, falls, self.n_falls + 1)


@dataclass(frozen=True)
class Step:
    """The numbers of a step that a policy may use.

    Parameters
    ----------
    number : int
        1 for the first step after the start.
    weight : float
        Weight m of the batch, in points; positive.
    running : float
        Weight n of the running statistics before the step, in points.
    elapsed_ms : float or None
        Event time since the previous step, in milliseconds; None if the feed has no times.
    """

    number: int
    weight: float
    running: float
    elapsed_ms: float | None = None


@dataclass(frozen=True)
class Forgetting:
    """No forgetting: all points have the same weight (MacQueen 1967).

    The base class of the other policies.
    """

    @property
    def hold(self) -> float:
        """Weight of points, after the start, before the first M-step."""
        return 0.0

    @property
    def average(self) -> bool:
        """Whether the Polyak-Ruppert average of the statistics is published."""
        return False

    def factor(self, step: Step) -> float:
        """Return lam >= 0, by which the running statistics are multiplied."""
        return 1.0


@dataclass(frozen=True)
class HalfLife(Forgetting):
    """A point has half its weight after `points` further points: lam = 2^(-m / points)."""

    points: float

    def __post_init__(self) -> None:
        store(self, points=_half_life("points", self.points))

    def factor(self, step: Step) -> float:
        """Return 2^(-m / points)."""
        return float(2.0 ** (-step.weight / self.points))


@dataclass(frozen=True)
class HalfLifeTime(Forgetting):
    """A point has half its weight after `seconds` of event time; a replay gives the same bits."""

    seconds: float

    def __post_init__(self) -> None:
        store(self, seconds=_half_life("seconds", self.seconds))

    def factor(self, step: Step) -> float:
        """Return 2^(-elapsed / seconds); 1 if the time of the batch is older than the last."""
        if step.elapsed_ms is None:
            raise DataError(
                "time_ms is missing; a half-life in event time needs the time of each batch"
            )
        return float(2.0 ** (-max(step.elapsed_ms, 0.0) / (1000.0 * self.seconds)))


@dataclass(frozen=True)
class PowerSchedule(Forgetting):
    """Robbins-Monro steps gamma_t = (t + t0)^-kappa for the batches t = 1, 2, ...

    Parameters
    ----------
    kappa : float
        In (0.5, 1]. Cappe & Moulines (2009, section 3.2) recommend 0.6 with averaging.
    t0 : float
        At least 0. The default is that of Liang & Klein (2009).
    hold : float
        Weight of points after the start before the first M-step. Until then, statistics are
        gathered under the parameters of the start. Cappe & Moulines hold for 20 points.
    average : bool
        Publish the Polyak-Ruppert average of the normalised statistics. Its error is close to that
        of a batch fit for every kappa; without it, the error is several times as large. Steps after
        a bad start are left out; see `streamclust.online.averaging`.
    """

    kappa: float = 0.6
    _: KW_ONLY
    t0: float = 2.0
    hold: float = 0.0
    average: bool = False

    def __post_init__(self) -> None:
        kappa = as_number("kappa", self.kappa, "0.5 < kappa <= 1")
        if not 0.5 < kappa <= 1.0:
            raise DataError(f"kappa is {kappa}; expected 0.5 < kappa <= 1")
        store(
            self,
            kappa=kappa,
            t0=as_number("t0", self.t0, "a number, at least 0"),
            hold=as_number("hold", self.hold, "a number, at least 0"),
            average=as_flag("average", self.average),
        )

    def factor(self, step: Step) -> float:
        """Return the lam that makes m / (lam n + m) equal to gamma_t."""
        gamma = (step.number + self.t0) ** -self.kappa
        if step.running <= 0.0:
            return 1.0
        return float(step.weight * (1.0 - gamma) / (gamma * step.running))


@dataclass(frozen=True)
class Cut(Forgetting):
    """The policy of a step with a drift: `share` times the factor of another policy."""

    policy: Forgetting
    share: float

    @property
    def hold(self) -> float:
        """The `hold` of `policy`."""
        return self.policy.hold

    @property
    def average(self) -> bool:
        """The `average` of `policy`."""
        return self.policy.average

    def factor(self, step: Step) -> float:
        """Return `share` times the factor of `policy`."""
        return self.share * self.policy.factor(step)


def _half_life(field: str, value: float) -> float:
    return as_number(f"{field} (half-life in {field})", value, "a positive number", positive=True)
