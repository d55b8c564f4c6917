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

import numpy as np

from streamclust.errors import DataError, FormatError
from streamclust.models.stats import decay
from streamclust.online.forgetting import Cut
from streamclust.online.scores import rebuilt
from streamclust.runtime.assemble import largest_batch, points_format
from streamclust.runtime.log import warn_of_less
from streamclust.store.ids import order
from streamclust.store.model.proposal import proposal_id, proposed_model_id, read_proposal, withdraw
from streamclust.store.stream.batches import Batcher, batches
from streamclust.store.stream.ranges import RangeReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import redis
    from structlog.typing import FilteringBoundLogger

    from streamclust.arrays import Array, Points
    from streamclust.config.model import ModelSettings
    from streamclust.formats.checkpoint import Checkpoint
    from streamclust.models.family import Family
    from streamclust.models.scaling import Scaling
    from streamclust.online.learner import LearnerState, StreamLearner
    from streamclust.runtime.activity import Activity
    from streamclust.runtime.job import Job
    from streamclust.store.model.keys import Keys
    from streamclust.store.stream.batches import Batch
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
        Returns whether to leave the refit to the next worker.
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
        refit = proposal_id(self._client, self._keys)
        if not refit:
            return
        try:
            found = read_proposal(self._client, self._keys, worker.learner.family)
            if found is not None and found.refit != worker.checkpoint.refit:
                if proposed_model_id(self._client, self._keys) not in (0, worker.model_id):
                    raise DataError(
                        "the refit belongs to an earlier model of this name, which was deleted; "
                        "run the refit again"
                    )
                self._adopt(worker, found)
                return
        except (FormatError, ValueError, ArithmeticError) as error:  # also errors of the numerics
            self._log.error("refit_refused", refit=refit, error=str(error))
        withdraw(self._client, self._keys, refit)

    def _adopt(self, worker: ModelWorker, refit: Checkpoint) -> None:
        checkpoint = worker.checkpoint
        if not refit.position:
            worker.adopt(_with_refit(worker.learner, checkpoint.learner, refit), refit.refit)
            return
        for stream, end in refit.position.items():
            if order(end) > order(checkpoint.position.get(stream, end)):  # else learned twice
                raise DataError(
                    f"the refit covers more of stream {stream} than the model has learned"
                )
        state = learn_on_top(
            worker.learner, checkpoint.learner, refit, self._since(refit, checkpoint)
        )
        if self._stopping():
            return
        missing = checkpoint.learner.points - state.points
        state = _with_score_of(worker.learner.family, checkpoint.learner, state)
        if missing:
            self._log.warning("refit_points_lost", count=missing)
        worker.adopt(state, refit.refit)

    def _since(self, refit: Checkpoint, checkpoint: Checkpoint) -> Iterator[Batch]:
        """Yield the points that the model has learned since the refit started, in batches."""
        spec = points_format(self._settings)
        after = {
            stream: refit.position.get(stream, end) for stream, end in checkpoint.position.items()
        }
        reader = RangeReader(self._reader, after, checkpoint.position, warn_of_less(self._log))
        batcher = Batcher(
            spec,
            checkpoint.layout,
            after,
            self._settings.batch.least,
            most=largest_batch(self._settings),
            learned=refit.learner.points,
            keep_dead=0,
        )
        return batches(reader, batcher, linger=0.0, until_idle=True, stopping=self._stopping)


