"""A refit from start to end: read the points, search, compare, and deliver the result."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from streamclust.engine import Inline
from streamclust.engine.opening import stream_server
from streamclust.errors import StoppedError, UnknownModelError
from streamclust.fitting.fit import fit
from streamclust.formats.checkpoint import Checkpoint
from streamclust.models.scaling import learn_scaling
from streamclust.refit.data import Reports, gather
from streamclust.refit.delivery import checkpoint_of, deliver, load, refit_lock
from streamclust.refit.medoids import search_medoids
from streamclust.refit.retries import Retries
from streamclust.refit.runs import search
from streamclust.refit.scoring import score
from streamclust.refit.selection import select
from streamclust.refit.sources import CoresetSource, Files, StreamRange
from streamclust.refit.span import range_of
from streamclust.runtime.activity import Activity
from streamclust.runtime.assemble import make_learner, points_format
from streamclust.runtime.log import warn_of_less
from streamclust.store.model.versions import read_model
from streamclust.store.stream.position import begin
from streamclust.tables import ModelColumns, TableOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from streamclust.engine import Engine
    from streamclust.models.codebook import VersionMap
    from streamclust.models.family import Family
    from streamclust.models.scaling import Scaling
    from streamclust.online.learner import StreamLearner
    from streamclust.refit.data import Dataset
    from streamclust.refit.delivery import Handover
    from streamclust.refit.runs import Pass, Plan, Run, SearchResult
    from streamclust.refit.scoring import Score
    from streamclust.refit.sources import Source
    from streamclust.refit.span import Span
    from streamclust.runtime.job import Job


@dataclass(frozen=True)
class Selection:
    """The points of a refit: a part of the model's streams, files, or the coreset.

    Parameters
    ----------
    span : Span
        The part of the streams; ignored if there are files.
    files : sequence of Path
        Files to read instead of the streams.
    table : TableOptions
        How to read the files.
    from_coreset : bool
        Whether the points are the model's own coreset.
    warn : callable
        Called with a sentence about a file: a column that isn't read, or rows that are skipped.
    """

    span: Span
    files: Sequence[Path] = ()
    table: TableOptions = field(default_factory=TableOptions)
    from_coreset: bool = False
    warn: Callable[[str], object] = lambda _: None


@dataclass(frozen=True)
class Request:
    """The points and the options of a refit.

    Parameters
    ----------
    selection : Selection
    plan : Plan
    medoids : bool
        Whether to fit by K-medoids instead of Lloyd's algorithm or EM.
    dry_run : bool
        Whether to only compare, and leave the model unchanged.
    force : bool
        Whether to deliver the refit even if it isn't better.
    keep_best : bool
        Whether to continue with the best result so far after a stop.
    timeout : float
        Seconds to wait for the worker.
    """

    selection: Selection
    plan: Plan
    medoids: bool = False
    dry_run: bool = False
    force: bool = False
    keep_best: bool = False
    timeout: float = 60.0


@dataclass(frozen=True)
class Report:
    """The result of a refit.

    Parameters
    ----------
    source : str
        Name of the source of the points.
    objective : str
        The kind of the losses: 'inertia', 'log_likelihood' (losses are its negative), or
        'distance'.
    points : int
    in_memory : bool
        Whether all points were in memory; else each pass read them again.
    live_loss, loss : float or None, float
        Loss per point of the live model and of the refit, on the same points. For K-means with
        scaled features, the losses are in scaled units.
    better : bool
        Whether the loss of the refit is lower.
    runs : tuple of Run
    stopped : bool
        Whether the user stopped the search.
    on_top : bool
        Whether the worker learns later points again after it has adopted the refit.
    delivered : Handover or None
        None if the model is unchanged.
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
    delivered: Handover | None


@dataclass(frozen=True)
class Callbacks:
    """Functions that a refit calls to report progress, and to ask whether to stop.

    Parameters
    ----------
    on_points : callable
        Called with the number of points read so far.
    on_pass : callable
        Called with each pass over the points.
    stop : callable
        Returns whether to stop.
    on_part : callable
        Called with the number of parts that are done in a pass, and the number of all parts.
    """

    on_points: Callable[[int], None] = lambda _: None
    on_pass: Callable[[Pass], None] = lambda _: None
    stop: Callable[[], bool] = lambda: False
    on_part: Callable[[int, int], None] = lambda _done, _total: None

    def reports(self, warn: Callable[[str], object]) -> Reports:
        """Return the functions that a dataset calls."""
        return Reports(self.on_points, self.on_part, warn, self.stop)


