"""Text from other programs, made safe for a terminal, a log, or a cell of a CSV file.

The names of fields, labels, hosts, streams and models come from producers and from the server. An
unsafe name could move the cursor, recolour the terminal, forge log lines, or run as the formula of
a spreadsheet.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from math import isfinite
from typing import Any

BAR_LEVELS = "▁▂▃▄▅▆▇█"
"""Characters for bars, from low to high."""

_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0, DEL, C1
    "\u2028\u2029"  # separators of lines and paragraphs
    "\u202a-\u202e\u2066-\u2069"  # reorder the text around them
    "\ud800-\udfff]"  # lone surrogates: invalid text
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_BYTE = 0xDC00
"""Python decodes a byte that isn't UTF-8 as this number plus the byte (PEP 383)."""


def printable(text: str | bytes, limit: int | None = None) -> str:
    r"""Return text with all invisible and control characters escaped.

    The function escapes control characters (newline, tab, ESC, those of C1), bidirectional
    controls, characters of zero width, spaces other than " ", lone surrogates, and bytes that
    aren't UTF-8: everything that `repr` escapes except quotes and backslashes. The result is one
    line.

    Parameters
    ----------
    text : str or bytes
    limit : int, optional
        Largest number of characters of `text` to show; "..." replaces the rest.

    Examples
    --------
    >>> printable("a\x1b[31m\nb"), printable(b"caf\xe9"), printable("été")
    ('a\\x1b[31m\\nb', 'caf\\xe9', 'été')
    """
    if isinstance(text, bytes):
        text = text.decode(errors="surrogateescape")
    if limit is not None and len(text) > limit:
        text = text[:limit] + "..."
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    byte = ord(char) - _BYTE
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else char.encode("unicode_escape").decode()


def has_control(text: str) -> bool:
    r"""Return whether a name has a control character or a lone surrogate, so that it is refused.

    Bidirectional controls and line separators count as control characters.

    Examples
    --------
    >>> has_control("x\n"), has_control("température (°C)")
    (True, False)
    """
    return _CONTROL.search(text) is not None


NAME = "[A-Za-z0-9_.-]+"
"""Regular expression of the name of a model, and of a namespace."""

NAME_WORDS = "text of letters, digits, _, . and -"


def is_name(text: str) -> bool:
    """Return whether a text can be the name of a model, or a namespace."""
    return re.fullmatch(NAME, text) is not None


_MAX_NAMES = 20


def known_names(name: str, known: Collection[str], noun: str) -> str:
    """Return the known name that is most like `name`, as a question; without one, all known names.

    Examples
    --------
    >>> known_names("machins", ["machines", "shop"], "models there")
    "did you mean 'machines'?"
    >>> known_names("x", ["machines", "shop"], "models there")
    'models there: machines, shop'
    """
    near = get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    names = ", ".join(list(known)[:_MAX_NAMES]) or "none"
    more = len(known) - _MAX_NAMES
    return f"{noun}: {names}" + (f", and {more:,} more" if more > 0 else "")


def is_pattern(name: str) -> bool:
    """Return whether a name stands for several models: ``*``, ``?`` and ``[...]`` as in a shell."""
    return "*" in name or "?" in name or "]" in name.partition("[")[2]


ONE_MODEL = "{!r} stands for several models; this command takes the name of one"
"""Text of the error for a pattern; `{!r}` stands for the pattern."""


def matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Return the names that match any of the patterns, sorted; all names without a pattern."""
    return sorted(
        name
        for name in names
        if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
    )


_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def decode_text(data: bytes) -> str:
    r"""Return the text of a file, as editors on any system write it.

    A byte order mark at the start gives the encoding; without one it is UTF-8. Line ends become
    ``\n``.

    Raises
    ------
    UnicodeDecodeError
        If the bytes aren't text of that encoding.

    Examples
    --------
    >>> decode_text(b"\xef\xbb\xbfa: 1\r\n"), decode_text("a: 1\r\n".encode("utf-16"))
    ('a: 1\n', 'a: 1\n')
    """
    mark, encoding = next((row for row in _BOMS if data.startswith(row[0])), (b"", "utf-8"))
    text = data[len(mark) :].decode(encoding)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def csv_cell(text: str) -> str:
    r"""Return a text for a cell of a CSV file that a spreadsheet doesn't run as a formula.

    A ' is put before text that begins with =, +, -, @, a tab or a line end.

    Examples
    --------
    >>> csv_cell("=1+1"), csv_cell("x-1")
    ("'=1+1", 'x-1')
    """
    return printable(f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text)


def exact_json(value: object) -> str:
    """Return JSON text; NaN and infinity, which JSON doesn't have, become null.

    Examples
    --------
    >>> exact_json({"psnr": float("inf"), "model": "m"})
    '{"psnr": null, "model": "m"}'
    """
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value