def learn_on_top(
    learner: StreamLearner[Any],
    live: LearnerState[Any],
    refit: Checkpoint,
    since: Iterable[Batch],
) -> LearnerState[Any]:
    """Return the state of a refit after it has learned the points since its start.

    The refit replaces the model at the refit's position, with at most the mass of this model. Then
    the later points are learned. If the mass fell for another reason than forgetting (a drift, a
    rollback), it falls again at the same point. So the mass is the same as after a single pass.

    Parameters
    ----------
    learner : StreamLearner
    live : LearnerState
        The model now.
    refit : Checkpoint
        The proposal.
    since : iterable of Batch
        The points that the model has learned since the refit's position.
    """
    start = refit.learner
    forgetting = replace(live.forgetting, falls=start.forgetting.falls, n_falls=0)
    replaced = replace(live, clock=start.clock, forgetting=forgetting)
    mass = start.components.peak_total  # of the model at the refit's position
    if live.stats is not None and mass > 0.0 and live.stats.mass > 0.0:
        replaced = replace(replaced, stats=decay(live.stats, mass / live.stats.mass))
    if np.array_equal(live.components.ids, start.components.ids):
        recent = start.components.recent
        replaced = replace(replaced, components=replace(live.components, recent=recent))
    state = _with_refit(learner, replaced, refit)
    own = state.forgetting.falls[len(state.forgetting.falls) - state.forgetting.n_falls :]
    before = live.forgetting
    n_since = before.n_falls - start.forgetting.n_falls
    falls = list(before.falls[len(before.falls) - n_since :]) if n_since > 0 else []
    drift = None if learner.drift is None else replace(learner.drift, on_drift="announce")
    relearner = replace(learner, coreset=0, drift=drift)  # the coreset has these points
    for batch in since:
        w = np.ones(len(batch.X)) if batch.w is None else batch.w
        X, w = batch.X[w > 0.0], w[w > 0.0]  # points of weight 0 aren't counted
        kept = 1.0
        while falls and falls[0].points < state.points + len(X):
            fall = falls.pop(0)
            n = max(fall.points - state.points, 0)
            state = _learned(relearner, state, X[:n], w[:n], batch.time_ms, kept if n else 1.0)
            X, w, kept = X[n:], w[n:], 1.0 if n else kept
            if fall.drifted:
                kept *= fall.share
            else:
                state = _decayed(state, fall.share)
        state = _learned(relearner, state, X, w, batch.time_ms, kept)
    for fall in falls:
        state = _decayed(state, fall.share)
    n_falls = before.n_falls + len(own)
    forgetting = replace(state.forgetting, falls=(*before.falls, *own), n_falls=n_falls)
    return replace(state, forgetting=forgetting)


def _learned(
    learner: StreamLearner[Any],
    state: LearnerState[Any],
    X: Points,
    w: Array,
    time_ms: float,
    kept: float,
) -> LearnerState[Any]:
    if kept < 1.0:
        learner = replace(learner, forgetting=Cut(learner.forgetting, kept))
    return learner.update(state, X, w, time_ms=time_ms)[0]


def _decayed(state: LearnerState[Any], share: float) -> LearnerState[Any]:
    return state if state.stats is None else replace(state, stats=decay(state.stats, share))


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
    state = learner.adopt(live, params, stats)
    if learner.anomaly is not None and refit.learner.scores is not None:  # of a rollback
        state = replace(state, scores=refit.learner.scores)
    if learner.remembers_features and refit.learner.feature_distribution is not None:
        state = replace(state, feature_distribution=refit.learner.feature_distribution)
    return state


def _check_shape(
    learner: StreamLearner[Any], live: LearnerState[Any], found: tuple[int, ...]
) -> None:
    """Refuse another number of features, or another number of components if that is fixed."""
    if live.stats is None:
        return
    wanted, fixed = live.stats.reference.shape, learner.family.min_components is None
    if found[1] != wanted[1] or (fixed and found[0] != wanted[0]):
        raise DataError(
            f"the refit has means of shape {found}, the model of shape {wanted}; run it again"
        )


def _equal(a: Scaling | None, b: Scaling | None) -> bool:
    if a is None or b is None:
        return a is b
    return bool((a.center == b.center).all() and (a.scale == b.scale).all())


def _with_score_of(
    family: Family[Any], live: LearnerState[Any], state: LearnerState[Any]
) -> LearnerState[Any]:
    """Return `state` with counts, score and coreset of `live`, so that no point counts twice."""
    stats, counts = state.stats, live.counts
    if stats is not None and live.stats is not None:
        stats = replace(stats, objective=live.stats.objective, count=live.stats.count)
    return replace(
        state,
        stats=stats,
        clock=live.clock,
        counts=replace(state.counts, drifts=counts.drifts, reclustered=counts.reclustered),
        # The fit to the points since a drift is still pending.
        warm_up=live.warm_up if live.warm_up.gathering else state.warm_up,
        coreset=live.coreset,
        recluster=replace(live.recluster, pending=state.recluster.pending),
        forgetting=replace(state.forgetting, weight=live.forgetting.weight),
        spread=live.spread,
        scores=rebuilt(live.scores, family, state.params, live.coreset),
        feature_distribution=live.feature_distribution,
    )


def open_swap(job: Job, activity: Activity, leaving: Callable[[], bool]) -> Swap:
    """Return the object that adopts the refits of a model.

    Parameters
    ----------
    job : Job
        Its server is a session.
    activity : Activity
        Records the progress.
    leaving : callable
        Returns whether to leave a refit to the next worker.
    """
    client = job.server.client()
    reader = job.server.raw_client(job.model.batch.max_entry_bytes)

    def stopping() -> bool:  # called before each read of the points since the refit started
        activity.record_progress()
        return leaving()

    return Swap(client, reader, job.keys, job.model, job.log, stopping)
