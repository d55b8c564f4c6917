"""Drift: detectors on the prequential loss, with a memory that a checkpoint can hold.

A detector sees how much worse than usual each batch is explained by the parameters that had no part
in it, in standard deviations:

    z = r / sqrt(v / m + 0.005^2),    r = loss of the batch against its running mean

r is relative for K-means and in nats for a mixture, m the weight of the batch and v the variance of
a point's share, from the differences of successive batches, which a trend leaves as they are (von
Neumann 1941). So units and sizes of batches don't matter; nor does a change of less than half a
percent or 0.005 nats, however sure it is. |z| is cut at 10: one odd batch is no drift. Batches
that are explained better than usual are none either. Nor does one odd batch say what is usual: the
losses of the first batches are cut at ten standard deviations from their median, by their median
absolute deviation (Huber 1981, section 5.1).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np

from streamclust.errors import DataError
from streamclust.hyperparameters import as_number, check_choice, store

if TYPE_CHECKING:
    from collections.abc import Callable

DetectorKind = Literal["page_hinkley", "adwin"]
OnDrift = Literal["announce", "forget", "resolve"]

_USUAL = 100
"""Batches that the running mean and variance look back to."""

_FIRST = 10
"""Batches that only tell what is usual: at the start and after a drift."""

_IRRELEVANT = 0.005
"""Change that matters to nobody: a share of J, or nats per point."""

_ODD = 10.0
"""Largest |z| that a detector is told."""

_SLACK = 0.5
"""What Page's test lets pass, in standard deviations a batch."""

_FARTHEST = 1e100
"""Largest step between two losses whose square is still a number."""

_MAD = 1.4826
"""Standard deviation of Gaussian numbers, in their median absolute deviation."""

_UNUSUAL = 3.0
"""Largest |z| that changes what is usual: a jump is to be found, not got used to."""


@dataclass(frozen=True)
class DriftState:
    """What is remembered from batch to batch.

    Parameters
    ----------
    batches : int
        Batches since the last drift, or the start.
    weight : float
        Their weight, those long ago counting less.
    mean : float
        Their mean loss.
    spread : float
        v.
    last, last_weight : float
        Loss and weight of the newest batch.
    memory : bytes
        The detector's own; empty for a new one. Losses and weights of the first batches before it
        has begun.
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
    """How drift is found, and what is done then.

    Parameters
    ----------
    detector : {'page_hinkley', 'adwin'}, default='page_hinkley'
        Page's test (Page 1954; Hinkley 1971) is the quicker one; `river.drift.ADWIN` (Bifet &
        Gavalda 2007) has a bound on its false alarms.
    on_drift : {'announce', 'forget', 'resolve'}, default='announce'
        'forget' leaves the past a hundredth of its weight, so that the next batches decide;
        'resolve' does that, and fits anew as soon as there are as many new points as the warm-up
        had.
    threshold : float, default=30.0
        Of 'page_hinkley': z summed up, less half a standard deviation a batch.
    delta : float, default=0.002
        Of 'adwin': chance of a false alarm, by its bound.
    """

    detector: DetectorKind = "page_hinkley"
    on_drift: OnDrift = "announce"
    threshold: float = 30.0
    delta: float = 0.002

    def __post_init__(self) -> None:
        check_choice("detector", self.detector, _DETECTORS)
        check_choice("on_drift", self.on_drift, get_args(OnDrift))
        threshold = as_number("threshold", self.threshold, "a positive number", positive=True)
        delta = as_number("delta", self.delta, "a number between 0 and 1", positive=True)
        if delta >= 1.0:
            raise DataError(f"delta is {delta}; expected a number between 0 and 1")
        store(self, threshold=threshold, delta=delta)

    @property
    def kept(self) -> float:
        """Share of its weight that the past keeps at a drift."""
        return 1.0 if self.on_drift == "announce" else 0.01

    def watch(
        self,
        state: DriftState,
        loss: float,
        weight: float,
        improvement: Callable[[float, float], float],
    ) -> tuple[DriftState, bool]:
        """Take note of a batch's loss per point; say whether it completes a drift.

        Parameters
        ----------
        state : DriftState
        loss, weight : float
            Of the batch, which wasn't learned yet.
        improvement : callable
            `Family.improvement`.
        """
        if state.batches < _FIRST:
            return _begun(state, loss, weight, improvement), False
        worse = -improvement(state.mean, loss)
        step = worse + improvement(state.mean, state.last)
        unit = float(np.sqrt(state.spread / weight + _IRRELEVANT**2))
        z = worse / unit
        detector = _DETECTORS[self.detector](self, state.memory)
        if detector.update(float(np.clip(z, -_ODD, _ODD))):
            return DriftState(), True
        state = replace(state, memory=detector.dump())
        trust = min(1.0, _UNUSUAL / abs(z)) if z else 1.0
        most = _UNUSUAL * unit
        step = float(np.clip(step, -most, most))
        return _used_to(state, loss, weight, trust * (loss - state.mean), step), False


def _begun(
    state: DriftState, loss: float, weight: float, improvement: Callable[[float, float], float]
) -> DriftState:
    """Return `state` after one of the first batches: all of them say together what is usual."""
    memory = state.memory + np.array([loss, weight], "<f8").tobytes()
    first = np.frombuffer(memory, "<f8").reshape(-1, 2)
    if state.batches + len(first) < _FIRST:
        return replace(state, memory=memory)
    middle = float(np.median(first[:, 0]))
    deviation = _MAD * float(np.median(np.abs(first[:, 0] - middle)))
    most = _ODD * max(deviation, _IRRELEVANT * abs(middle))
    state = replace(state, memory=b"")
    for each, of_weight in first.tolist():
        cut = min(max(each, middle - most), middle + most)
        step = improvement(state.mean, state.last) - improvement(state.mean, cut)
        state = _used_to(state, cut, of_weight, cut - state.mean, step)
    return state


def _used_to(
    state: DriftState, loss: float, weight: float, change: float, step: float
) -> DriftState:
    """Return `state` after one more batch: so far from the mean, and from the batch before."""
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
        """Take z; return whether there is a drift for the worse."""

    def dump(self) -> bytes:
        """Return all that it remembers."""


class _PageHinkley:
    """Page's test of z, which is measured against a running mean already, as Hinkley has it.

    river's own subtracts a second mean; the end of a good time is then the begin of a bad one.
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
    """The detector writes its window as bytes itself; z is brought to [0, 1], as its bound asks."""

    def __init__(self, policy: Drift, memory: bytes) -> None:
        from river.drift import ADWIN

        self._found: Any = ADWIN(delta=policy.delta, clock=1)
        if memory:
            self._found._helper.__setstate__(memory)

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
