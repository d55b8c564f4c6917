"""Drift detection from the prequential loss; a checkpoint stores the memory of the detector.

A detector gets the rise of each batch's loss over the usual loss, in standard deviations:

    z = r / sqrt(v / m + 0.005^2),    r = loss of the batch minus the running mean

For K-means, r is relative to the mean; for a mixture, r is in nats. m is the weight of the batch. v
is the variance of the loss of one point. It is estimated from the differences of successive
batches, because a trend hardly changes these (von Neumann 1941). So z depends neither on units nor
on the sizes of batches, and changes of 0.5 %, or 0.005 nats, are at most one standard deviation.
|z| is limited to 10, so that a single batch completes no drift. A fall of the loss is no drift. The
first batches only estimate the usual loss. Their losses are limited to ten standard deviations from
their median, where the median absolute deviation estimates the standard deviation (Huber 1981,
section 5.1).
"""

from __future__ import annotations

import warnings
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np

from streamclust.errors import DataError
from streamclust.hyperparameters import as_number, check_choice, store

if TYPE_CHECKING:
    from collections.abc import Callable

DetectorKind = Literal["page_hinkley", "adwin"]
OnDrift = Literal["announce", "forget", "recluster"]

_USUAL = 100
"""Number of batches that the running mean and variance represent."""

_FIRST = 10
"""Number of batches that only estimate the usual loss: at the start and after a drift."""

_IRRELEVANT = 0.005
"""A change of the loss that is too small to matter: a share of J, or nats per point."""

_MAX_Z = 10.0
"""Largest |z| that a detector gets."""

_SLACK = 0.5
"""Rise per batch that Page's test ignores, in standard deviations."""

_FARTHEST = 1e100
"""Largest step between two losses; its square is finite."""

_MAD = 1.4826
"""Ratio of the standard deviation of Gaussian numbers to their median absolute deviation."""

_UNUSUAL = 3.0
"""A batch with a larger |z| changes the usual loss as one with this |z|: jumps aren't usual."""


@dataclass(frozen=True)
class DriftState:
    """The memory of drift detection from batch to batch.

    Parameters
    ----------
    batches : int
        Batches since the last drift, or the start.
    weight : float
        Weight of these batches; old batches count less.
    mean : float
        Mean loss of these batches.
    spread : float
        The variance v.
    last, last_weight : float
        Loss and weight of the newest batch.
    memory : bytes
        The memory of the detector; empty for a new detector. Before the detector starts: losses and
        weights of the first batches.
    """

    batches: int = 0
    weight: float = 0.0
    mean: float = 0.0
    spread: float = 0.0
    last: float = 0.0
    last_weight: float = 0.0
    memory: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Drift:
    """How drift is detected, and the reaction.

    Parameters
    ----------
    detector : {'page_hinkley', 'adwin'}, default='page_hinkley'
        Page's test (Page 1954; Hinkley 1971) detects a drift after fewer batches;
        `river.drift.ADWIN` (Bifet & Gavalda 2007) limits the probability of false alarms.
    on_drift : {'announce', 'forget', 'recluster'}, default='announce'
        'forget' multiplies the weight of old points by 0.01, so that the next batches decide.
        'recluster' does the same, and fits again after as many new points as the warm-up had;
        'resolve' is its earlier name.
    threshold : float, default=30.0
        For 'page_hinkley': there is a drift when the sum of z - 0.5 over batches, at least 0,
        exceeds this number.
    delta : float, default=0.002
        For 'adwin': maximum probability of a false alarm.
    """

    detector: DetectorKind = "page_hinkley"
    _: KW_ONLY
    on_drift: OnDrift | Literal["resolve"] = "announce"
    threshold: float = 30.0
    delta: float = 0.002

    def __post_init__(self) -> None:
        check_choice("detector", self.detector, _DETECTORS)
        if self.on_drift == "resolve":
            text = "on_drift='resolve' is now called 'recluster'"
            warnings.warn(text, DeprecationWarning, stacklevel=3)
            store(self, on_drift="recluster")
        check_choice("on_drift", self.on_drift, get_args(OnDrift))
        threshold = as_number("threshold", self.threshold, "a positive number", positive=True)
        delta = as_number("delta", self.delta, "a number between 0 and 1", positive=True)
        if delta >= 1.0:
            raise DataError(f"delta is {delta}; expected a number between 0 and 1")
        store(self, threshold=threshold, delta=delta)
        if self.detector == "adwin":
            _Adwin.check(self)

    @property
    def kept(self) -> float:
        """Share of the weight of old points that is left after a drift."""
        return 1.0 if self.on_drift == "announce" else 0.01

    def watch(
        self,
        state: DriftState,
        loss: float,
        weight: float,
        improvement: Callable[[float, float], float],
    ) -> tuple[DriftState, bool]:
        """Return the state after a batch, and whether the batch completes a drift.

        Parameters
        ----------
        state : DriftState
        loss, weight : float
            Loss per point and weight of the batch, before it is learned.
        improvement : callable
            `Family.improvement`.
        """
        if state.batches < _FIRST:
            return _with_first(state, loss, weight, improvement), False
        rise = -improvement(state.mean, loss)
        step = rise + improvement(state.mean, state.last)
        unit = float(np.sqrt(state.spread / weight + _IRRELEVANT**2))
        z = rise / unit
        detector = _DETECTORS[self.detector](self, state.memory)
        if detector.update(float(np.clip(z, -_MAX_Z, _MAX_Z))):
            return DriftState(), True
        state = replace(state, memory=detector.dump())
        trust = min(1.0, _UNUSUAL / abs(z)) if z else 1.0
        max_step = _UNUSUAL * unit
        step = float(np.clip(step, -max_step, max_step))
        return _with_usual(state, loss, weight, trust * (loss - state.mean), step), False


