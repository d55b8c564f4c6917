"""Probable causes of cells and rows that can't be read, for messages."""

from __future__ import annotations

from collections.abc import Sequence

from streamclust.tables.cells import is_number

_SEPARATORS = {";": "';'", "\t": "tab", "|": "'|'", ",": "','"}
"""Separators, and how --delimiter names them."""

NAMES_HINT = "if this row has the names of the columns, give --header"
FOREIGN = "is not UTF-8; give --encoding, such as latin-1 or cp1252"


def is_foreign(text: str) -> bool:
    """Return whether a text has bytes that aren't UTF-8."""
    return any("\udc80" <= char <= "\udcff" for char in text)


def separator_hint(named: Sequence[str] | None, cells: Sequence[str], delimiter: str) -> str:
    """Return the question whether another separator is right; empty if none is likely."""
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
