"""The selection of columns: by name, by the features of a model, or all columns of numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from streamclust.errors import DataError
from streamclust.tables.chunk import SHOWN, ModelColumns, Request, short
from streamclust.tables.header import is_index
from streamclust.tables.options import TableOptions
from streamclust.text import has_control, printable

MAX_NAME_LENGTH = 1000
"""Largest number of characters of a column's name."""


@dataclass(frozen=True)
class Selection:
    """The selected columns, and their indices in the table.

    Parameters
    ----------
    features
        Names of the features.
    weight, time
        Names of the columns of the weights and of the event times.
    labels
        Names of the label columns.
    indexes
        Indices of the features, and then of the weights.
    time_index
        Index of the event times.
    label_indexes
        Indices of the labels.
    """

    features: tuple[str, ...]
    weight: str | None
    time: str | None
    labels: tuple[str, ...]
    indexes: tuple[int, ...]
    time_index: int | None
    label_indexes: tuple[int, ...]

    @property
    def numeric(self) -> tuple[str, ...]:
        """The names of the columns of numbers: the features and the weights."""
        return self.features if self.weight is None else (*self.features, self.weight)


def select(
    available: Sequence[str], request: Request, *, named: bool = True, index: Iterable[str] = ()
) -> Selection:
    """Return the selection of the requested columns.

    Parameters
    ----------
    available
        Names of all columns of the table.
    request
        The request.
    named
        Whether the names are from the table; else they are x0, x1, ...
    index
        Names of the columns that the table describes as an index of its rows.

    Raises
    ------
    DataError
        If a column is missing, a name is not unique, or a name isn't allowed.
    """
    options = request.options
    others = [options.weight_column, options.time_column, *options.label_columns]
    roles = [name for name in others if name is not None]
    _check_exist(options.exclude, available, request)
    features = _features(available, request, set(roles) | set(options.exclude), named, set(index))
    _check_names((*features, *roles), available, request)
    if not features:
        raise DataError(f"{request.label} has no feature column")
    places = {name: index for index, name in enumerate(available)}
    weight, time = options.weight_column, options.time_column
    return Selection(
        features,
        weight,
        time,
        options.label_columns,
        tuple(places[name] for name in (*features, *((weight,) if weight is not None else ()))),
        None if time is None else places[time],
        tuple(places[name] for name in options.label_columns),
    )


def _features(
    available: Sequence[str], request: Request, taken: set[str], named: bool, index: set[str]
) -> tuple[str, ...]:
    columns, model = request.options.columns, request.model
    if columns is not None:
        return columns if model is None else _in_place(columns, model, request)
    if model is not None and model.features and named:
        _check_model(available, model, request)
        if model.exact:
            _check_no_others(available, taken | index, model, request)
        return model.features
    others = [(place, name) for place, name in enumerate(available) if name not in taken]
    if named:
        others = _without_index(others, index, request)
    features = tuple(name for _, name in others)
    if model is not None:
        without = "" if named else " without names"
        problem = f"{request.label} has {_counted(len(features), 'column')}{without}"
        _check_width(features, model, problem)
    return features


def _without_index(
    rest: list[tuple[int, str]], index: set[str], request: Request
) -> list[tuple[int, str]]:
    features = []
    for place, name in rest:
        if name in index or is_index(name, place):
            what = f"column {short(name)}" if name else "the first column, which has no name,"
            how = "choose columns with --columns" if name else "name it"
            request.warn(
                f"{request.label}: {what} is an index of the rows and is left out; {how} to use it"
            )
        elif not name:
            raise DataError(
                f"{request.label}: column {place + 1} has no name; name it, or choose columns "
                "with --columns"
            )
        else:
            features.append((place, name))
    return features


def _in_place(columns: tuple[str, ...], model: ModelColumns, request: Request) -> tuple[str, ...]:
    """Return the columns that stand for the model's features, in the order of these features."""
    _check_width(columns, model, f"--columns names {_counted(len(columns), 'column')}")
    if sorted(columns) == sorted(model.features):
        return model.features
    for name, feature in zip(columns, model.features, strict=False):
        if name != feature and name in model.features:
            raise DataError(
                f"--columns: {short(name)} is a feature of {model.owner}, but is in the "
                f"place of {short(feature)}; give the columns in the order "
                f"{listed(model.features)}"
            )
    return columns