def _with_first(
    state: DriftState, loss: float, weight: float, improvement: Callable[[float, float], float]
) -> DriftState:
    """Return `state` after one of the first batches; after the last, it has the usual loss."""
    memory = state.memory + np.array([loss, weight], "<f8").tobytes()
    first = np.frombuffer(memory, "<f8").reshape(-1, 2)
    if state.batches + len(first) < _FIRST:
        return replace(state, memory=memory)
    middle = float(np.median(first[:, 0]))
    deviation = _MAD * float(np.median(np.abs(first[:, 0] - middle)))
    max_deviation = _MAX_Z * max(deviation, _IRRELEVANT * abs(middle))
    state = replace(state, memory=b"")
    for first_loss, first_weight in first.tolist():
        limited = min(max(first_loss, middle - max_deviation), middle + max_deviation)
        step = improvement(state.mean, state.last) - improvement(state.mean, limited)
        state = _with_usual(state, limited, first_weight, limited - state.mean, step)
    return state


def _with_usual(
    state: DriftState, loss: float, weight: float, change: float, step: float
) -> DriftState:
    """Return `state` after a batch.

    `change` is the difference to the mean loss, and `step` the difference to the last batch.
    """
    total = state.weight * (1.0 - 1.0 / _USUAL) + weight
    step = min(abs(step), _FARTHEST)
    share = max(1.0 / max(state.batches, 1), 1.0 / _USUAL)
    spread = step**2 / (1.0 / weight + 1.0 / state.last_weight) if state.batches else 0.0
    return replace(
        state,
        batches=state.batches + 1,
        weight=total,
        mean=state.mean + change * (weight / total),
        spread=state.spread + (spread - state.spread) * share,
        last=loss,
        last_weight=weight,
    )


class _Detector(Protocol):
    def update(self, z: float) -> bool:
        """Return whether `z` completes a drift: a rise of the loss."""

    def dump(self) -> bytes:
        """Return the memory."""


class _PageHinkley:
    """Page's test (Hinkley 1971) of z.

    z is already relative to a running mean. `river.drift.PageHinkley` would subtract a second mean,
    and report a drift when a fall of the loss ends.
    """

    def __init__(self, policy: Drift, memory: bytes) -> None:
        self._threshold = policy.threshold
        self._sum = float(np.frombuffer(memory, "<f8")[0]) if memory else 0.0

    def update(self, z: float) -> bool:
        self._sum = max(0.0, self._sum + z - _SLACK)
        return self._sum > self._threshold

    def dump(self) -> bytes:
        return np.array([self._sum], "<f8").tobytes()


class _Adwin:
    """ADWIN of river, which stores its own window. It gets numbers in [0, 1]."""

    def __init__(self, policy: Drift, memory: bytes) -> None:
        from river.drift import ADWIN

        self._found: Any = ADWIN(delta=policy.delta, clock=1)
        if memory:
            self._found._helper.__setstate__(memory)

    @classmethod
    def check(cls, policy: Drift) -> None:
        """Refuse a version of river whose window can't be stored: it has another private name."""
        try:
            cls(policy, cls(policy, b"").dump())
        except (ImportError, AttributeError, TypeError) as error:
            raise DataError(
                "detector 'adwin' can't store its window with the installed version of river "
                f"({error}): install river 0.26.1, or use detector 'page_hinkley'"
            ) from None

    def update(self, z: float) -> bool:
        before = self._found.estimation
        self._found.update(0.5 + 0.5 * float(np.clip(z / _UNUSUAL, -1.0, 1.0)))
        return bool(self._found.drift_detected) and self._found.estimation > before

    def dump(self) -> bytes:
        return bytes(self._found._helper.__getstate__())


_DETECTORS: dict[str, Callable[[Drift, bytes], _Detector]] = {
    "page_hinkley": _PageHinkley,
    "adwin": _Adwin,
}
