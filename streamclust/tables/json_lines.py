"""Reader of JSON lines: all lines are arrays, or all are objects with the keys of the first."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.errors import DataError
from streamclust.number_text import json_hint, number_hint
from streamclust.tables.cells import is_missing
from streamclust.tables.chunk import SHOWN, Chunk, Request, checked, join, short, sift
from streamclust.tables.columns import default_names, expanded, list_names, select
from streamclust.tables.lines import Lines
from streamclust.tables.times import EventTimes

Row = tuple[int, str]  # number of its line, its text


def read_json_lines(lines: Lines, request: Request) -> Iterator[Chunk]:
    """Yield the chunks of JSON lines."""
    skip = request.options.on_bad == "skip"
    table: _Table | None = None
    early: list[Row] = []  # bad rows before the first good one
    batches = lines.batches(request.rows(1))
    for batch in batches:
        if request.line:
            batch[:] = [(line + request.line, text) for line, text in batch]
        if table is None:
            table, early, rest = _first(early, batch, request, skip=skip)
            if table is None:
                continue
        else:
            rest = batch
        ready, early = [*early, *rest], []
        if request.head:
            ready = [row for row in ready if row[0] > request.line + request.head]
        for start in range(0, len(ready), table.rows):
            part = ready[start : start + table.rows]
            if not skip:
                yield table.chunk(part)
                continue
            good, bad = sift(part, table.chunk, _described, request.label)
            yield join(good or [table.empty(part[0][0])], bad)
    if early:
        _Table.of(early[0], request)  # raises the error


def _first(
    early: list[Row], batch: list[Row], request: Request, *, skip: bool
) -> tuple[_Table | None, list[Row], list[Row]]:
    """Return the table of the first good row, the bad rows before it, and the other rows."""
    for place, row in enumerate(batch):
        try:
            return _Table.of(row, request), early + batch[:place], batch[place:]
        except DataError:
            if not skip or len(early) + place >= _MAX_BAD_AT_START:
                raise
    return None, early + batch, []


def _described(row: Row) -> tuple[int, str]:
    return row[0], row[1].strip()


_MAX_BAD_AT_START = 1000
"""Largest number of bad rows before the first good row; more are an error."""

Access = tuple[Any, int | None]
"""The key or the index of a value, and the index in the list if the value is a list."""


class _Table:
    """The columns of JSON lines, and the conversion of its rows."""

    def __init__(self, first: Row, doc: Any, request: Request) -> None:
        self._request = request
        self._is_object = isinstance(doc, dict)
        self._length = len(doc)
        self._lists = {
            key: len(value)
            for key, value in (doc.items() if isinstance(doc, dict) else ())
            if isinstance(value, list) and value
        }
        self._times = EventTimes(request.options.time_format)
        groups, names, accesses = _columns(doc, self._lists, request)
        options = request.options
        request = replace(request, options=expanded(options, groups))
        chosen = select(names, request, named=self._is_object)
        self.rows = request.rows(len(names))
        self._chosen = chosen
        self._numeric = [accesses[index] for index in chosen.indexes]
        self._label_keys = [accesses[index][0] for index in chosen.label_indexes]
        self._time_key = None if chosen.time_index is None else accesses[chosen.time_index][0]
        self._may_miss = options.missing == "learn"
        self._plain = not any(element is not None for _, element in self._numeric)
        self._needed = {key for key, _ in self._numeric}
        chosen_by_name = options.columns is not None or request.model is not None
        self._allowed = set(doc) if self._is_object and not chosen_by_name else None

    @classmethod
    def of(cls, first: Row, request: Request) -> _Table:
        """Return the table whose first row is `first`.

        Raises
        ------
        DataError
            If the row isn't a point.
        """
        line, text = first
        doc = _parse(text, line, request)
        if not isinstance(doc, dict | list):
            raise DataError(
                f"{request.label} line {line} is neither an array nor an object of numbers"
            )
        table = cls(first, doc, request)
        table.chunk([first])
        table._times = EventTimes(request.options.time_format)
        return table

    def chunk(self, batch: Sequence[Row]) -> Chunk:
        """Return the chunk of some rows; raise a `DataError` for the first bad one."""
        request, chosen = self._request, self._chosen
        docs = [_parse(text, line, request) for line, text in batch]
        for (line, _), doc in zip(batch, docs, strict=True):
            self._check_shape(line, doc)

        def where(row: int) -> str:
            return f"line {batch[row][0]}"

        table = self._numbers(batch, docs)
        X, w, in_range = checked(table, chosen.numeric, chosen.weight, where, request)
        labels = {
            name: [_text(doc[key]) for doc in docs]
            for name, key in zip(chosen.labels, self._label_keys, strict=True)
        }
        times = None
        if chosen.time is not None:
            values = [doc[self._time_key] for doc in docs]
            times = self._times.read(values, chosen.time, where, request)
        return Chunk(chosen.features, X, w, batch[0][0], labels, times, in_range=in_range)

    def empty(self, line: int) -> Chunk:
        """Return a chunk without rows."""
        chosen = self._chosen
        w = None if chosen.weight is None else np.empty(0)
        times = None if chosen.time is None else np.empty(0, np.int64)
        labels: dict[str, list[str]] = {name: [] for name in chosen.labels}
        return Chunk(chosen.features, np.empty((0, len(chosen.features))), w, line, labels, times)

    def _check_shape(self, line: int, doc: Any) -> None:
        where = f"{self._request.label} line {line}"
        if isinstance(doc, dict) != self._is_object or not isinstance(doc, dict | list):
            raise DataError(
                f"{where} differs from the first line; write only arrays, or only objects"
            )
        if isinstance(doc, list) and len(doc) != self._length:
            raise self._request.bad_row(f"{where} has {len(doc)} values; expected {self._length}")
        if self._allowed and isinstance(doc, dict) and not doc.keys() <= self._allowed:
            extra = next(key for key in doc if key not in self._allowed)
            raise DataError(
                f"{where} has the key {short(extra)}, which the first line doesn't have; choose "
                "columns with --columns"
            )
        for key in (*self._label_keys, *(() if self._time_key is None else (self._time_key,))):
            if self._is_object and key not in doc:
                raise self._request.bad_cell(f"line {line}", key, "missing")
        for key in self._lists.keys() & self._needed:
            value = doc.get(key) if isinstance(doc, dict) else doc[key]
            if isinstance(value, list) and len(value) != self._lists[key]:
                problem = f"the list has {len(value)} values; expected {self._lists[key]}"
                raise self._request.bad_cell(f"line {line}", str(key), problem)

    def _numbers(self, batch: Sequence[Row], docs: list[Any]) -> NDArray[Any]:
        keys = [key for key, _ in self._numeric]
        features = len(self._chosen.features)
        if self._may_miss and self._is_object:
            absent = dict.fromkeys(keys[:features])
            docs = [{**absent, **doc} for doc in docs]
        try:
            if self._plain:
                values = [doc[key] for doc in docs for key in keys]
            else:
                values = [
                    _element(doc[key], element) for doc in docs for key, element in self._numeric
                ]
        except KeyError as error:
            line = next(
                line for (line, _), doc in zip(batch, docs, strict=True) if error.args[0] not in doc
            )
            is_feature = error.args[0] in keys[:features]
            raise self._request.bad_cell(
                f"line {line}", error.args[0], "missing", is_missing=is_feature
            ) from None
        if set(map(type, values)) - {float}:
            for place, value in enumerate(values):
                if type(value) is float:
                    continue
                row, column = divmod(place, len(keys))
                is_gap = value is None or (isinstance(value, str) and is_missing(value))
                is_gap = is_gap and column < features
                if not (is_gap and self._may_miss):
                    raise self._bad_value(value, batch[row][0], column, is_gap=is_gap)
                values[place] = math.nan
        return np.array(values).reshape(len(docs), len(keys))

    def _bad_value(self, value: Any, line: int, column: int, *, is_gap: bool) -> DataError:
        hint = number_hint(value) if isinstance(value, str) else ""
        text = json.dumps(value)
        shown = text[:SHOWN] + ("..." if len(text) > SHOWN else "")
        problem = f"{shown} is not a number{hint}"
        name = self._chosen.numeric[column]
        return self._request.bad_cell(f"line {line}", name, problem, is_missing=is_gap)


def _columns(
    doc: Any, lists: dict[Any, int], request: Request
) -> tuple[dict[str, tuple[str, ...]], list[str], list[Access]]:
    """Return the columns of each list, and the name and the access of each column."""
    groups: dict[str, tuple[str, ...]] = {}
    names: list[str] = []
    accesses: list[Access] = []
    request.rows(len(doc) + sum(lists.values()))  # raises an error if there are too many columns
    keys = list(doc) if isinstance(doc, dict) else range(len(doc))
    for key, name in zip(
        keys, doc if isinstance(doc, dict) else default_names(len(doc)), strict=True
    ):
        if key in lists:
            groups[name] = list_names(name, lists[key])
            names += groups[name]
            accesses += [(key, element) for element in range(lists[key])]
        else:
            names.append(name)
            accesses.append((key, None))
    return groups, names, accesses


def _element(value: Any, element: int | None) -> Any:
    if element is None:
        return value
    return value[element] if isinstance(value, list) else value


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    doc = dict(pairs)
    if len(doc) < len(pairs):
        seen: set[str] = set()
        duplicate = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _DuplicateKeyError(duplicate)
    return doc


class _DuplicateKeyError(ValueError):
    """Raised when an object has a key twice."""


# Integers are read as floats, so that a huge one is inf, and true isn't accepted as 1.
_loads = json.JSONDecoder(parse_int=float, object_pairs_hook=_unique).decode


def _parse(text: str, line: int, request: Request) -> Any:
    try:
        return _loads(text.strip())
    except json.JSONDecodeError as error:
        hint = json_hint(text)
        if text.strip() in ("[", "{", "[{") or text.rstrip().endswith("},"):
            hint = "; the file may be one JSON document: write one point per line"
        problem = f"bad JSON: {error.msg} at character {error.pos}{hint}"
    except _DuplicateKeyError as error:
        problem = f"duplicate key {short(error.args[0])}"
    except RecursionError:
        problem = "JSON is nested too deeply"
    raise request.bad_row(f"{request.label} line {line}: {problem}")