def _check_width(names: Sequence[str], model: ModelColumns, found: str) -> None:
    expected = len(model.features) or model.n_features
    if expected is None or len(names) == expected:
        return
    known = f" ({listed(model.features)})" if model.features else ""
    raise DataError(
        f"{found}, but {model.owner} has {_counted(expected, 'feature')}{known}; choose "
        f"{_counted(expected, 'column')} with --columns"
    )


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _check_model(available: Sequence[str], model: ModelColumns, request: Request) -> None:
    names = set(available)
    missing = next((name for name in model.features if name not in names), None)
    if missing is None:
        return
    alike = {name.strip().lower(): name for name in available}
    similar = [alike.get(name.strip().lower()) for name in model.features]
    if None not in similar:
        listing = ",".join(map(str, similar))
        advice = f"its names differ only in case or spaces: give --columns {printable(listing)!r}"
    else:
        advice = (
            f"rename the columns, or choose those that stand for {listed(model.features)}, in this "
            "order, with --columns"
        )
    raise DataError(
        f"{request.label} has no column {short(missing)}, a feature of {model.owner}; it "
        f"has {listed(available)}; {advice}"
    )


def _check_no_others(
    available: Sequence[str], taken: set[str], model: ModelColumns, request: Request
) -> None:
    known = taken | set(model.features)
    for place, name in enumerate(available):
        if name not in known and not is_index(name, place):
            raise DataError(
                f"{request.label} has a column {short(name)}, but {model.owner} doesn't; choose "
                "the same columns with --columns, or send each file with its own command"
            )


def _check_exist(names: Iterable[str], available: Sequence[str], request: Request) -> None:
    existing = set(available)
    for name in names:
        if name not in existing:
            alike = next((column for column in available if column.lower() == name.lower()), None)
            hint = "" if alike is None else f"; did you mean {short(alike)}?"
            raise DataError(
                f"{request.label} has no column {short(name)}; it has {listed(available)}{hint}"
            )


def _check_names(requested: Sequence[str], available: Sequence[str], request: Request) -> None:
    n_columns, n_requests = Counter(available), Counter(requested)
    _check_exist(requested, available, request)
    for name in requested:
        if n_columns[name] > 1:
            raise DataError(
                f"{request.label} has {n_columns[name]} columns {short(name)}; rename them"
            )
        if n_requests[name] > 1:
            raise DataError(f"column {short(name)} is requested twice; name each column once")
        if problem := name_problem(name):
            raise DataError(f"{request.label}: the column name {short(name)} {problem}")


def name_problem(name: str) -> str | None:
    """Return why a column can't have this name, or None if it can."""
    if not name.strip():
        return "is empty; name the column"
    if len(name) > MAX_NAME_LENGTH:
        return f"has {len(name):,} characters, more than {MAX_NAME_LENGTH:,}; rename it"
    if any("\udc80" <= char <= "\udcff" for char in name):
        return "is not UTF-8; give --encoding, such as latin-1"
    if "\n" in name or "\r" in name:
        return "has a line end; close the quotes, or rename the column"
    if has_control(name):
        return "has a control character; rename the column"
    return None


def listed(names: Sequence[str], limit: int = 12) -> str:
    """Return the first names for a message."""
    shown = (printable(name, SHOWN) for name in names[:limit])
    return ", ".join(shown) + (", ..." if len(names) > limit else "")


def default_names(n_columns: int) -> tuple[str, ...]:
    """Return names for columns without names: x0, x1, ..."""
    return tuple(f"x{index}" for index in range(n_columns))


def list_names(name: str, width: int) -> tuple[str, ...]:
    """Return names for the columns of a list: NAME_0, NAME_1, ..."""
    return tuple(f"{name}_{index}" for index in range(width))


def expanded(options: TableOptions, groups: Mapping[str, Sequence[str]]) -> TableOptions:
    """Return the options with the columns of each list in place of the list."""

    def expand(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(column for name in names for column in groups.get(name, (name,)))

    columns = None if options.columns is None else expand(options.columns)
    return replace(options, columns=columns, exclude=expand(options.exclude))
