"""Points of data frames of pandas, polars and pyarrow, for `Client.add`.

Frames are read by narwhals, so none of these libraries is imported here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import narwhals as nw
import numpy as np
from narwhals.exceptions import DuplicateError
from numpy.typing import NDArray

from streamclust.arrays import Missing, are_within
from streamclust.errors import DataError

Column: TypeAlias = Any


def read_frame(
    native: Any,
    labels: Any,
    weights: Any,
    times: Any,
    features: Sequence[str] | None,
    missing: Missing = "reject",
) -> tuple[NDArray[Any], tuple[str, ...], Any, Any, Any]:
    """Return X, the names of its columns, and labels, weights and times without column names.

    Raises
    ------
    DataError
        If a column doesn't exist, or a feature isn't a column of finite numbers.
    """
    try:
        frame = nw.from_native(native, eager_only=True)
        columns = list(frame.columns)
    except DuplicateError:
        raise DataError("X has two columns of one name; name each column once") from None
    for name in columns:
        if not isinstance(name, str):
            raise DataError(f"X has a column {name!r}; rename it to a text, or give X.to_numpy()")

    def column(name: str) -> Column:
        if name not in columns:
            raise DataError(f"X has no column {name!r}; it has {', '.join(columns[:12])}")
        return frame[name]

    if labels is not None and not isinstance(labels, Mapping):
        labels = {name: column(name).to_list() for name in _label_names(labels)}
    used = {*(labels or ())} | {name for name in (weights, times) if isinstance(name, str)}
    names = [name for name in columns if name not in used] if features is None else [*features]
    if not names:
        raise DataError("X has no column of features")
    X = _numbers({name: column(name) for name in names}, missing)
    if isinstance(weights, str):
        weights = column(weights).to_numpy()
    if isinstance(times, str):
        found = column(times)
        _refuse_empty(times, found)
        is_datetime = isinstance(found.dtype, nw.Datetime)
        times = np.asarray((found.dt.timestamp("ms") if is_datetime else found).to_numpy())
    return X, tuple(names), labels, weights, times


def _label_names(labels: Any) -> Iterable[str]:
    if not isinstance(labels, Iterable):
        raise DataError(f"labels is {labels!r}; expected names of columns, or a mapping")
    return [labels] if isinstance(labels, str) else labels


def _numbers(columns: Mapping[str, Column], missing: Missing) -> NDArray[Any]:
    """Return the columns as one array; float32 if all columns are float32."""
    learn = missing == "learn"
    arrays = []
    for name, column in columns.items():
        if not (column.dtype.is_numeric() or column.dtype == nw.Boolean):
            raise DataError(
                f"column {name!r} holds {column.dtype}, not numbers; leave it out with features=, "
                "or name it in labels= or times="
            )
        if not learn:
            _refuse_empty(name, column)
        array = column.to_numpy()
        arrays.append(array if array.dtype == np.float32 else np.asarray(array, np.float64))
        present = arrays[-1][~np.isnan(arrays[-1])] if learn else arrays[-1]
        if not are_within(present):
            what = "infinity" if learn else "NaN, infinity"
            raise DataError(
                f"column {name!r} holds {what} or a magnitude beyond 1e100; drop these rows"
            )
    single = all(array.dtype == np.float32 for array in arrays)
    return np.stack(arrays, axis=1, dtype=np.float32 if single else np.float64)


def _refuse_empty(name: str, column: Column) -> None:
    empty = column.null_count()
    if empty:
        raise DataError(f"column {name!r} has {empty:,} empty cells; drop or fill them")
