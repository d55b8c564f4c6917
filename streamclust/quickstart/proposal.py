"""Proposes how to read and cluster a file: columns, format, scale, number of components."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.errors import DataError
from streamclust.formats.layout import EntryFormat
from streamclust.quickstart.columns import row_numbers, with_roles
from streamclust.quickstart.size import (
    Kind,
    ScaleKind,
    Size,
    propose_kind,
    propose_scale,
    propose_size,
)
from streamclust.tables import Column, Sniffed, TableOptions, read_table, sniff

_MOST_ROWS = 200_000
_MOST_BYTES = 1 << 28
"""The part of a file that is read for the proposal."""

_MOST_NAMED = 32
"""Most features of entries with named fields; entries of more features are raw."""

_MOST_NAMES = 64
"""Most names of features that the settings list."""

_WARM_UP = 1000
"""Points of the default warm-up; a shorter file needs the setting."""

_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class Proposal:
    """How to read a file and how to cluster it.

    Parameters
    ----------
    name : str
        Name of the model and of the stream.
    options : TableOptions
        How to read the file.
    columns : tuple of Column
        All columns with their roles.
    notes : tuple of str
        Sentences about columns that aren't used.
    kind : str
    scale : str
    size : Size or None
        The comparison of numbers of components; None if the number was given.
    n_components : int
    format : str
        Format of the entries.
    X : array of shape (n, D)
        The rows that were read.
    features : tuple of str
    is_heavy : bool
        Whether a few far points have most of the variance.
    complete : bool
        Whether the whole file was read.
    bad : int
        Number of bad rows among the rows that were read.
    """

    name: str
    options: TableOptions
    columns: tuple[Column, ...]
    notes: tuple[str, ...]
    kind: Kind
    scale: ScaleKind
    size: Size | None
    n_components: int
    format: EntryFormat
    X: NDArray[Any]
    features: tuple[str, ...]
    is_heavy: bool
    complete: bool
    bad: int

    @property
    def block(self) -> int:
        """Points per entry."""
        single = self.format == "fields" or self.options.label_columns or self.options.time_column
        return 1 if single else max(1, min(_BLOCK, (1 << 20) // (8 * len(self.features))))

    @property
    def model(self) -> dict[str, Any]:
        """The settings of the model, as in a file."""
        points: dict[str, Any] = {}
        if _are_named(self.features) and len(self.features) <= _MOST_NAMES:
            points["features"] = list(self.features)
        settings: dict[str, Any] = {
            "kind": self.kind,
            "n_components": self.n_components,
            "streams": [self.name],
            "scale": self.scale,
        }
        if points:
            settings["points"] = points
        if self.complete and len(self.X) < max(_WARM_UP, 10 * self.n_components):
            settings["init"] = {"points": max(len(self.X), self.n_components)}
        if self.options.label_columns:
            settings["encode"] = {"labels": list(self.options.label_columns)}
        return settings

    @property
    def remarks(self) -> dict[str, str]:
        """Why these settings, by their keys."""
        found = {"scale": _SCALE_REMARKS[self.scale]}
        if self.kind == "gaussian_mixture":
            found["kind"] = (
                "A few far points have most of the variance; in K-means they would take the "
                "centroids."
            ) * self.is_heavy
            found["scale"] = "Full covariances need no scale."
        if self.size is not None:
            found["n_components"] = _size_remark(self.size, self.n_components)
        if "init" in self.model:
            found["init"] = f"The file has only {len(self.X):,} points."
        return found


_SCALE_REMARKS = {
    "none": "The features of the file have similar spreads.",
    "standard": "The spreads of the features in the file differ by more than a factor of 5.",
    "robust": "The spreads of the features in the file differ, and some points are far away.",
}


def _size_remark(size: Size, chosen: int) -> str:
    if not size.bic:
        return "The file has too few points to compare numbers."
    numbers = list(size.bic)
    tested = f"K from {numbers[0]} to {numbers[-1]}, on {size.points:,} points of the file"
    if size.n_components < chosen:
        return f"The BIC is lowest at 1, so the file may have no clusters ({tested})."
    if size.lowest == chosen:
        return f"Lowest BIC ({tested})."
    return f"98 % of the fall of the BIC, which is lowest at {size.lowest} ({tested})."


def propose(
    path: Path,
    options: TableOptions,
    *,
    name: str | None = None,
    kind: Kind | None = None,
    n_components: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Proposal:
    """Return the proposal for a file.

    Parameters
    ----------
    path : Path
    options : TableOptions
        Options that are known; they aren't changed.
    name : str, optional
        Name of the model. Default: from the name of the file.
    kind : 'kmeans' or 'gaussian_mixture', optional
        Default: a mixture if a few far points have most of the variance, else K-means.
    n_components : int, optional
        Default: by the BIC.
    stop : callable, optional
        Returns whether to end the comparison early.

    Raises
    ------
    DataError
        If the file has no rows or no feature.
    """
    sniffed = sniff(path, options)
    wide = sniffed.options.kind in ("npy", "npz") and len(sniffed.columns) > _MOST_NAMED
    is_open = options.columns is None and not wide
    columns = with_roles(sniffed) if is_open else sniffed.columns
    chosen = _chosen(sniffed, columns, options)
    if wide:
        chosen = replace(chosen, columns=options.columns)
    X, names, bad, complete = _read(path, chosen)
    counts = row_numbers(X, names) if is_open else frozenset()
    if counts and len(counts) < len(names):
        kept = [name not in counts for name in names]
        X = X[:, kept]
        names = tuple(name for name in names if name not in counts)
        columns = tuple(_as_index(column, counts) for column in columns)
        chosen = replace(chosen, columns=names)
    sample = np.asarray(X[_places(len(X))], np.float64)
    is_heavy = propose_kind(sample) == "gaussian_mixture"
    kind = kind or ("gaussian_mixture" if is_heavy else "kmeans")
    # A full covariance has its own scale in each direction. A wide array has one unit, as the
    # pixels of a picture or the axes of an embedding.
    scale = "none" if wide or kind == "gaussian_mixture" else propose_scale(sample)
    size = None if n_components else propose_size(sample, kind, scale, stop)
    return Proposal(
        name or model_name(path),
        chosen,
        columns,
        tuple(_note(column) for column in columns if column.role not in ("feature", "time")),
        kind,
        scale,
        size,
        n_components or max(2, 1 if size is None else size.n_components),
        _format(X, names),
        X,
        names,
        is_heavy,
        complete,
        bad,
    )


def model_name(path: Path) -> str:
    """Return a name for the model of a file, in the characters of names.

    Examples
    --------
    >>> model_name(Path("data/Sensors 2026.csv.gz")), model_name(Path("ä.csv"))
    ('Sensors-2026', 'points')
    """
    stem = path.name.split(".")[0] or path.name
    return re.sub(r"[^A-Za-z0-9_]+", "-", stem).strip("-") or "points"


def _chosen(sniffed: Sniffed, columns: tuple[Column, ...], options: TableOptions) -> TableOptions:
    """Return the options with the roles of the columns."""
    features = tuple(column.name for column in columns if column.role == "feature")
    if not features:
        used = ", ".join(f"{column.name!r} ({column.role})" for column in columns[:12])
        raise DataError(
            f"{sniffed.path} has no column of features: {used}; name features with --columns"
        )
    labels = tuple(column.name for column in columns if column.role == "label")
    use_time = options.time_column or (sniffed.sorted_by_time and sniffed.options.time_column)
    return replace(
        sniffed.options,
        columns=features,
        label_columns=options.label_columns or labels,
        time_column=use_time or None,
        on_bad="skip" if sniffed.options.kind in ("csv", "tsv", "jsonl", "ndjson") else "stop",
    )


def _read(path: Path, options: TableOptions) -> tuple[NDArray[Any], tuple[str, ...], int, bool]:
    """Return the first rows, the names of their columns, the number of bad rows; whether all."""
    parts: list[NDArray[Any]] = []
    names: tuple[str, ...] = ()
    rows = size = bad = 0
    chunks = iter(read_table(path, options))
    for chunk in chunks:
        names = chunk.names
        parts.append(chunk.X)
        rows += len(chunk.X)
        size += chunk.X.nbytes
        bad += len(chunk.bad)
        if rows >= _MOST_ROWS or size >= _MOST_BYTES:
            break
    if not rows:
        raise DataError(f"{path} has no row of numbers")
    complete = next(chunks, None) is None
    return np.concatenate(parts), names, bad, complete


def _places(n: int, most: int = 5_000) -> NDArray[np.int64]:
    """Return the places of a sample of rows, evenly over all of them."""
    return np.linspace(0, n - 1, min(n, most)).astype(np.int64)


def _as_index(column: Column, counts: frozenset[str]) -> Column:
    return replace(column, role="index") if column.name in counts else column


def _note(column: Column) -> str:
    name = repr(column.name)
    if column.role == "label":
        return f"{name} isn't learned: it goes to the codes as a label"
    if column.role == "index":
        return f"{name} isn't used: it identifies rows"
    if column.role == "constant":
        return f"{name} isn't used: it is always {column.example}"
    if column.missing:
        return f"{name} isn't used: {column.missing:,} of the first rows have no value"
    return f"{name} isn't used: {column.kind}"


def _format(X: NDArray[Any], names: tuple[str, ...]) -> EntryFormat:
    if _are_named(names) and len(names) <= _MOST_NAMED:
        return "fields"
    return "float32" if X.dtype == np.float32 else "float64"


def _are_named(names: tuple[str, ...]) -> bool:
    return names != tuple(f"x{index}" for index in range(len(names)))
