"""What a text probably is that was meant as a number or as JSON, and how to send the number.

Programs write the representation of an object where they should write its value: ``repr`` of a
NumPy 2 scalar is ``np.float64(1.5)``, and redis-py sends just that for one.
"""

from __future__ import annotations

import re

_LONGEST = 100
"""Characters of a text that are looked at."""

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_NUMPY = "send float(x)"
_ARRAY = "send json.dumps(x.tolist())"

_TEXTS = (
    (r"(?:\w+\.)*(?:array|tensor|Array|Tensor|matrix|Series)\(", f"the repr of an array: {_ARRAY}"),
    (r"(?:np|numpy|jnp|torch)\.\w+\(", f"the repr of a NumPy number: {_NUMPY}"),
    (r"(?:\w+\.)*(?:Decimal|Fraction)\(", f"the repr of a Python object: {_NUMPY}"),
    (r"(?i:true|false)$", "a truth value: send 1 or 0"),
    (r"(?i:none|null|na|n/a|<na>)$", "no value: leave the point out"),
    (r"[-+]?\d[\d.]*(?:,\d+)+(?:\.\d+)?(?:[eE][-+]?\d+)?$", "a number with a comma: write 1234.5"),
    (rf"\[*\s*{_NUMBER}(?:\s+{_NUMBER})+", f"the text of a NumPy array: {_ARRAY}"),
    (r"[\[(]", "a list: send a number per field, or a JSON array in one field"),
    (r"b?['\"]", "a number in quotes: send it without them"),
)

_JSON_TEXTS = (
    (r".*\b(?:array|tensor|Array|Tensor|matrix|Series)\(", f"the repr of an array: {_ARRAY}"),
    (r".*\b(?:np|numpy|jnp|torch)\.\w+\(", f"the repr of NumPy numbers: {_ARRAY}"),
    (r".*\b(?:Decimal|Fraction)\(", "the repr of Python objects: send floats by json.dumps"),
    (rf"\s*\[+\s*{_NUMBER}(?:\s+{_NUMBER}|\s*\])", f"the text of a NumPy array: {_ARRAY}"),
    (r"\s*\(", "a Python tuple: send json.dumps(x)"),
    (r"\s*[\[{].*(?:'|\b(?:True|False|None)\b)", "the repr of a Python object: send json.dumps(x)"),
    (r"\s*b['\"]", "the repr of bytes: send the text itself"),
)

_WHOLE = [(re.compile(pattern, re.S), hint) for pattern, hint in _TEXTS]
_WITHIN = [(re.compile(pattern, re.S), hint) for pattern, hint in _JSON_TEXTS]


def number_hint(text: str | bytes) -> str:
    """Return what to do about a text that is no number, to be put behind the message.

    >>> number_hint(b"np.float64(1.5)")
    '; it is the repr of a NumPy number: send float(x)'
    >>> number_hint("abc")
    ''
    """
    return _hint(text, _WHOLE)


def json_hint(text: str | bytes) -> str:
    """Return what to do about a text that is no JSON, to be put behind the message.

    >>> json_hint(b"[1.5 2.5]")
    '; it is the text of a NumPy array: send json.dumps(x.tolist())'
    """
    return _hint(text, _WITHIN)


def _hint(text: str | bytes, table: list[tuple[re.Pattern[str], str]]) -> str:
    head = text[:_LONGEST]
    shown = head if isinstance(head, str) else head.decode("latin-1")
    shown = shown.strip()
    return next((f"; it is {hint}" for pattern, hint in table if pattern.match(shown)), "")
