"""Cells of a text table: whether they are numbers, missing values, or names of columns."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

MISSING = frozenset(
    ("", "na", "n/a", "#n/a", "<na>", "nan", "null", "none", "nil", "-", "--", "?", "missing")
)
"""Cells, in lowercase, that stand for a missing value."""

_DATA = re.compile(r"[-+.(]*[$€£]?\s?\d[\d\s.,:;/|+\-eETZ%)]*(?:UTC|GMT)?")
_MAX_LENGTH = 200


def numbers(texts: Sequence[str], decimal: str = ".") -> NDArray[np.float64]:
    """Return cells as numbers.

    Raises
    ------
    ValueError
        If a cell isn't a number.
    """
    joined = "".join(texts)
    if "_" in joined or not joined.isascii():
        raise ValueError("underscores and digits of other scripts are only numbers in Python")
    if decimal == ",":
        if "." in joined:
            raise ValueError("'.' isn't the decimal point")
        return np.fromiter((float(text.replace(",", ".")) for text in texts), float, len(texts))
    return np.fromiter(map(float, texts), np.float64, len(texts))


def numbers_and_gaps(texts: Sequence[str], decimal: str = ".") -> NDArray[np.float64]:
    """Return cells as numbers, and NaN for missing values.

    Raises
    ------
    ValueError
        If a cell is neither a number nor missing.
    """
    values = np.full(len(texts), math.nan)
    present = [place for place, text in enumerate(texts) if not is_missing(text)]
    values[present] = numbers([texts[place] for place in present], decimal)
    return values


def is_number(text: str, decimal: str = ".") -> bool:
    """Return whether a cell is a number."""
    try:
        numbers([text], decimal)
    except ValueError:
        return False
    return True


def is_missing(text: str) -> bool:
    """Return whether a cell is empty or stands for a missing value."""
    return text.strip().lower() in MISSING


def is_data(text: str, decimal: str = ".") -> bool:
    """Return whether a cell is a number or a time, or looks like one, and so isn't a column's name.

    Examples
    --------
    >>> is_data("1.5"), is_data("2026-05-01T12:00"), is_data("1,5;2,5"), is_data("load")
    (True, True, True, False)
    """
    text = text[:_MAX_LENGTH].strip()
    if text.lower() == "nan":
        return False  # a missing value
    return is_number(text, decimal) or _DATA.fullmatch(text) is not None


def are_counted(cells: Iterable[str]) -> bool:
    """Return whether the cells are 0, 1, 2, ...: the names that pandas gives to columns."""
    return all(cell == str(index) for index, cell in enumerate(cells))


_SEPARATORS = {";": "';'", "\t": "tab", "|": "'|'", ",": "','"}
"""Separators, and how --delimiter names them."""

NAMES_HINT = "if this row has the names of the columns, give --header"
FOREIGN = "is not UTF-8; give --encoding, such as latin-1 or cp1252"


def is_foreign(text: str) -> bool:
    """Return whether a text has bytes that aren't UTF-8."""
    return any("\udc80" <= char <= "\udcff" for char in text)


def separator_hint(named: Sequence[str] | None, cells: Sequence[str], delimiter: str) -> str:
    """Return a question about another separator; empty if no other separator is likely."""
    text = delimiter.join(cells)
    for other, name in _SEPARATORS.items():
        parts = [part.strip() for part in text.split(other)]
        in_header = named is not None and len(named) == 1 and other in named[0]
        numeric = len(parts) > 1 and all(is_number(p) or is_number(p, ",") for p in parts)
        if other != delimiter and (in_header or numeric):
            comma = other != "," and any("," in part and is_number(part, ",") for part in parts)
            decimal = " and --decimal ','" if comma else ""
            return f"is {name} the separator? Give --delimiter {name}{decimal}"
    parts = text.split(" ")
    if len(cells) == 1 and len(parts) > 1 and all(map(is_number, filter(None, parts))):
        return "is a space the separator? Give --delimiter space"
    return ""


def cell_hint(text: str, delimiter: str, decimal: str) -> str:
    """Return the probable cause of a cell that isn't a number, for a message."""
    if text.startswith("\ufeff"):
        return "it begins with a byte-order mark in the middle of the text: remove the mark"
    if decimal == "," and is_number(text, "."):
        return "is '.' the decimal point? Leave --decimal out"
    if decimal == "," and "." in text and is_number(text.replace(".", ""), ","):
        return "write it without the points between thousands"
    if decimal == "." and delimiter != "," and is_number(text, ","):
        return "is ',' the decimal point? Give --decimal ','"
    return ""
