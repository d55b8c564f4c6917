"""One model as it is learned: batches in, commits out. No loop, no clock of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.arrays import has_gaps
from streamclust.config.size import AUTO
from streamclust.failpoints import passing
from streamclust.formats.dead import DeadLetters
from streamclust.formats.lost import Lost
from streamclust.formats.model import SWAPS, Reason
from streamclust.online.batch_parts import one_by_one
from streamclust.runtime.assemble import check_features, make_learner
from streamclust.runtime.log import warn_of_less
from streamclust.store.model.proposal import reason_of
from streamclust.store.model.versions import read_model_id
from streamclust.store.stream.gaps import gap_words
from streamclust.worker.commits import Commits, LostCommits
from streamclust.worker.own_codes import OwnCodes
from streamclust.worker.positions import (
    new_checkpoint,
    read_checkpoint,
    with_streams_of_settings,
)
from streamclust.worker.publication import (
    AUTO_SECONDS,
    AutoCadence,
    Cadence,
    has_news,
    is_first,
    is_urgent,
    next_version,
    threshold_outdated,
)
from streamclust.worker.rejected_batches import RejectedBatches, without_points
from streamclust.worker.solver import Solver, Solves

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import redis

    from streamclust.formats.checkpoint import Checkpoint
    from streamclust.formats.lost import Gap
    from streamclust.online.batch_parts import EachPart
    from streamclust.online.learner import Info, LearnerState, StreamLearner
    from streamclust.runtime.activity import Activity
    from streamclust.store.stream.batches import Batch
    from streamclust.worker.context import ModelContext

_NUMERICAL = (ArithmeticError, ValueError)  # DataError and LinAlgError are ValueErrors
"""Errors of a batch that can't be learned. Any other error is no fault of the batch."""


@dataclass(frozen=True)
class Progress:
    """The progress of a model, as the health key shows it."""

    phase: str
    points: int
    dead: int
    version: int
    loss: float | None
    lost: Lost
    drifts: int
    gathered: int = 0
    warm_up: int = 0
    missing: int = 0


