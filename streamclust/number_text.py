"""Hints for a text that should be a number or JSON: the probable cause, and what to send instead.

Programs often send the `repr` of an object instead of its value: redis-py sends
``np.float64(1.5)`` for a NumPy 2 scalar.
"""

from __future__ import annotations

import re

_MAX_LENGTH = 100
"""Number of characters of a text that are examined."""

_NO_VALUE = r"(?i:none|null|na|n/a|<na>)"
_MISSING_VALUE = re.compile(rf"\s*(?:{_NO_VALUE}|(?i:[-+]?nan))?\s*", re.ASCII)

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_SEND_FLOAT = "send float(x)"
_SEND_LIST = "send json.dumps(x.tolist())"

_TEXTS = (
    (
        r"(?:\w+\.)*(?:array|tensor|Array|Tensor|matrix|Series)\(",
        f"the repr of an array: {_SEND_LIST}",
    ),
    (r"(?:np|numpy|jnp|torch)\.\w+\(", f"the repr of a NumPy number: {_SEND_FLOAT}"),
    (r"(?:\w+\.)*(?:Decimal|Fraction)\(", f"the repr of a Python object: {_SEND_FLOAT}"),
    (r"(?i:true|false)$", "a truth value: send 1 or 0"),
    (rf"{_NO_VALUE}$", "no value: leave the point out"),
    (r"[-+]?\d[\d.]*(?:,\d+)+(?:\.\d+)?(?:[eE][-+]?\d+)?$", "a number with a comma: write 1234.5"),
    (rf"\[*\s*{_NUMBER}(?:\s+{_NUMBER})+", f"the text of a NumPy array: {_SEND_LIST}"),
    (r"[\[(]", "a list: send a number per field, or a JSON array in one field"),
    (r"b?['\"]", "a number in quotes: send it without them"),
)

_JSON_TEXTS = (
    (r".*\b(?:array|tensor|Array|Tensor|matrix|Series)\(", f"the repr of an array: {_SEND_LIST}"),
    (r".*\b(?:np|numpy|jnp|torch)\.\w+\(", f"the repr of NumPy numbers: {_SEND_LIST}"),
    (r".*\b(?:Decimal|Fraction)\(", "the repr of Python objects: send floats by json.dumps"),
    (rf"\s*\[+\s*{_NUMBER}(?:\s+{_NUMBER}|\s*\])", f"the text of a NumPy array: {_SEND_LIST}"),
    (r"\s*\(", "a Python tuple: send json.dumps(x)"),
    (r"\s*[\[{].*(?:'|\b(?:True|False|None)\b)", "the repr of a Python object: send json.dumps(x)"),
    (r"\s*b['\"]", "the repr of bytes: send the text itself"),
)

_NUMBER_HINTS = [(re.compile(pattern, re.S), hint) for pattern, hint in _TEXTS]
_JSON_HINTS = [(re.compile(pattern, re.S), hint) for pattern, hint in _JSON_TEXTS]


def is_missing(text: str | bytes) -> bool:
    """Return whether a text stands for a missing value: blank, NaN, null, none, NA, N/A or <NA>.

    >>> is_missing(b""), is_missing("NaN"), is_missing("None"), is_missing("0"), is_missing("-")
    (True, True, True, False, False)
    """
    if len(text) > _MAX_LENGTH:
        return False
    decoded = text if isinstance(text, str) else text.decode("latin-1")
    return _MISSING_VALUE.fullmatch(decoded) is not None


def number_hint(text: str | bytes) -> str:
    """Return a hint for a text that isn't a number, to append to an error message.

    >>> number_hint(b"np.float64(1.5)")
    '; it is the repr of a NumPy number: send float(x)'
    >>> number_hint("abc")
    ''
    """
    return _hint(text, _NUMBER_HINTS)


def json_hint(text: str | bytes) -> str:
    """Return a hint for a text that isn't JSON, to append to an error message.

    >>> json_hint(b"[1.5 2.5]")
    '; it is the text of a NumPy array: send json.dumps(x.tolist())'
    """
    return _hint(text, _JSON_HINTS)


def _hint(text: str | bytes, table: list[tuple[re.Pattern[str], str]]) -> str:
    head = text[:_MAX_LENGTH]
    decoded = head if isinstance(head, str) else head.decode("latin-1")
    decoded = decoded.strip()
    return next((f"; it is {hint}" for pattern, hint in table if pattern.match(decoded)), "")
