"""A refit from beginning to end: read, search, compare, and hand over."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from streamclust.errors import StoppedError, UnknownModelError
from streamclust.fitting.restarts import fit
from streamclust.models.scaling import learn_scaling
from streamclust.refit.data import gather
from streamclust.refit.delivery import alone, checkpoint_of, deliver, load
from streamclust.refit.medoids import search_medoids
from streamclust.refit.persistence import Persistence
from streamclust.refit.runs import search
from streamclust.refit.scoring import score
from streamclust.refit.selection import select
from streamclust.refit.sources import Checked, Files, Remembered, StreamRange
from streamclust.refit.span import resolve
from streamclust.runtime.activity import Activity
from streamclust.runtime.assemble import make_learner, points_format
from streamclust.runtime.log import warn_of_less
from streamclust.store.checkpoint import Checkpoint
from streamclust.store.position import begin

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from streamclust.models.family import Family
    from streamclust.models.scaling import Scaling
    from streamclust.online.learner import StreamLearner
    from streamclust.refit.data import Gathered
    from streamclust.refit.delivery import Delivered
    from streamclust.refit.runs import Found, Pass, Plan, Run
    from streamclust.refit.scoring import Score
    from streamclust.refit.sources import Source
    from streamclust.refit.span import Span
    from streamclust.runtime.job import Job


@dataclass(frozen=True)
class Which:
    """Which points: a part of the model's streams, or files.

    Parameters
    ----------
    span : Span
        Part of the streams; of no use with files.
    files : sequence of Path
        Instead of the streams.
    weight_column : str or None
        Of the files.
    from_coreset : bool
        The model's own coreset instead.
    """

    span: Span
    files: Sequence[Path] = ()
    weight_column: str | None = None
    from_coreset: bool = False


@dataclass(frozen=True)
class Request:
    """What is to be refitted, and on what.

    Parameters
    ----------
    which : Which
    plan : Plan
    medoids : bool
        By K-medoids instead of Lloyd or EM.
    dry_run : bool
        Compare only.
    force : bool
        Swap also what is no better.
    keep_best : bool
        When stopped, go on with the best so far.
    timeout : float
        Seconds to wait for the worker.
    """

    which: Which
    plan: Plan
    medoids: bool = False
    dry_run: bool = False
    force: bool = False
    keep_best: bool = False
    timeout: float = 60.0


@dataclass(frozen=True)
class Report:
    """What came of it.

    Parameters
    ----------
    source : str
        Where the points were from.
    objective : str
        What the losses are of: 'inertia', 'log_likelihood' (its negative), or 'distance'.
    points : int
    in_memory : bool
        Whether they were kept, or read again for each pass.
    live_loss, loss : float or None, float
        Per point of the live model and of the refit, on the same points. K-means that scales its
        features has them in scaled units.
    better : bool
        Whether the refit's is lower.
    runs : tuple of Run
    stopped : bool
    on_top : bool
        Whether what the model learned since the refit began is learned on top of it.
    delivered : Delivered or None
        None if the model was left as it was.
    """

    source: str
    objective: str
    points: int
    in_memory: bool
    live_loss: float | None
    loss: float
    better: bool
    runs: tuple[Run, ...]
    stopped: bool
    on_top: bool
    delivered: Delivered | None


@dataclass(frozen=True)
class Watcher:
    """Who wants to see how it goes, and may stop it.

    Parameters
    ----------
    on_points : callable
        Given the points read so far.
    on_pass : callable
        Given each pass over them.
    stop : callable
        Whether to stop.
    """

    on_points: Callable[[int], None] = lambda _: None
    on_pass: Callable[[Pass], None] = lambda _: None
    stop: Callable[[], bool] = lambda: False


def refit(job: Job, request: Request, watcher: Watcher) -> Report:
    """Fit a model anew to the retained stream or to files, and swap it in if it is better.

    Raises
    ------
    UnknownModelError
        If the model has no state yet.
    TooFewPointsError
        If there are no points, or fewer distinct ones than components.
    BusyError
        If another refit is at work, or the worker doesn't answer.
    StoppedError
        If it was stopped and `keep_best` is off, or there was no result yet.
    """
    if request.dry_run:
        return _refit(job, request, watcher, load(job, job.server.client()))
    # What was read at a primary that has been replaced must not be proposed to the next one.
    with job.server.session() as server:
        job, client = replace(job, server=server), server.client()
        activity, stall = Activity(), float(job.settings.worker.stall)
        with alone(client, job.keys, lambda: activity.slowest()[1] <= stall):
            return _refit(job, request, _noting(watcher, activity), load(job, client))


def _noting(watcher: Watcher, activity: Activity) -> Watcher:
    """Return a watcher that records progress too: one that hangs must not keep others out."""

    def noting(call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            activity.moved()
            return call(*arguments)

        return noted

    return Watcher(noting(watcher.on_points), noting(watcher.on_pass), noting(watcher.stop))


def _refit(job: Job, request: Request, watcher: Watcher, at: Checkpoint) -> Report:
    opened = open_source(job, request.which, at, watcher.stop)
    learner = make_learner(job.model)
    raw = gather(opened.source, request.plan.seed, on_points=watcher.on_points)
    points = raw.scaled(_scaling(learner, at, raw))
    live = learner.published(at.learner)
    family = _sized(learner.family, live, points, request.plan)
    if request.medoids:
        found = search_medoids(family, points, live, request.plan)
    else:
        found = search(
            family, points, live, request.plan, on_pass=watcher.on_pass, stop=watcher.stop
        )
    if found.stopped and not request.keep_best:
        raise StoppedError("interrupted; nothing was changed")
    report = _report(opened, points, found, request, family)
    if request.dry_run or not (report.better or request.force):
        return report
    # A stop that was asked for is done with; another one is the terminal's.
    stop = (lambda: False) if found.stopped else watcher.stop
    proposal = checkpoint_of(found, at, points.scaling, whole=opened.whole)
    return replace(report, delivered=deliver(job, proposal, request.timeout, stop))


def _sized(family: Family[Any], live: Any | None, points: Gathered, plan: Plan) -> Family[Any]:
    """Return the family with the number of components that the model has now, if it adapts.

    Of one that is still warming up it is what suits a sample of the points.
    """
    if family.fewest is None:
        return family
    if live is None:
        sample = points.sample
        live = fit(family, sample.X, sample.w, restarts=plan.restarts, seed=plan.seed).params
    return family.with_components(family.size(live))


def _scaling(learner: StreamLearner[Any], at: Checkpoint, points: Gathered) -> Scaling | None:
    """Return the model's own scales; those of the points if it is still warming up."""
    if at.learner.params is not None:
        return at.learner.scaling
    return learn_scaling(learner.scale, points.sample.X, points.sample.w)


