"""Cuts streams, files and arrays into parts, from IDs, sizes and settings alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamclust.engine.parts import ArrayPart, FilePart, StreamPart, stamp_of
from streamclust.engine.points import block_rows, points
from streamclust.engine.reader import CHUNK
from streamclust.files import open_regular
from streamclust.store.stream.batches import Batcher, batches
from streamclust.store.stream.ranges import RangeReader, raise_fault
from streamclust.tables import ModelColumns
from streamclust.tables.split import split_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import redis

    from streamclust.arrays import Array
    from streamclust.engine.parts import Part
    from streamclust.engine.points import Points
    from streamclust.formats.layout import Layout, PointsFormat
    from streamclust.store.stream.ranges import OnFault
    from streamclust.store.stream.read_size import OnLess
    from streamclust.tables import TableOptions


@dataclass(frozen=True)
class CutFiles:
    """The parts of files.

    Parameters
    ----------
    parts : tuple of FilePart
        In the order of the files.
    features : tuple of str
        Names of the features; empty if the files have no rows.
    """

    parts: tuple[FilePart, ...]
    features: tuple[str, ...]


def cut_files(
    paths: Sequence[Path],
    options: TableOptions,
    model: ModelColumns,
    warn: Callable[[str], object] = lambda _: None,
    *,
    directions: bool = False,
) -> CutFiles:
    """Return the parts of files.

    Parameters
    ----------
    paths : sequence of Path
    options : TableOptions
        How to read the files.
    model : ModelColumns
        The columns that the model needs. If it has no names of features, the first file has them.
    warn : callable, optional
        Called with a sentence for a column that isn't read, and for a file without rows.
    directions : bool
        See `FilePart`.

    Raises
    ------
    DataError
        If a file can't be read.
    """
    parts: list[FilePart] = []
    names: tuple[str, ...] = ()
    for path in paths:
        open_regular(path).close()  # a FIFO can't be read again for the next pass
        place, stamp = str(Path(path).absolute()), stamp_of(str(path))
        split = split_table(path, options, rows=block_rows, model=model, warn=warn)
        parts += (
            FilePart(str(path), place, stamp, span, split.options, model, directions)
            for span in split.spans
        )
        names = names or split.names
        if split.names and not model.features:
            model = ModelColumns(f"the first file, {path},", split.names, len(split.names))
    return CutFiles(tuple(parts), names)


def cut_array(X: Array, w: Array) -> tuple[Part, ...]:
    """Return the parts of weighted points in memory, (N, D) and (N,), at least one part."""
    step = block_rows(X.shape[1])
    starts = range(0, max(len(X), 1), step)
    return tuple(ArrayPart(X[start : start + step], w[start : start + step]) for start in starts)


def read_stream(
    client: redis.Redis,
    stream: str,
    after: str,
    until: str,
    spec: PointsFormat,
    layout: Layout | None,
    on_less: OnLess = lambda _: None,
    on_fault: OnFault = raise_fault,
    on_points: Callable[[int], object] = lambda _: None,
) -> Iterator[tuple[StreamPart, list[Points]]]:
    """Read a range of a stream once; yield its parts, each with its points.

    A part has whole entries, and at least the points of one block, except for the last part. The
    length of the entries isn't known before they are read, so the first reader cuts the parts.

    Parameters
    ----------
    client : redis.Redis
        A raw client that no other object uses; see `Server.raw_client`.
    stream : str
    after, until : str
        ID before the first entry, and ID of the last entry.
    spec : PointsFormat
    layout : Layout or None
        The layout of the entries, if it is known.
    on_less, on_fault : callable
        See `RangeReader`.
    on_points : callable, optional
        Called with the number of good points of each read.
    """
    reader = RangeReader(client, {stream: after}, {stream: until}, on_less, on_fault)
    batcher = Batcher(spec, layout, {stream: after}, CHUNK, keep_dead=0)
    found: list[Points] = []
    count, start = 0, after
    for batch in batches(reader, batcher, linger=0.0, until_idle=True):
        if len(batch.X):
            found.append(points(batch.X, batch.w, directions=spec.directions, missing=spec.missing))
        count += len(batch.X) + batch.refused
        on_points(len(batch.X))
        if batch.layout is None:
            continue  # no good entry yet
        if count >= block_rows(batch.layout.n_features):
            end = batch.position[stream]
            yield StreamPart(stream, start, end, count, batch.layout), found
            found, count, start = [], 0, end
        layout = batch.layout
    if count and layout is not None:
        yield StreamPart(stream, start, until, count, layout), found
