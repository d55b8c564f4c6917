"""One model as it is learned: batches in, commits out. No loop, no clock of its own."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from streamclust.failpoints import passing
from streamclust.formats.dead import DeadLetters
from streamclust.formats.model import SWAPS, Reason
from streamclust.runtime.assemble import check_features, make_learner
from streamclust.runtime.log import warn_of_less
from streamclust.store.model.proposal import reason_of
from streamclust.store.model.versions import read_model_id
from streamclust.worker.batch_log import BatchLog
from streamclust.worker.cadence import AutoCadence, Cadence, commit_cadence
from streamclust.worker.commits import Commits
from streamclust.worker.own_codes import OwnCodes
from streamclust.worker.positions import (
    after_batch,
    new_checkpoint,
    read_checkpoint,
    with_streams_of_settings,
)
from streamclust.worker.progress import progress_of
from streamclust.worker.publication import (
    has_news,
    is_first,
    is_urgent,
    next_version,
    threshold_outdated,
)
from streamclust.worker.rejected_batches import NUMERICAL, learn_without_fit, without_points
from streamclust.worker.solver import Solver

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.formats.checkpoint import Checkpoint
    from streamclust.online.learner import Info, LearnerState, StreamLearner
    from streamclust.store.stream.batches import Batch
    from streamclust.worker.context import ModelContext
    from streamclust.worker.progress import Progress


def open_model_worker(
    context: ModelContext,
    token: int,
    *,
    clock: Callable[[], float] = time.monotonic,
    woken: bool = False,
) -> ModelWorker:
    """Load the committed state of a model, or create the model, and return its worker.

    Parameters
    ----------
    context : ModelContext
    token : int
        Of the lease.
    clock : callable, optional
        For the cadences; seconds.
    woken : bool
        Whether the model only left memory, and is loaded again.
    """
    settings, client, log, keys = context.settings, context.client, context.log, context.keys
    learner = replace(make_learner(settings), each_part=context.each_part)
    found, model_id = read_checkpoint(context.name, settings, client, keys), 0
    if found is not None:
        if found.version:
            model_id = read_model_id(client, keys)
        what = {"points": found.learner.points, "version": found.version}
        if woken:
            log.debug("model_woken", **what)
        else:
            log.info("model_resumed", **what)
    context.lost_commits.compare(found, log)
    if found is None:
        checkpoint = new_checkpoint(context, learner)
        new_streams = checkpoint.position
    else:
        checkpoint, new_streams = with_streams_of_settings(context, found)
    codes = None
    if settings.encode.worker or settings.worker_alerts:
        reader, on_less = context.reader or client, warn_of_less(log)
        codes = OwnCodes(client, keys, settings, reader, checkpoint.position, on_less)
        codes.begin(new_streams)
    commits = Commits(context, token, learner.family, codes, checkpoint, model_id)
    worker = ModelWorker(context, learner, commits, clock)
    if found is None or new_streams:  # the start of a stream is committed too
        worker.commit(publish=is_first(checkpoint))
    else:  # the previous worker may have died between a commit and its mirror
        commits.mirror()
    if codes is not None:
        codes.catch_up(commits.committed.position)
    return worker


class ModelWorker:
    """Learns one model, and commits and publishes when that is due. See `open_model_worker`.

    Parameters
    ----------
    context : ModelContext
    learner : StreamLearner
    commits : Commits
        Its committed checkpoint is where the worker starts.
    clock : callable
        For the cadences; seconds.

    Attributes
    ----------
    learner : StreamLearner
    checkpoint : Checkpoint
        The learned state and position, ahead of the committed checkpoint.
    """

    def __init__(
        self,
        context: ModelContext,
        learner: StreamLearner[Any],
        commits: Commits,
        clock: Callable[[], float],
    ) -> None:
        settings = context.settings
        self._settings = settings
        self._log = context.log
        self._name = context.name
        self._commits = commits
        self._solver = Solver(learner, context.activity, context.solves)
        self._rejected = context.rejected
        self._batch_log = BatchLog(context.log)
        self._dead = DeadLetters()
        self.learner = learner
        self.checkpoint = commits.committed
        self._commit_due = commit_cadence(settings, clock)
        self._publish_due = Cadence(
            settings.publish.points,
            float(settings.publish.every),
            clock,
            counted=self.checkpoint.unpublished,
        )
        self._solver.begin(self.checkpoint.learner)

    @property
    def model_id(self) -> int:
        """The model ID (see `Keys.id`); 0 before the first version."""
        return self._commits.model_id

    @property
    def committed(self) -> Checkpoint:
        """The checkpoint that the server has."""
        return self._commits.committed

    @property
    def settled(self) -> bool:
        """Whether everything that was learned is committed."""
        return self.checkpoint is self._commits.committed

    @property
    def progress(self) -> Progress:
        """The progress for the health key."""
        return progress_of(self.checkpoint, self.learner)

    def learn(self, batch: Batch) -> None:
        """Score and learn a batch; commit and publish if that is due.

        A batch that the numerics can't learn is rejected: its points count as dead, and `:dead`
        has the reason. The state before such a batch is committed first, and the batch by itself,
        so that the numbers of dead letters depend on no cadence.

        Raises
        ------
        DataError
            If the batches before could not be learned either; see `RejectedBatches`.
        FormatError
            If the points have more features than the settings allow.
        """
        if self.checkpoint.layout is None and batch.layout is not None:
            check_features(self._settings, batch.layout.n_features)
        passing("computing")
        state = before = self.checkpoint.learner
        info: Info | None = None
        error: Exception | None = None
        if len(batch.X):
            try:
                state = self._solver.with_answer(state, len(batch.X))
                state, info = self.learner.learn(state, batch.X, batch.w, time_ms=batch.time_ms)
            except NUMERICAL as failure:
                again = learn_without_fit(self.learner, before, batch, failure, self._log)
                state, info, error = again
        if info is not None:
            self._rejected.in_a_row = 0
            self._solver.begin(state)
            self._batch_log.learned(info, state)
        if error is not None:
            self._rejected.count(error)
            if not self.settled:
                self.commit(publish=False)
            self._rejected.log(batch, error, self._log)
            batch = without_points(batch, self.checkpoint.position, error)
        self._batch_log.read(batch, self.checkpoint)
        self.checkpoint = after_batch(self.checkpoint, batch, state)
        letters = DeadLetters([*self._dead.parts, *batch.dead.parts])
        self._dead = letters.newest(self._settings.dead.keep)
        taken = max(batch.refused + len(batch.X), 1)
        self._commit_due.count(taken)
        self._publish_due.count(taken)
        if error is not None:
            self.commit(publish=False)
        self.tick()

    def tick(self) -> None:
        """Commit, and publish, if that is due."""
        checkpoint = self.checkpoint
        if (
            self._publish_due.due
            or is_urgent(checkpoint)
            or threshold_outdated(self.learner, checkpoint)
        ):
            self.commit(publish=True)
        elif self._commit_due.due:
            self.commit(publish=False)

    @property
    def next_due(self) -> float | None:
        """The time at which `tick` has something to do, by the clock; None if nothing waits."""
        deadlines = (self._commit_due.deadline, self._publish_due.deadline)
        return min((time for time in deadlines if time is not None), default=None)

    def begin_now(self) -> None:
        """End the warm-up with the points so far, because no more points will come."""
        state = self.checkpoint.learner
        if state.params is None and len(state.warm_up):
            state, info = self.learner.start(state)
            self.checkpoint = replace(self.checkpoint, learner=state)
            self._batch_log.learned(info, state)

    def adopt(self, state: LearnerState[Any], refit: str) -> None:
        """Continue from a refit that covers all points learned so far: commit and publish it."""
        self.checkpoint = replace(self.checkpoint, learner=state, refit=refit)
        self.commit(publish=True, reason=reason_of(refit))
        self._log.info("refit_adopted", refit=refit, version=self.checkpoint.version)

    def leave(self) -> None:
        """Commit and publish everything that isn't committed and published yet."""
        news = has_news(self.checkpoint)
        if news or not self.settled:
            self.commit(publish=news, reason="leave")

    def commit(self, *, publish: bool, reason: Reason = "step") -> None:
        """Commit the checkpoint; publish a version with it, if asked to and if the model has news.

        Parameters
        ----------
        publish : bool
        reason : str
            Of the version; a change of the model takes precedence, see `publication.REASONS`.
        """
        after, model = self.checkpoint, None
        refit = after.refit if reason in SWAPS else ""
        if publish and (refit or has_news(after)):
            after, model = next_version(self._name, self.learner, after, reason)
        if publish:  # also without news: the cadence restarts
            self._publish_due.reset()
        after = replace(after, unpublished=self._publish_due.counted)
        self._commits.write(after, model, self._dead, refit)
        self.checkpoint, self._dead = after, DeadLetters()
        self._commit_due.reset()
        if isinstance(self._commit_due, AutoCadence):
            self._commit_due.state_bytes = self._commits.state_bytes
            if after.learner.stats is not None:
                self._commit_due.point_bytes = 8 * after.learner.stats.first.shape[1]
