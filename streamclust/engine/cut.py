"""Cuts files and arrays into parts, from sizes and settings alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamclust.engine.parts import ArrayPart, FilePart, stamp_of
from streamclust.engine.points import block_rows
from streamclust.files import open_regular
from streamclust.tables import ModelColumns
from streamclust.tables.split import split_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamclust.arrays import Array
    from streamclust.engine.parts import Part
    from streamclust.tables import TableOptions

_BLOCKS = 2
"""Blocks per part of a file: a part is long against its fixed cost, and short against a pass."""


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
) -> CutFiles:
    """Return the parts of files.

    Parameters
    ----------
    paths : sequence of Path
    options : TableOptions
        How to read the files.
    model : ModelColumns
        The columns that the model needs. Without names of features, the first file gives them.
    warn : callable, optional
        Given a sentence about a column that isn't read, and about a file without rows.

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
        split = split_table(path, options, rows=part_rows, model=model, warn=warn)
        parts += (
            FilePart(str(path), place, stamp, span, split.options, model) for span in split.spans
        )
        names = names or split.names
        if split.names and not model.features:
            model = ModelColumns(f"the first file, {path},", split.names, len(split.names))
    return CutFiles(tuple(parts), names)


def part_rows(n_features: int) -> int:
    """Return the number of points per part of a file."""
    return _BLOCKS * block_rows(n_features)


def cut_array(X: Array, w: Array) -> tuple[Part, ...]:
    """Return the parts of weighted points in memory, (N, D) and (N,), at least one part."""
    step = block_rows(X.shape[1])
    starts = range(0, max(len(X), 1), step)
    return tuple(ArrayPart(X[start : start + step], w[start : start + step]) for start in starts)
