"""Event times in tables: numbers or text, converted to milliseconds since 1970."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamclust.errors import DataError
from streamclust.tables.chunk import Request, Where, short

UNITS = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
"""Milliseconds per unit."""

MAX_TIME = 1 << 53
"""Limit of a time: fewer milliseconds since 1970."""

EXPECTED = "expected seconds since 1970, or ISO 8601 such as 2026-05-01T12:00:00Z"

_LIMITS = (("s", 1e11), ("ms", 1e14), ("us", 1e17))


class TimeReader:
    """Converts event times to milliseconds since 1970. A time without a zone is in UTC.

    Parameters
    ----------
    form
        Format of the times: see `TableOptions.time_format`.

    Attributes
    ----------
    form
        The format; None until the first value is read.
    """

    def __init__(self, form: str | None = None) -> None:
        if form is not None and form != "iso" and form not in UNITS and "%" not in form:
            raise DataError(
                f"time format is {form!r}; expected s, ms, us, ns, iso, or a format such as "
                "%d/%m/%Y %H:%M"
            )
        self.form = form

    def read(self, values: Sequence[Any]) -> NDArray[np.int64]:
        """Return milliseconds of texts, numbers, dates or times.

        Raises
        ------
        ValueError
            If a value isn't a time; the text is the reason.
        """
        if not len(values):
            return np.empty(0, np.int64)
        form = self.form or guess_form(values[0])
        if form in UNITS:
            ms = np.array([float(value) for value in values]) * UNITS[form]
            if UNITS[form] >= 1.0:
                ms = np.round(ms, 3)  # 1.001 s is 1001 ms
        else:
            ms = np.array([_exact(_converter(form), value) for value in values])
        whole = np.floor(ms)
        if not ((whole >= 0.0) & (whole < MAX_TIME)).all():
            raise ValueError("the time is before 1970 or too large")
        self.form = form
        return whole.astype(np.int64)

    def problem(self, value: Any) -> str | None:
        """Return why a value isn't a time, or None if it is one."""
        try:
            TimeReader(self.form).read([value])
        except (ValueError, TypeError, OverflowError, OSError) as error:
            return str(error) if "before 1970" in str(error) else f"not a time; {EXPECTED}"
        return None


class EventTimes:
    """The event times of a table. Times that decrease are refused.

    Parameters
    ----------
    form
        Format of the times: see `TableOptions.time_format`.
    """

    def __init__(self, form: str | None = None) -> None:
        self._reader = TimeReader(form)
        self._last = 0

    def read(
        self, values: Sequence[Any], column: str, where: Where, request: Request
    ) -> NDArray[np.int64]:
        """Return the times of some rows in milliseconds since 1970.

        Raises
        ------
        DataError
            If a value isn't a time, or is earlier than the one before it.
        """
        try:
            ms = self._reader.read(values)
        except (ValueError, TypeError, OverflowError, OSError):
            raise self._not_a_time(values, column, where, request) from None
        before = np.concatenate([[self._last], ms[:-1]])
        if (ms < before).any():
            row = int(np.argmax(ms < before))
            problem = f"{short(str(values[row]))} is earlier than the time of the row before"
            raise request.bad_cell(where(row), column, problem, "sort the rows by time")
        if len(ms):
            self._last = int(ms[-1])
        return ms

    def _not_a_time(
        self, values: Sequence[Any], column: str, where: Where, request: Request
    ) -> DataError:
        reader = TimeReader(self._reader.form)
        for row, value in enumerate(values):
            if problem := reader.problem(value):
                shown = short(str(value))
                return request.bad_cell(
                    where(row), column, f"{shown}: {problem}", "see --time-format"
                )
            reader.form = reader.form or guess_form(value)
        return request.bad_cell(
            where(0), column, "the times have several formats", "see --time-format"
        )


def guess_form(value: Any) -> str:
    """Return the format of a time: "iso", or the unit of a number by its size."""
    try:
        number = abs(float(value))
    except (TypeError, ValueError):
        return "iso"
    if math.isnan(number):
        raise ValueError("NaN isn't a time")
    return next((unit for unit, most in _LIMITS if number < most), "ns")


def _converter(form: str) -> Callable[[str], datetime]:
    if form == "iso":
        return datetime.fromisoformat
    return lambda text: datetime.strptime(text, form)


def _exact(convert: Callable[[str], datetime], value: Any) -> float:
    if isinstance(value, str):
        value = convert(value.strip())
    elif isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if not isinstance(value, datetime):
        raise ValueError("the value isn't a time")
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return float(round(value.timestamp() * 1e6) / 1e3)
