"""Which columns of a table are features: numbers that are names or classes are not.

`streamclust.tables.sniff` finds times, texts, indices and constants. Two kinds of numbers look like
measurements but aren't: identifiers (`event_id`, a number that counts the rows) and classes
(`label`, a small set of numbers under a name for classes).
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from streamclust.tables import Column, Sniffed
from streamclust.tables.profile import Role

_IDENTIFIER = re.compile(
    r"(?:^|[\W_])(?:id|ids|uid|uuid|guid|key|index|idx|rownum|seq|sequence|serial|nr)$"
)
_CLASS = re.compile(
    r"(?:^|[\W_])(?:class|label|labels|target|category|species|cluster|outcome|group|segment|code"
    r"|zip|zipcode|postcode|host|node|machine|device|sensor|station|server|instance|pod|user"
    r"|customer|account|session|product|shop|store)$"
)
_MOST_CLASSES = 50
"""Largest number of distinct values of a class."""

_UNIQUE = 0.9
"""Share of distinct values from which a column identifies rows."""

_MOST_MISSING = 0.2
"""Largest share of missing values of a feature, if rows with missing values are bad rows."""


def with_roles(sniffed: Sniffed) -> tuple[Column, ...]:
    """Return the columns; identifiers and classes are no features.

    Columns with many gaps aren't features either, unless points with missing values are learned.
    """
    most = sniffed.rows * (1.0 if sniffed.options.missing == "learn" else _MOST_MISSING)
    return tuple(
        replace(column, role=_role(column, sniffed.rows, most))
        if column.role == "feature"
        else column
        for column in sniffed.columns
    )


def _role(column: Column, rows: int, most_missing: float) -> Role:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column.name.strip()).lower()
    if column.missing > most_missing:
        return "ignored"
    if column.kind != "integer":
        return "feature"
    if _IDENTIFIER.search(name):
        return "index" if column.distinct > _UNIQUE * rows else "label"
    if _CLASS.search(name) and column.distinct <= _MOST_CLASSES:
        return "label"
    return "feature"


def row_numbers(X: NDArray[np.floating], names: tuple[str, ...]) -> frozenset[str]:
    """Return the columns that count the rows: the value rises by 1 from each row to the next."""
    if len(X) < 3:
        return frozenset()
    counts = (np.diff(X, axis=0) == 1.0).all(axis=0)
    return frozenset(name for name, is_count in zip(names, counts, strict=True) if is_count)