def _report(
    opened: Opened, points: Gathered, found: Found, request: Request, family: Family[Any]
) -> Report:
    def in_units(loss: float) -> float:
        if points.scaling is None or request.medoids:
            return loss
        return family.loss_in_units(loss, points.scaling)

    loss, live = found.loss, found.live_loss
    return Report(
        source=opened.source.label,
        objective="distance" if request.medoids else family.objective,
        points=points.count,
        in_memory=points.whole,
        live_loss=None if live is None else in_units(live),
        loss=in_units(loss),
        better=live is None or loss < live,
        runs=tuple(replace(run, loss=in_units(run.loss)) for run in found.runs),
        stopped=found.stopped,
        on_top=opened.whole,
        delivered=None,
    )


@dataclass(frozen=True)
class Opened:
    """A source, and whether it ends where the model has learned up to."""

    source: Source
    whole: bool


def open_source(
    job: Job, which: Which, at: Checkpoint, stop: Callable[[], bool] = lambda: False
) -> Opened:
    """Return the points that a model is to be refitted or scored on: of files, or its streams.

    Reads of the streams are tried again after faults that pass, until `stop` holds.

    Raises
    ------
    ConfigError
        If a part of the span can't be read.
    DataError
        If a file can't be read.
    """
    D = n_features(at)
    if which.files:
        features = () if at.layout is None else at.layout.features
        files = Files(which.files, features, which.weight_column)
        return Opened(Checked(files, D, job.name), False)
    if which.from_coreset:
        return Opened(Remembered(at.learner, job.name), True)
    client = job.server.raw_client(job.model.batch.max_entry_bytes)
    part = resolve(which.span, at, client)
    spec = points_format(job.model.points, D)
    on_less = warn_of_less(job.log)
    on_fault = Persistence(job, stop)
    stream = StreamRange(client, part.after, part.until, spec, at.layout, on_less, on_fault)
    return Opened(Checked(stream, D, job.name), part.whole)


def n_features(at: Checkpoint) -> int | None:
    """Return the model's number of features, if it knows it yet."""
    if at.learner.stats is not None:
        return int(at.learner.stats.reference.shape[1])
    return None if at.layout is None else at.layout.n_features


def score_live(job: Job, which: Which) -> tuple[str, Score]:
    """Return the source's name, and the figures of the live model on it.

    Raises
    ------
    UnknownModelError
        If the model has no state yet, or has not left its warm-up.
    TooFewPointsError
        If there are no points.
    """
    at = load(job, job.server.client())
    learner = make_learner(job.model)
    live = learner.published(at.learner)
    if live is None:
        raise UnknownModelError(
            f"model {job.name!r} is still warming up: there is nothing to score"
        )
    source = open_source(job, which, at).source
    points = gather(source, job.model.seed).scaled(at.learner.scaling)
    return source.label, score(learner.family, live, points, seed=job.model.seed)


def select_live(
    job: Job,
    which: Which,
    numbers: Sequence[int],
    plan: Plan,
    *,
    on_pass: Callable[[int, Pass], None],
    stop: Callable[[], bool],
) -> list[Score]:
    """Return the score of the best fit for each number of components.

    The model need not have begun: then all is taken that its streams hold.
    """
    client = job.server.client()
    try:
        at = load(job, client)
    except UnknownModelError:
        at = Checkpoint(position=begin(client, job.model.streams, "latest"))
    learner = make_learner(job.model)
    source = open_source(job, which, at).source
    raw = gather(source, plan.seed)
    points = raw.scaled(_scaling(learner, at, raw))
    return list(select(learner.family, points, numbers, plan, on_pass=on_pass, stop=stop))