def refit(job: Job, request: Request, callbacks: Callbacks, engine: Engine | None = None) -> Report:
    """Refit a model to the retained entries or to files, and deliver the refit if it is better.

    The engine computes the sums over all points. Default: the calling thread computes them.

    Raises
    ------
    UnknownModelError
        If the model has no state yet.
    TooFewPointsError
        If there are no points, or fewer distinct points than components.
    BusyError
        If another refit is running, or the worker doesn't answer.
    StoppedError
        If the refit was stopped without `keep_best`, or before there was a result.
    """
    engine = engine or Inline()
    if request.dry_run:
        return _refit(job, request, callbacks, load(job, job.server.client()), engine)
    # The session ensures that a refit isn't proposed to another primary than the points are from.
    with job.server.session() as server:
        job, client = replace(job, server=server), server.client()
        activity, stall = Activity(), float(job.settings.worker.stall)
        with refit_lock(client, job.keys, lambda: activity.slowest()[1] <= stall):
            return _refit(job, request, _recording(callbacks, activity), load(job, client), engine)


def _recording(callbacks: Callbacks, activity: Activity) -> Callbacks:
    """Return callbacks that also record progress, so that a refit that hangs loses its lock."""

    def recording(call: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*arguments: Any) -> Any:
            activity.record_progress()
            return call(*arguments)

        return recorded

    return Callbacks(
        recording(callbacks.on_points),
        recording(callbacks.on_pass),
        recording(callbacks.stop),
        recording(callbacks.on_part),
    )


def _refit(
    job: Job, request: Request, callbacks: Callbacks, checkpoint: Checkpoint, engine: Engine
) -> Report:
    opened = open_source(job, request.selection, checkpoint, callbacks.stop)
    learner = make_learner(job.model)
    reports = callbacks.reports(request.selection.warn)
    raw = gather(opened.source, request.plan.seed, engine=engine, reports=reports)
    points = raw.scaled(_scaling(learner, checkpoint, raw))
    live = learner.published(checkpoint.learner)
    family = _with_current_size(learner.family, live, points, request.plan)
    if request.medoids:
        result = search_medoids(family, points, live, request.plan)
    else:
        result = search(
            family, points, live, request.plan, on_pass=callbacks.on_pass, stop=callbacks.stop
        )
    if result.stopped and not request.keep_best:
        raise StoppedError("interrupted; nothing was changed")
    report = _report(opened, points, result, request, family)
    if request.dry_run or not (report.better or request.force):
        return report
    # A stop that has ended the search must not stop the delivery too.
    stop = (lambda: False) if result.stopped else callbacks.stop
    proposal = checkpoint_of(result, checkpoint, points.scaling, at_position=opened.at_position)
    return replace(report, delivered=deliver(job, proposal, request.timeout, stop))


def _with_current_size(
    family: Family[Any], live: Any | None, points: Dataset, plan: Plan
) -> Family[Any]:
    """Return the family with the current number of components, if K adapts.

    During the warm-up, K is chosen by a fit of a sample of the points.
    """
    if family.min_components is None:
        return family
    if live is None:
        sample = points.sample
        live = fit(family, sample.X, sample.w, n_init=plan.restarts, seed=plan.seed).params
    return family.with_components(len(live.means))


def _scaling(
    learner: StreamLearner[Any], checkpoint: Checkpoint, points: Dataset
) -> Scaling | None:
    """Return the scales of the model; during the warm-up, scales learned from the points."""
    if checkpoint.learner.params is not None:
        return checkpoint.learner.scaling
    return learn_scaling(learner.scale, points.sample.X, points.sample.w)


def _report(
    opened: Opened, points: Dataset, result: SearchResult, request: Request, family: Family[Any]
) -> Report:
    def in_units(loss: float) -> float:
        if points.scaling is None or request.medoids or family.objective == "inertia":
            return loss
        return loss + points.log_volume

    loss, live = result.loss, result.live_loss
    return Report(
        source=opened.source.label,
        objective="distance" if request.medoids else family.objective,
        points=points.count,
        in_memory=points.is_in_memory,
        live_loss=None if live is None else in_units(live),
        loss=in_units(loss),
        better=live is None or loss < live,
        runs=tuple(replace(run, loss=in_units(run.loss)) for run in result.runs),
        stopped=result.stopped,
        on_top=opened.at_position,
        delivered=None,
    )


@dataclass(frozen=True)
class Opened:
    """A source of points.

    Parameters
    ----------
    source : Source
    at_position : bool
        Whether the points end at the model's position, so that the worker can learn the later
        points after it has adopted a refit.
    """

    source: Source
    at_position: bool