def open_model_worker(
    context: ModelContext,
    token: int,
    *,
    clock: Callable[[], float] = time.monotonic,
    lost_commits: LostCommits | None = None,
    rejected: RejectedBatches | None = None,
    reader: redis.Redis | None = None,
    activity: Activity | None = None,
    solves: Solves | None = None,
    each_part: EachPart = one_by_one,
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
    lost_commits : LostCommits, optional
        Of the worker's earlier sessions.
    rejected : RejectedBatches, optional
        Of the worker's earlier sessions.
    reader : redis.Redis, optional
        Reads the points that are encoded. Default: the client of `context`.
    activity : Activity, optional
        Where progress is recorded.
    solves : Solves, optional
        The threads that solve; shared by the models of a worker.
    each_part : callable, optional
        Computes the parts of costly batches; see `StreamLearner`.
    woken : bool
        Whether the model only left memory, and is loaded again.
    """
    name, settings, client = context.name, context.settings, context.client
    keys, log = context.keys, context.log
    learner, model_id = replace(make_learner(settings), each_part=each_part), 0
    lost_commits = lost_commits or LostCommits()
    found = read_checkpoint(name, settings, client, keys)
    if found is not None:
        if found.version:
            model_id = read_model_id(client, keys)
        what = {"points": found.learner.points, "version": found.version}
        if woken:
            log.debug("model_woken", **what)
        else:
            log.info("model_resumed", **what)
    lost_commits.compare(found, log)
    if found is None:
        at = new_checkpoint(context, learner)
        new_streams = at.position
    else:
        at, new_streams = with_streams_of_settings(context, found)
    codes = None
    if settings.encode.worker or settings.worker_alerts:
        on_less = warn_of_less(log)
        codes = OwnCodes(client, keys, settings, reader or client, at.position, on_less)
        codes.begin(new_streams)
    commits = Commits(context, token, learner.family, codes, lost_commits, at, model_id)
    worker = ModelWorker(
        context,
        learner,
        commits,
        Solver(learner, activity, solves),
        rejected or RejectedBatches(),
        clock,
    )
    if found is None or new_streams:  # the start of a stream is committed too
        worker.commit(publish=is_first(at))
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
    solver : Solver
    rejected : RejectedBatches
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
        solver: Solver,
        rejected: RejectedBatches,
        clock: Callable[[], float],
    ) -> None:
        settings = context.settings
        self._settings = settings
        self._log = context.log
        self._name = context.name
        self._commits = commits
        self._solver = solver
        self._rejected = rejected
        self._dead = DeadLetters()
        self._logged_reason = ""
        self.learner = learner
        self.checkpoint = commits.committed
        self._commit_due = self._commit_cadence(clock)
        self._publish_due = Cadence(
            settings.publish.points,
            float(settings.publish.every),
            clock,
            counted=self.checkpoint.unpublished,
        )
        solver.begin(self.checkpoint.learner)

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
        at, state = self.checkpoint, self.checkpoint.learner
        return Progress(
            phase="learning" if state.params is not None else "warming",
            points=state.points,
            dead=at.dead,
            version=at.version,
            loss=self.learner.loss(state),
            lost=sum(at.lost.values(), Lost()),
            drifts=state.counts.drifts,
            gathered=len(state.warm_up) if state.params is None else 0,
            warm_up=self.learner.warm_up_points if state.params is None else 0,
            missing=at.missing,
        )

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
        state, taken = self.checkpoint.learner, batch.refused + len(batch.X)
        dead, missing = batch.refused, _missing_values(batch)
        info: Info | None = None
        error: Exception | None = None
        if len(batch.X):
            try:
                state = self._solver.answered(state, len(batch.X))
                state, info = self.learner.learn(state, batch.X, batch.w, time_ms=batch.time_ms)
            except _NUMERICAL as failure:
                state, info, error = self._learn_without_fit(batch, failure)
        if info is not None:
            self._rejected.in_a_row = 0
            self._solver.begin(state)
            self._log_info(info, state)
        if error is not None:
            self._rejected.count(error)
            if not self.settled:
                self.commit(publish=False)
            self._rejected.log(batch, error, self._log)
            batch, dead = without_points(batch, self.checkpoint.position, error), taken
            missing = 0
        self._warn_of_names(batch)
        self.checkpoint = replace(
            self.checkpoint,
            learner=state,
            position=batch.position,
            read=batch.entries_added,
            lost=_more_lost(self.checkpoint.lost, batch.gaps),
            layout=batch.layout,
            dead=self.checkpoint.dead + dead,
            missing=self.checkpoint.missing + missing,
        )
        letters = DeadLetters([*self._dead.parts, *batch.dead.parts])
        self._dead = letters.newest(self._settings.dead.keep)
        for gap in batch.gaps:
            event, fields = gap_words(gap)
            self._log.warning(event, stream=gap.stream, after=gap.after, **fields)
        self._commit_due.count(max(taken, 1))
        self._publish_due.count(max(taken, 1))
        if error is not None:
            self.commit(publish=False)
        self.tick()

    def _warn_of_names(self, batch: Batch) -> None:
        """Warn if the first entry has named the features of points with missing values."""
        layout = batch.layout
        if self.checkpoint.layout is not None or layout is None:
            return
        if layout.learns_missing and layout.strict:
            self._log.warning("features_of_first_entry", features=list(layout.features))

    def _learn_without_fit(
        self, batch: Batch, error: Exception
    ) -> tuple[LearnerState[Any], Info | None, Exception | None]:
        """Learn a batch that has failed again, without the pending fit of the coreset.

        Return the state and what happened; or the state before the batch, and the error.
        """
        before = self.checkpoint.learner
        if before.recluster.pending is None:
            return before, None, error
        state = replace(before, recluster=before.recluster.without_pending())
        try:
            after, info = self.learner.learn(state, batch.X, batch.w, time_ms=batch.time_ms)
        except _NUMERICAL as again:
            return before, None, again
        self._log.warning("recluster_failed", error=str(error))
        return after, info, None

    def tick(self) -> None:
        """Commit, and publish, if that is due."""
        at = self.checkpoint
        if self._publish_due.due or is_urgent(at) or threshold_outdated(self.learner, at):
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
            self._log_info(info, state)

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

    def _commit_cadence(self, clock: Callable[[], float]) -> Cadence:
        points, every = self._settings.commit.points, self._settings.commit.every
        waits = self._settings.encode.worker or self._settings.worker_alerts
        if every == AUTO and waits:  # codes and alerts wait for the commit
            return Cadence(points, AUTO_SECONDS, clock)
        if not isinstance(every, float):
            return AutoCadence(points, clock)
        return Cadence(points, every, clock)

    def _log_info(self, info: Info, after: LearnerState[Any]) -> None:
        """Log what a batch has changed in the model."""
        log = self._log
        if info.phase == "started":
            log.info("warm_up_finished", points=info.points)
        if info.drifted:
            log.warning("drift_detected", points=after.points)
        if info.born or info.died:
            born, died = list(info.born), list(info.died)
            log.info("components_changed", born=born, died=died, n_components=len(after.ids))
        if info.reclustered:
            log.info("model_reclustered", points=after.points)
        if info.revived:
            log.info("components_revived", components=list(info.revived))
        is_new = info.phase == "warming" and info.reason != self._logged_reason
        if is_new and not info.reason.endswith(" warm-up points"):
            self._logged_reason = info.reason
            log.warning("warm_up_delayed", reason=info.reason)


def _missing_values(batch: Batch) -> int:
    if batch.layout is None or not batch.layout.learns_missing or not has_gaps(batch.X):
        return 0
    return int(np.isnan(batch.X).sum())


def _more_lost(lost: Mapping[str, Lost], gaps: Iterable[Gap]) -> dict[str, Lost]:
    more = dict(lost)
    for gap in gaps:
        more[gap.stream] = more.get(gap.stream, Lost()).plus(gap)
    return {stream: each for stream, each in more.items() if each != Lost()}
