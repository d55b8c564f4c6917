"""Adopting a refit between two batches, without losing or repeating a point.

A refit covers the stream up to the position where the refit started. The worker reads the points
that the model has learned since then again, and learns them on top of the refit. One commit writes
the result, at the model's own position. The position never goes back: nothing is counted, rejected
or published twice, and a crash at any instruction leaves the old state and the proposal, or the new
state.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from streamclust.errors import DataError, FormatError
from streamclust.online.state import with_coreset_of
from streamclust.runtime.assemble import largest_batch, points_format
from streamclust.runtime.log import warn_of_less
from streamclust.store.proposal import model_proposed_for, proposed, read_proposal, withdraw
from streamclust.store.ranges import RangeReader
from streamclust.store.source import Batcher, batches
from streamclust.store.streams import order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis
    from structlog.typing import FilteringBoundLogger

    from streamclust.config.model import ModelSettings
    from streamclust.models.scaling import Scaling
    from streamclust.online.learner import LearnerState, StreamLearner
    from streamclust.store.checkpoint import Checkpoint
    from streamclust.store.keys import Keys
    from streamclust.store.source import Batch
    from streamclust.worker.model_worker import ModelWorker


class Swap:
    """Adopts proposed refits of one model.

    Parameters
    ----------
    client : redis.Redis
    reader : redis.Redis
        Reads the points. No other object may use it.
    keys : Keys
    settings : KMeansSettings or GaussianMixtureSettings
    log : structlog logger
    stopping : callable
        Returns whether the refit is left to the next worker.
    """

    def __init__(
        self,
        client: redis.Redis,
        reader: redis.Redis,
        keys: Keys,
        settings: ModelSettings,
        log: FilteringBoundLogger,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._client = client
        self._reader = reader
        self._keys = keys
        self._settings = settings
        self._log = log
        self._stopping = stopping

    def adopt_proposal(self, worker: ModelWorker) -> None:
        """Adopt the proposed refit, if there is one; refuse a refit that doesn't fit the model."""
        refit = proposed(self._client, self._keys)
        if not refit:
            return
        try:
            found = read_proposal(self._client, self._keys, worker.learner.family)
            if found is not None and found.refit != worker.checkpoint.refit:
                self._check_model(worker)
                self._adopt(worker, found)
                return
        except (FormatError, ValueError, ArithmeticError) as error:  # also errors of the numerics
            self._log.error("refit_refused", refit=refit, error=str(error))
        withdraw(self._client, self._keys, refit)

    def _check_model(self, worker: ModelWorker) -> None:
        """Refuse a refit of an earlier model of this name."""
        if model_proposed_for(self._client, self._keys) not in (0, worker.model_id):
            raise DataError(
                "the refit is of an earlier model of this name, which was created again since"
            )

    def _adopt(self, worker: ModelWorker, refit: Checkpoint) -> None:
        at = worker.checkpoint
        if not refit.position:
            worker.adopt(_with_refit(worker.learner, at.learner, refit), refit.refit)
            return
        _check_reach(refit, at)
        then = replace(at.learner, **_clock(refit.learner))
        state = _with_refit(worker.learner, then, refit)
        again = replace(worker.learner, coreset=0)  # these points are in the coreset
        for batch in self._since(refit, at):
            state, _ = again.update(state, batch.X, batch.w, time_ms=batch.time_ms)
        if self._stopping():
            return
        missing = at.learner.points - state.points
        if missing:
            self._log.warning("refit_points_lost", count=missing)
        worker.adopt(_with_score_of(at.learner, state), refit.refit)

    def _since(self, refit: Checkpoint, at: Checkpoint) -> Iterator[Batch]:
        """Yield the points that the model has learned since the refit started, in batches."""
        spec = points_format(self._settings.points)
        after = {stream: refit.position.get(stream, end) for stream, end in at.position.items()}
        reader = RangeReader(self._reader, after, at.position, warn_of_less(self._log))
        batcher = Batcher(
            spec,
            at.layout,
            after,
            self._settings.batch.least,
            most=largest_batch(self._settings),
            learned=refit.learner.points,
            keep_dead=0,
        )
        return batches(reader, batcher, linger=0.0, until_idle=True, stopping=self._stopping)


def _check_reach(refit: Checkpoint, at: Checkpoint) -> None:
    """Refuse a refit of points that the model will learn later: they would be learned twice."""
    for stream, end in refit.position.items():
        if order(end) > order(at.position.get(stream, end)):
            raise DataError(f"the refit covers more of stream {stream} than the model has learned")


def _with_refit(
    learner: StreamLearner[Any], live: LearnerState[Any], refit: Checkpoint
) -> LearnerState[Any]:
    params, stats = refit.learner.params, refit.learner.stats
    if stats is None or params is None:
        raise FormatError("the proposed refit holds no model")
    _check_shape(learner, live, stats.reference.shape)
    if live.params is None:
        live = replace(live, scaling=refit.learner.scaling)
    elif not _equal(live.scaling, refit.learner.scaling):
        raise DataError(
            "the refit has other scales than the model, which has left its warm-up since"
        )
    return learner.adopt(live, params, stats)


def _check_shape(
    learner: StreamLearner[Any], live: LearnerState[Any], found: tuple[int, ...]
) -> None:
    """Refuse another number of features, or of components where that is fixed."""
    if live.stats is None:
        return
    wanted, fixed = live.stats.reference.shape, learner.family.fewest is None
    if found[1] != wanted[1] or (fixed and found[0] != wanted[0]):
        raise DataError(f"the refit has shape {found}, the model {wanted}")


def _equal(a: Scaling | None, b: Scaling | None) -> bool:
    if a is None or b is None:
        return a is b
    return bool((a.center == b.center).all() and (a.scale == b.scale).all())


def _clock(state: LearnerState[Any]) -> dict[str, Any]:
    """Return the counts and the time of the state when the refit started."""
    return {name: getattr(state, name) for name in ("steps", "points", "held", "time_ms")}


def _with_score_of(live: LearnerState[Any], state: LearnerState[Any]) -> LearnerState[Any]:
    """Return `state` with counts, score and coreset of `live`, so that no point counts twice."""
    stats = state.stats
    if stats is not None and live.stats is not None:
        stats = replace(stats, objective=live.stats.objective, count=live.stats.count)
    drift = replace(state.drift, drifts=live.drift.drifts)
    return with_coreset_of(live, replace(state, stats=stats, drift=drift, **_clock(live)))