def open_source(
    job: Job, selection: Selection, checkpoint: Checkpoint, stop: Callable[[], bool] = lambda: False
) -> Opened:
    """Return the source of the points for a refit or a score of a model.

    Reads of the streams are retried after temporary faults, until `stop` returns True.

    Raises
    ------
    ConfigError
        If a text of the span isn't an ID, a time, a duration or a number.
    DataError
        If a file can't be read.
    """
    D = n_features(checkpoint)
    if selection.files:
        features = (
            job.model.points.features if checkpoint.layout is None else checkpoint.layout.features
        )
        needs = ModelColumns(f"model {job.name!r}", tuple(features), D)
        spec = points_format(job.model)
        options = replace(selection.table, missing=spec.missing)
        files = Files(selection.files, options, needs, selection.warn, directions=spec.directions)
        return Opened(files.for_model(D, job.name), False)
    if selection.from_coreset:
        return Opened(CoresetSource(checkpoint.learner, job.name), True)
    most = job.model.batch.max_entry_bytes
    part = range_of(selection.span, checkpoint, job.server.raw_client(most))
    spec = points_format(job.model, D)
    on_less = warn_of_less(job.log)
    on_fault = Retries(job, stop)
    server = stream_server(job.settings.redis, most)
    connect = partial(job.server.raw_client, most)
    stream = StreamRange(
        connect, part.after, part.until, spec, checkpoint.layout, server, on_less, on_fault
    )
    return Opened(stream.for_model(D, job.name), part.at_position)


def n_features(checkpoint: Checkpoint) -> int | None:
    """Return the model's number of features; None before the first point."""
    if checkpoint.learner.stats is not None:
        return int(checkpoint.learner.stats.reference.shape[1])
    return None if checkpoint.layout is None else checkpoint.layout.n_features


def score_live(
    job: Job, selection: Selection, callbacks: Callbacks | None = None, engine: Engine | None = None
) -> tuple[str, Score]:
    """Return the name of the source, and the score of the live model on its points.

    Raises
    ------
    UnknownModelError
        If the model has no state yet, or is warming up.
    TooFewPointsError
        If there are no points.
    """
    checkpoint = load(job, job.server.client())
    learner = make_learner(job.model)
    live = learner.published(checkpoint.learner)
    if live is None:
        raise UnknownModelError(
            f"model {job.name!r} is still warming up and has no parameters to score; wait until "
            "it has learned enough points"
        )
    callbacks, seed = callbacks or Callbacks(), job.model.seed
    source = open_source(job, selection, checkpoint, callbacks.stop).source
    reports = callbacks.reports(selection.warn)
    points = gather(source, seed, engine=engine, reports=reports).scaled(checkpoint.learner.scaling)
    return source.label, score(learner.family, live, points, seed=seed, stop=callbacks.stop)


def map_live(job: Job, selection: Selection, old: int, new: int) -> tuple[str, VersionMap]:
    """Return the name of the source, and how its points move from one stored version to another.

    Raises
    ------
    UnknownModelError
        If the model has no state yet, or a version is no longer stored.
    DataError
        If there is no map between the versions.
    TooFewPointsError
        If there are no points.
    """
    client = job.server.client()
    checkpoint = load(job, client)
    missing = job.model.points.missing  # an older version may not have learned missing values
    before, after = (
        read_model(client, job.keys, version).accepting(missing) for version in (old, new)
    )
    source = open_source(job, selection, checkpoint).source
    points = gather(source, job.model.seed).sample
    return source.label, after.map_from(before, points.X, points.w)


def select_live(
    job: Job,
    selection: Selection,
    numbers: Sequence[int],
    plan: Plan,
    *,
    on_pass: Callable[[int, Pass], None],
    stop: Callable[[], bool],
    on_part: Callable[[int, int], None] = lambda _done, _total: None,
    engine: Engine | None = None,
) -> list[Score]:
    """Return the score of the best fit for each number of components.

    If the model has no state yet, the points are all retained entries of its streams.
    """
    client = job.server.client()
    try:
        checkpoint = load(job, client)
    except UnknownModelError:
        checkpoint = Checkpoint(position=begin(client, job.model.streams, "latest"))
    learner = make_learner(job.model)
    source = open_source(job, selection, checkpoint, stop).source
    reports = Reports(on_part=on_part, warn=selection.warn, stop=stop)
    raw = gather(source, plan.seed, engine=engine, reports=reports)
    points = raw.scaled(_scaling(learner, checkpoint, raw))
    return list(select(learner.family, points, numbers, plan, on_pass=on_pass, stop=stop))
