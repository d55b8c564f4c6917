"""Headers: whether the first row of a text has the names of columns, and which are an index."""

from __future__ import annotations

import re
from collections.abc import Sequence

from streamclust.errors import DataError
from streamclust.tables.cells import are_counted, is_data, is_missing

_UNNAMED = re.compile(r"Unnamed: \d+")
_INDEX_LEVEL = re.compile(r"__index_level_\d+__")

ABOVE_HEADER = "if it is a title or a comment, remove the lines above the names of the columns"

CHOOSE = "give --header if it has the names of the columns, or --no-header if it is a point"


def has_header(first: Sequence[str], second: Sequence[str] | None, decimal: str = ".") -> bool:
    """Return whether the first row of a text has the names of the columns.

    A row with a number, or with text that looks like a number or a time, isn't a header.

    Parameters
    ----------
    first, second
        The cells of the first row and of the second one, if it is known.
    decimal
        The decimal point.

    Raises
    ------
    DataError
        If the row can be both a header and a point.
    """
    cells = [cell.strip() for cell in first]
    if re.fullmatch(r"sep=.?", cells[0]) and not any(cells[1:]):
        raise DataError(
            f"the first row is {cells[0]!r}, Excel's note of the separator; remove it, and give "
            "the separator with --delimiter"
        )
    if all(map(is_missing, cells)):
        raise DataError(f"the first row has neither names nor numbers; {CHOOSE}")
    if not any(is_data(cell, decimal) for cell in cells):
        return True
    named = cells[1:] if not cells[0] else cells
    numbers = second is None or all(re.fullmatch(r"\s*[-+]?\d+\s*", cell) for cell in second)
    if len(named) > 1 and are_counted(named) and not (len(cells) == 2 and numbers):
        raise DataError(
            f"the first row is {','.join(cells[:4])}{',...' if len(cells) > 4 else ''}: these can "
            f"be names from pandas, or a point; {CHOOSE}"
        )
    return False


def is_index(name: str, place: int) -> bool:
    """Return whether a column has the name that pandas or R gives to an index without a name.

    Parameters
    ----------
    name
        Name of a column.
    place
        Index of the column in the table.
    """
    if _INDEX_LEVEL.fullmatch(name):
        return True
    return place == 0 and (name == "" or _UNNAMED.fullmatch(name) is not None)
