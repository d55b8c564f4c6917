"""Fills the missing values of points in a file with the values that a model expects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamclust.encoder.files import write_parts
from streamclust.errors import DataError
from streamclust.tables import SkippedRows, read_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from streamclust.arrays import Array
    from streamclust.formats.model import Model
    from streamclust.tables import ModelColumns, TableOptions


@dataclass(frozen=True)
class ImputationReport:
    """What was written.

    Parameters
    ----------
    model : str
    version : int
    points : int
    values : int
        Numbers of the points, missing or not.
    imputed : int
        Missing values, which were replaced.
    """

    model: str
    version: int
    points: int
    values: int
    imputed: int


def impute_file(
    model: Model,
    file: Path,
    options: TableOptions,
    needs: ModelColumns,
    out: Path,
    *,
    variance: bool = False,
    warn: Callable[[str], object] = lambda _: None,
    on_progress: Callable[[int], object] | None = None,
) -> ImputationReport:
    """Write the points of a table, complete; after an error, no file is left.

    The table is read twice: the header of the output has the number of points.

    Parameters
    ----------
    model : Model
    file, options, needs : Path, TableOptions and ModelColumns
        The file, how to read it, and the columns that the model needs.
    out : Path
        A name that ends in .npy, or else a CSV file.
    variance : bool, default=False
        Whether a column of variances per feature follows the features.
    warn : callable, optional
        Given a sentence about a column that isn't read, or about rows that are skipped.
    on_progress : callable, optional
        Called with the number of points so far.

    Raises
    ------
    DataError
        If the points don't fit the model, or K-means should give variances.
    """
    if variance and model.kind == "kmeans":
        raise DataError(
            f"model {model.name!r} is of kind kmeans, which has no variances; leave --variance out"
        )
    skipped, points, imputed = SkippedRows(warn), 0, 0
    for chunk in read_table(file, options, model=needs, warn=warn):
        skipped.add(chunk)
        points, imputed = points + len(chunk.X), imputed + int(np.isnan(chunk.X).sum())
    skipped.report()
    if not points:
        raise DataError("there are no points to impute")
    D, features = model.means.shape[1], model.features
    if variance:
        names = features or tuple(f"x{index}" for index in range(D))
        features = (*names, *(f"{name}_variance" for name in names))

    def parts() -> Iterator[Array]:
        done = 0
        for chunk in read_table(file, options, model=needs):
            yield _complete(model, chunk.X, variance=variance)
            done += len(chunk.X)
            if on_progress is not None:
                on_progress(done)

    write_parts(out, parts(), (points, 2 * D if variance else D), features, "%s")
    return ImputationReport(model.name, model.version, points, points * D, imputed)


def _complete(model: Model, X: NDArray[np.floating], *, variance: bool) -> Array:
    if not variance:
        return np.asarray(model.impute(X))
    filled, variances = model.impute(X, return_variance=True)
    return np.hstack([filled, np.zeros_like(filled) if variances is None else variances])
