"""The sources of a refit's points: a range of the model's streams, files, or the coreset.

Every source can be read again from the start as often as needed, in chunks of bounded size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from streamclust.arrays import MAX_MAGNITUDE, as_points, as_sample_weight
from streamclust.errors import DataError, UnknownStreamError
from streamclust.files import open_regular
from streamclust.models.family import metric_of
from streamclust.store.stream.batches import Batcher, batches
from streamclust.store.stream.names import missing_hint
from streamclust.store.stream.ranges import RangeReader, raise_fault
from streamclust.tables import ModelColumns, SkippedRows, read_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import redis
    from numpy.typing import ArrayLike

    from streamclust.arrays import Array
    from streamclust.formats.layout import Layout, PointsFormat
    from streamclust.models.family import Family
    from streamclust.online.learner import LearnerState
    from streamclust.store.stream.ranges import OnFault
    from streamclust.store.stream.read_size import OnLess
    from streamclust.tables import TableOptions

_CHUNK = 8192
"""Points per chunk."""


class Points(NamedTuple):
    """A chunk: points (N, D), and their weights (N,), all positive."""

    X: Array
    w: Array


class Source(Protocol):
    """Points that can be read repeatedly."""

    label: str
    """The name of the source in messages."""

    def chunks(self) -> Iterator[Points]:
        """Yield all points, in the same order and the same chunks each time."""


class StreamRange:
    """The points of the model's streams after one position and up to another.

    Points that can't be decoded are skipped, as the worker skips them.

    Parameters
    ----------
    client : redis.Redis
        No other object may use it.
    after, until : mapping of str to str
        Stream -> ID before the first entry, and of the last.
    spec : PointsFormat
    layout : Layout or None
        The model's own layout, if it is known.
    on_less : callable, optional
        Given a sentence, whenever reads ask for less because a reply was lost.
    on_fault : callable, optional
        Given each fault of a read. The read is retried when the call returns.
    """

    def __init__(
        self,
        client: redis.Redis,
        after: Mapping[str, str],
        until: Mapping[str, str],
        spec: PointsFormat,
        layout: Layout | None,
        on_less: OnLess = lambda _: None,
        on_fault: OnFault = raise_fault,
    ) -> None:
        self._client, self._on_less, self._on_fault = client, on_less, on_fault
        self._after, self._until = dict(after), dict(until)
        self._spec, self._layout = spec, layout
        self.label = "; ".join(
            f"stream {stream} after {after[stream]}, up to {end}" for stream, end in until.items()
        )

    def chunks(self) -> Iterator[Points]:
        """Yield all points; see `Source`. A stream that doesn't exist is an error."""
        reader = RangeReader(self._client, self._after, self._until, self._on_less, self._on_fault)
        batcher = Batcher(self._spec, self._layout, self._after, _CHUNK, keep_dead=0)
        has_points = False
        for batch in batches(reader, batcher, linger=0.0, until_idle=True):
            if len(batch.X):
                has_points = True
                yield points(batch.X, batch.w, self._spec.max_magnitude)
        missing = [] if has_points else [s for s in self._until if not self._client.exists(s)]
        if missing:
            raise UnknownStreamError(
                f"stream {missing[0]!r} doesn't exist; {missing_hint(self._client, missing[0])}"
            )


class Files:
    """The rows of files. Columns are found by the names of the model's features, if these exist.

    Parameters
    ----------
    paths : sequence of Path
    options : TableOptions
    model : ModelColumns
        The columns that the model needs. Without names of features, the first file gives them.
    warn : callable
        Given a sentence about a column that isn't read, or about rows that are skipped.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        options: TableOptions,
        model: ModelColumns,
        warn: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._paths, self._options, self._model = tuple(paths), options, model
        self._warn: Callable[[str], object] = warn
        for path in paths:
            open_regular(path).close()  # a FIFO can't be read again for the next pass
        self.label = ", ".join(map(str, paths))

    def chunks(self) -> Iterator[Points]:
        """Yield all points; see `Source`."""
        model, warn = self._model, self._warn
        for path in self._paths:
            count = SkippedRows(warn)
            for chunk in read_table(path, self._options, chunk=_CHUNK, model=model, warn=warn):
                if not model.features:
                    model = ModelColumns(f"the first file, {path},", chunk.names, len(chunk.names))
                count.add(chunk)
                if len(chunk.X):
                    yield points(chunk.X, chunk.w)
            count.report()
        self._warn = lambda _: None  # the first pass has warned


class CoresetSource:
    """The coreset of a model: weighted points that represent all points it has learned.

    Parameters
    ----------
    state : LearnerState
    model : str
        The model's name in messages.

    Raises
    ------
    DataError
        If the model has no coreset.
    """

    def __init__(self, state: LearnerState[Any], model: str) -> None:
        self._coreset, self._scaling = state.coreset.points, state.scaling
        self.label = f"the coreset of model {model!r}"
        if not len(self._coreset.w):
            raise DataError(
                f"model {model!r} has no coreset: it is still warming up, or coreset.points is 0"
            )

    def chunks(self) -> Iterator[Points]:
        """Yield all points, in the data's units; see `Source`."""
        X = self._coreset.X
        yield points(X if self._scaling is None else self._scaling.undo(X), self._coreset.w)


class Checked:
    """A source whose points must have the model's number of features.

    Parameters
    ----------
    source : Source
    n_features : int or None
        None takes the number of the first chunk.
    model : str
        The model's name in messages.
    """

    def __init__(self, source: Source, n_features: int | None, model: str) -> None:
        self._source, self._D, self._model = source, n_features, model
        self.label = source.label

    def chunks(self) -> Iterator[Points]:
        """Yield all points; see `Source`."""
        for chunk in self._source.chunks():
            D = chunk.X.shape[1]
            if self._D not in (None, D):
                raise DataError(
                    f"{self.label} has {D} features, model {self._model!r} has {self._D}; "
                    "choose other data"
                )
            self._D = D
            yield chunk


class Prepared:
    """A source whose points are prepared for a family; see `Family.prepare`.

    Zero vectors, which the metric cosine refuses, are skipped, as the worker skips them.

    Parameters
    ----------
    source : Source
    family : KMeans or GaussianMixture
    warn : callable
        Given a sentence about skipped points, in the first pass.
    """

    def __init__(
        self, source: Source, family: Family[Any], warn: Callable[[str], object] = lambda _: None
    ) -> None:
        self._source, self._family = source, family
        self._warn: Callable[[str], object] = warn
        self.label = source.label

    def chunks(self) -> Iterator[Points]:
        """Yield all points; see `Source`."""
        directions = metric_of(self._family) == "cosine"
        zeros = 0
        for X, w in self._source.chunks():
            good = X.any(axis=1) if directions else np.ones(len(X), np.bool_)
            zeros += len(X) - int(good.sum())
            if good.all():
                yield Points(np.asarray(self._family.prepare(X)), w)
            elif good.any():
                yield Points(np.asarray(self._family.prepare(X[good])), w[good])
        if zeros:
            self._warn(f"{self.label}: zero vectors have no direction; {zeros:,} are skipped")
            self._warn = lambda _: None


def points(X: ArrayLike, w: ArrayLike | None, most: float = MAX_MAGNITUDE) -> Points:
    """Return a chunk in float64, without the points of weight 0."""
    table = as_points(X, most=most)
    weight = as_sample_weight(w, len(table))
    if weight.all():
        return Points(table, weight)
    return Points(np.ascontiguousarray(table[weight > 0.0]), weight[weight > 0.0])
