"""The choice of features: identifiers and classes among the numbers of a table aren't features.

`streamclust.tables.sniff` detects times, texts, indices and constants. Two kinds of numbers look
like measurements but aren't: identifiers, such as `event_id` or a row number; and classes, such as
`label`: few distinct numbers in a column with the name of a class.
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
_MAX_CLASSES = 50
"""Largest number of distinct values of a class column."""

_UNIQUE = 0.9
"""A column identifies rows if more than this share of its values are distinct."""

_MAX_MISSING = 0.2
"""Largest share of missing values of a feature, unless missing values are learned."""


def with_roles(sniffed: Sniffed) -> tuple[Column, ...]:
    """Return the columns, in which identifiers and classes have other roles than 'feature'.

    So have columns with many missing values, unless missing values are learned.
    """
    max_missing = sniffed.rows * (1.0 if sniffed.options.missing == "learn" else _MAX_MISSING)
    return tuple(
        replace(column, role=_role(column, sniffed.rows, max_missing))
        if column.role == "feature"
        else column
        for column in sniffed.columns
    )


def _role(column: Column, rows: int, max_missing: float) -> Role:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column.name.strip()).lower()
    if column.missing > max_missing:
        return "ignored"
    if column.kind != "integer":
        return "feature"
    if _IDENTIFIER.search(name):
        return "index" if column.distinct > _UNIQUE * rows else "label"
    if _CLASS.search(name) and column.distinct <= _MAX_CLASSES:
        return "label"
    return "feature"


def row_numbers(X: NDArray[np.floating], names: tuple[str, ...]) -> frozenset[str]:
    """Return the columns whose values rise by 1 from row to row."""
    if len(X) < 3:
        return frozenset()
    counts = (np.diff(X, axis=0) == 1.0).all(axis=0)
    return frozenset(name for name, is_count in zip(names, counts, strict=True) if is_count)
