"""Which components there are, where K adapts: their numbers, and who takes over from whom.

A component has a number for life. Newborn ones get numbers that none has had before; those of the
dead are not given again. `ids` rises from component to component, so newborn ones are the last.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from streamclust.models.coreset import Coreset
from streamclust.models.matching import continued
from streamclust.models.stats import reorder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamclust.arrays import Array, Labels
    from streamclust.models.family import Family, Params
    from streamclust.models.stats import Stats
    from streamclust.online.state import LearnerState

P = TypeVar("P", bound="Params")

_FASTER = 6.0
"""How many times as fast the recent masses forget: a component that gets no more points has lost
nine tenths of its recent share after two thirds of a half-life."""

_EXPECTED = 20.0
"""Average recent points that are expected of a component before their absence means something."""


def first(K: int) -> dict[str, Any]:
    """Return the fields of a state whose first K components are born."""
    return {"ids": np.arange(K), "next_id": K, "recent": np.zeros(K)}


def recent(state: LearnerState[P], batch: Array, lam: float) -> Array:
    """Return the masses (K,) of which the older points are forgotten six times as fast.

    A `lam` above 1, a power schedule's for a batch of large weights, forgets nothing: it brings the
    older points to the weights of the batch.
    """
    kept = lam**_FASTER if lam < 1.0 else lam
    return np.asarray(batch + kept * state.recent)


def absent(weight: Array, recent: Array, fade: float, unit: float) -> NDArray[np.bool_]:
    """Return which components, (K,), recently had less than `fade` times their share of points.

    Parameters
    ----------
    weight, recent : arrays of shape (K,)
        Masses.
    fade : float
    unit : float
        Weight of an average point.
    """
    expected = weight * (recent.sum() / weight.sum())
    return np.asarray((recent < fade * expected) & (expected >= _EXPECTED * unit))


def buried(family: Family[P], state: LearnerState[P], dying: NDArray[np.bool_]) -> LearnerState[P]:
    """Return the state without dying components (K,), and without what is remembered of them.

    The lightest go first, and never so many that fewer than the smallest K are left.
    """
    params, stats = state.params, state.stats
    if params is None or stats is None:
        return state
    room = len(dying) - (family.fewest or 1)
    lightest = np.argsort(np.where(dying, stats.weight, np.inf), kind="stable")
    gone = lightest[: max(0, min(int(dying.sum()), room))]
    if not len(gone):
        return state
    kept, tail = np.setdiff1d(np.arange(len(dying)), gone), state.averaging.tail
    core = _without(family, params, Coreset(state.core, state.core_weight), gone)
    fresh = _without(family, params, Coreset(state.fresh, state.fresh_weight), gone)
    return replace(
        state,
        params=family.reorder(params, kept),
        stats=reorder(stats, kept),
        average=None if state.average is None else reorder(state.average, kept),
        averaging=replace(state.averaging, tail=None if tail is None else reorder(tail, kept)),
        best=state.best[kept],
        best_total=state.best_total - float(stats.weight[gone].sum()),
        ids=state.ids[kept],
        recent=state.recent[kept],
        core=core.X,
        core_weight=core.w,
        fresh=fresh.X,
        fresh_weight=fresh.w,
        pending=None,
    )


def _without(family: Family[P], params: P, coreset: Coreset, gone: Labels) -> Coreset:
    if not len(coreset.w):
        return coreset
    kept = ~np.isin(family.predict(params, coreset.X), gone)
    return Coreset(coreset.X[kept], coreset.w[kept])


def succeeded(
    family: Family[P], state: LearnerState[P], live: P, params: P, stats: Stats
) -> tuple[Labels, dict[str, Any]]:
    """Return the order of new components, and the state's fields that say who they are.

    A component keeps the number of the live component with which it shares the most points; see
    `streamclust.models.matching.continued`. The points are those of the coreset, or else the live
    means; a point counts less the farther it is from the new mean.

    Parameters
    ----------
    family : KMeans or GaussianMixture
    state : LearnerState
        With the statistics of `live`.
    live, params : KMeansParams or MixtureParams
        Old and new ones; their numbers of components may differ.
    stats : Stats
        Of `params`.
    """
    core = state.coreset
    if not len(core.w) and state.stats is not None:
        core = Coreset(state.stats.averages(state.stats.reference), state.stats.weight)
    old, new = (family.predict(each, core.X) for each in (live, params))
    w = core.w / (1.0 + _distances(core, params.means[new]))
    before = continued(old, new, w, (family.size(live), family.size(params)))
    born = np.flatnonzero(before < 0)
    surviving = np.flatnonzero(before >= 0)
    surviving = surviving[np.argsort(before[surviving])]
    order = np.concatenate([surviving, born])
    share = stats.weight[born] / stats.weight.sum()
    return order, {
        "ids": np.concatenate([state.ids[before[surviving]], state.next_id + np.arange(len(born))]),
        "next_id": state.next_id + len(born),
        "recent": np.concatenate([state.recent[before[surviving]], share * state.recent.sum()]),
    }


def _distances(points: Coreset, means: Array) -> Array:
    """Return each point's squared distance to its mean, features at their average distance."""
    square = (points.X - means) ** 2
    average = np.einsum("n,nd->d", points.w, square) / points.w.sum()
    return np.asarray((square / np.where(average > 0.0, average, 1.0)).mean(axis=1))
