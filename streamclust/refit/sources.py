"""The sources of a refit's points: a range of the model's streams, files, or the coreset.

Every source is divided into parts. A part can be read several times, in any process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from streamclust.engine.cut import cut_array, cut_files, read_stream
from streamclust.engine.parts import FilePart
from streamclust.engine.points import Points, points
from streamclust.engine.reader import Notes, Reader
from streamclust.errors import DataError, UnknownStreamError
from streamclust.files import open_regular
from streamclust.store.stream.names import missing_hint
from streamclust.store.stream.ranges import raise_fault
from streamclust.tables import SkippedRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import redis

    from streamclust.engine.parts import Part
    from streamclust.engine.reader import StreamServer
    from streamclust.formats.layout import Layout, PointsFormat
    from streamclust.online.learner import LearnerState
    from streamclust.store.stream.ranges import OnFault
    from streamclust.store.stream.read_size import OnLess
    from streamclust.tables import ModelColumns, TableOptions

__all__ = ["CoresetSource", "Files", "Points", "Source", "SourcePart", "StreamRange", "points"]


class SourcePart(NamedTuple):
    """A part of a source, and its points if they were read to determine the part."""

    part: Part
    points: list[Points] | None = None


class Source(ABC):
    """Points that can be read repeatedly.

    Attributes
    ----------
    label : str
        The name of the source in messages.
    on_points : callable
        Called with the number of points read so far, if `parts` reads points.
    """

    label: str
    on_points: Callable[[int], object] = staticmethod(lambda _: None)
    _D: int | None = None
    _model = ""

    @abstractmethod
    def parts(self) -> Iterator[SourcePart]:
        """Yield all parts for the first pass; the order is always the same."""

    def reader(self) -> Reader:
        """Return the reader of the parts."""
        return Reader()

    def note(self, part: Part, notes: Notes) -> None:
        """Process the notes of a part in the first pass; parts come in their order."""
        return

    def end(self) -> None:
        """End the first pass."""
        return

    def for_model(self, n_features: int | None, model: str) -> Self:
        """Set the number of features that `check` expects; None: that of the first points."""
        self._D, self._model = n_features, model
        return self

    def check(self, n_features: int) -> None:
        """Refuse points with another number of features.

        Raises
        ------
        DataError
        """
        if self._D not in (None, n_features):
            raise DataError(
                f"{self.label} has {n_features} features; model {self._model!r} needs {self._D}: "
                "choose other points"
            )
        self._D = n_features


class StreamRange(Source):
    """The points of the model's streams after one position and up to another.

    Points that can't be decoded are skipped, as in a worker.

    Parameters
    ----------
    connect : callable
        Returns a raw client that no other object uses; see `Server.raw_client`.
    after, until : mapping of str to str
        Stream -> ID before the first entry, and stream -> ID of the last entry.
    spec : PointsFormat
    layout : Layout or None
        The layout of the model, if it is known.
    server : StreamServer, optional
        The server for engines in other processes.
    on_less : callable, optional
        Called with a sentence when reads become smaller because a reply was lost.
    on_fault : callable, optional
        Called with each fault of a read. The read is retried when the call returns.
    """

    def __init__(
        self,
        connect: Callable[[], redis.Redis],
        after: Mapping[str, str],
        until: Mapping[str, str],
        spec: PointsFormat,
        layout: Layout | None,
        server: StreamServer | None = None,
        on_less: OnLess = lambda _: None,
        on_fault: OnFault = raise_fault,
    ) -> None:
        self._connect, self._on_less, self._on_fault = connect, on_less, on_fault
        self._after, self._until = dict(after), dict(until)
        self._spec, self._layout = spec, layout
        self._reader = Reader(None, connect, server, on_less, on_fault)
        self.label = "; ".join(
            f"stream {stream} after {after[stream]}, up to {end}" for stream, end in until.items()
        )

    def parts(self) -> Iterator[SourcePart]:
        """Yield all parts with their points; raise UnknownStreamError for a missing stream."""
        client, layout, has_points, count = self._connect(), self._layout, False, 0

        def on_points(found: int) -> None:
            nonlocal count
            count += found
            self.on_points(count)

        for stream, end in self._until.items():
            for part, found in read_stream(
                client,
                stream,
                self._after[stream],
                end,
                self._spec,
                layout,
                self._on_less,
                self._on_fault,
                on_points,
            ):
                layout, has_points = part.layout, has_points or bool(found)
                yield SourcePart(part, found)
        missing = [] if has_points else [s for s in self._until if not client.exists(s)]
        if missing:
            raise UnknownStreamError(
                f"stream {missing[0]!r} doesn't exist; {missing_hint(client, missing[0])}"
            )

    def reader(self) -> Reader:
        """Return a reader that has a separate client for each thread."""
        return self._reader


class Files(Source):
    """The rows of files. Columns are selected by the names of the model's features, if it has any.

    Parameters
    ----------
    paths : sequence of Path
    options : TableOptions
    model : ModelColumns
        The columns that the model needs. If it has no names, those of the first file are used.
    warn : callable
        Called with a sentence about a column that isn't read, or about rows that are skipped.
    directions : bool
        Whether points are directions; see `streamclust.engine.points.points`.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        options: TableOptions,
        model: ModelColumns,
        warn: Callable[[str], object] = lambda _: None,
        *,
        directions: bool = False,
    ) -> None:
        self._directions = directions
        self._paths, self._options, self._needs = tuple(paths), options, model
        self._warn: Callable[[str], object] = warn
        self._open: tuple[str, SkippedRows] | None = None
        for path in paths:
            open_regular(path).close()  # refuses a FIFO, which can't be read twice
        self.label = ", ".join(map(str, paths[:_SHOWN]))
        if len(paths) > _SHOWN:
            self.label += f" and {len(paths) - _SHOWN:,} more files"

    def parts(self) -> Iterator[SourcePart]:
        """Yield the parts of all files."""
        cut = cut_files(
            self._paths, self._options, self._needs, self._warn, directions=self._directions
        )
        if cut.features:
            self.check(len(cut.features))
        return map(SourcePart, cut.parts)

    def note(self, part: Part, notes: Notes) -> None:
        """Report the rows of a file that are skipped."""
        if not isinstance(part, FilePart):
            return
        if self._open is None or self._open[0] != part.path:
            self.end()
            self._open = part.path, SkippedRows(self._warn)
        self._open[1].count_rows(notes.points, notes.bad, notes.reasons)

    def end(self) -> None:
        """Report the number of skipped rows of the last file."""
        if self._open is not None:
            self._open[1].report()
        self._open = None


_SHOWN = 3
"""Largest number of files that messages name."""


class CoresetSource(Source):
    """The coreset of a model: weighted points that represent all points it has learned.

    Parameters
    ----------
    state : LearnerState
    model : str
        Name of the model in messages.

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

    def parts(self) -> Iterator[SourcePart]:
        """Yield all parts, in the original units."""
        X = self._coreset.X
        X = X if self._scaling is None else self._scaling.undo(X)
        return map(SourcePart, cut_array(*points(X, self._coreset.w, missing="learn")))
