"""Parsed JSON, of large arrays piece by piece."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.errors import DataError
from streamclust.number_text import json_hint

# Integers become floats, so that a huge integer becomes inf, and true isn't accepted as 1. Objects
# become tuples of pairs, so that duplicate keys are detected.
_DECODER = json.JSONDecoder(parse_int=float, object_pairs_hook=tuple)
loads = _DECODER.decode
_scan_one = _DECODER.scan_once  # type: ignore[attr-defined]
_skip_blanks = json.decoder.WHITESPACE.match  # type: ignore[attr-defined]

_PIECE = 1 << 16
"""Number of characters of a block that are parsed at once."""

_LARGEST = 1 << 20
"""Maximum number of characters of a point, in addition to those per feature."""

_A_FEATURE = 256


def parse(text: bytes) -> Any:
    """Return parsed JSON: numbers are floats, objects are tuples of pairs."""
    return _parsed(_as_text(text))


def _as_text(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"JSON is not UTF-8 at byte {error.start}") from None


def _parsed(text: str, offset: int = 0, whole: str = "") -> Any:
    """Parse a part of a text, which begins at the character `offset`."""
    try:
        return loads(text)
    except RecursionError:
        raise DataError("JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        place = f"at character {error.pos + offset}"
        raise DataError(f"bad JSON: {error.msg} {place}{json_hint(whole or text)}") from None


class JsonArray:
    """The values of a JSON array, parsed piece by piece to save memory.

    Parameters
    ----------
    text : str
    start : int
        Place where the first value starts.
    largest : int
        Maximum number of characters of a value.
    """

    def __init__(self, text: str, start: int, largest: int) -> None:
        self.n = 0
        self._text = text
        self._start = start
        self._largest = largest
        self._firsts: list[int] = []
        self._spans: list[tuple[int, int | None]] = []

    @classmethod
    def of(cls, text: bytes, n_features: int) -> JsonArray | None:
        """Return the array in a text; None if the text is another value, of limited size."""
        whole, largest = _as_text(text), _LARGEST + _A_FEATURE * n_features
        start = _skip_blanks(whole, 0).end()
        if whole[start : start + 1] == "[":
            return cls(whole, start + 1, largest)
        if len(whole) > largest:
            raise DataError(
                f"JSON has {len(whole)} characters for one point; the limit is {largest}"
            )
        return None

    def pieces(self) -> Iterator[list[Any]]:
        """Yield the values, in pieces.

        Raises
        ------
        DataError
            If the text isn't JSON, or one value is too large.
        """
        place: int | None = self._start
        while place is not None:
            begin = place
            values, stop, place = self._next(begin)
            self._firsts.append(self.n)
            self._spans.append((begin, stop))
            self.n += len(values)
            yield values

    def values(self, places: NDArray[np.int64]) -> Iterator[Any]:
        """Yield the values at these places, which ascend; all pieces have been read before."""
        piece, values = -1, []
        for place in places.tolist():
            wanted = bisect_right(self._firsts, place) - 1
            if wanted != piece:
                piece, (begin, stop) = wanted, self._spans[wanted]
                values = self._between(begin, stop)
            yield values[place - self._firsts[piece]]

    def _between(self, begin: int, stop: int | None) -> list[Any]:
        end = "" if stop is None else "]"
        values: list[Any] = _parsed(f"[{self._text[begin:stop]}{end}", begin - 1, self._text)
        return values

    def _next(self, begin: int) -> tuple[list[Any], int | None, int | None]:
        """Return the next values, where they end, and where others begin; None at the end."""
        if len(self._text) - begin <= _PIECE:
            return self._last(begin)
        for mark in ("],", "},", ","):
            comma = self._text.rfind(mark, begin, begin + _PIECE) + len(mark) - 1
            if comma < begin:
                continue
            try:
                values = self._between(begin, comma)
            except DataError:  # the comma is within a value, or the JSON is bad
                continue
            if values:
                return values, comma, comma + 1
        return self._one_by_one(begin)

    def _one_by_one(self, begin: int) -> tuple[list[Any], int | None, int | None]:
        """Take a piece of values by looking for the end of each, the last of which may be long."""
        window = self._text[begin : begin + self._largest]
        values: list[Any] = []
        stop = place = 0
        ends = False
        while place < _PIECE and not ends:
            try:
                value, end = _scan_one(window, _skip_blanks(window, place).end())
            except (StopIteration, ValueError, RecursionError):
                break
            end = _skip_blanks(window, end).end()
            ends = window[end : end + 1] not in ("", ",")
            if window[end : end + 1] == ",":
                values.append(value)
                stop, place = end, end + 1
            elif not ends:
                break
        if values:
            return values, begin + stop, begin + place
        if ends or begin + len(window) == len(self._text):
            return self._last(begin)
        raise DataError(
            f"JSON at character {begin} is bad, or a point of more than {self._largest} characters"
        )

    def _last(self, begin: int) -> tuple[list[Any], int | None, int | None]:
        """Return the values up to the end of the array, with which the text ends too."""
        values = self._between(begin, None)
        if not values and self._spans:  # a comma before the end: the parser raises the error
            self._between(self._spans[-1][0], None)
        return values, None, None
