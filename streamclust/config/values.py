"""The types of plain values in settings, each with a description of the allowed values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer
from pydantic_core import PydanticCustomError

from streamclust.text import NAME, NAME_WORDS, has_control


@dataclass(frozen=True)
class Allowed:
    """The values that a type accepts, in words, for error messages and the reference.

    Parameters
    ----------
    text : str
        A noun phrase, such as "an integer".
    """

    text: str


SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}
SECONDS["d"] = Decimal(86400)
LONGEST = Decimal(36500) * SECONDS["d"]
DURATION_WORDS = "a duration (200ms, 10s, 5m, 6h, 1d, or seconds)"
LATEST_WORDS = "a duration (90s, 5m, 6h, 1d) or a number of points (1e6)"
TEXT_WORDS = "text (in quotes if it looks like a number)"
_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?|\.\d+)\s*(?P<unit>ms|s|m|h|d)?")


def parse_duration(value: object) -> float:
    """Return the seconds of a duration: a text such as ``200ms``, or a number of seconds.

    Examples
    --------
    >>> parse_duration("200ms"), parse_duration("5m"), parse_duration(2)
    (0.2, 300.0, 2.0)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"expected {DURATION_WORDS}")
    match = _DURATION.fullmatch(_plain(value))
    if match is None:
        raise ValueError(f"expected {DURATION_WORDS}")
    seconds = Decimal(match["number"]) * SECONDS[match["unit"] or "s"]
    if 0 < seconds < SECONDS["ms"] or seconds > LONGEST:
        raise ValueError("expected 0, or a duration between 1ms and 36500d")
    return float(seconds)


def _plain(value: float | str) -> str:
    if isinstance(value, str):
        return value.strip()
    number = Decimal(repr(value))
    return format(number, "f") if number.is_finite() else ""


def parse_latest(text: str) -> tuple[int | None, float]:
    """Return the number of points and 0, or None and the number of seconds.

    Examples
    --------
    >>> parse_latest("1e6"), parse_latest("90s")
    ((1000000, 0.0), (None, 90.0))
    """
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if 1.0 <= number < 1e18:
        return int(number), 0.0
    try:
        return None, parse_duration(text)
    except ValueError:
        raise ValueError(f"expected {LATEST_WORDS}") from None


def _latest(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"expected {LATEST_WORDS}")
    text = value if isinstance(value, str) else f"{value:.15g}"
    parse_latest(text)
    return text


def format_duration(seconds: float) -> str:
    """Return the shortest text that `parse_duration` reads back as exactly `seconds`.

    Examples
    --------
    >>> format_duration(0.2), format_duration(300.0), format_duration(90.0)
    ('200ms', '5m', '90s')
    """
    exact = Decimal(repr(seconds))
    for unit in ("d", "h", "m", "s", "ms"):
        count = exact / SECONDS[unit]
        if count == int(count) and exact:
            return f"{int(count)}{unit}"
    return f"{exact.normalize():f}s"


def _number(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("boolean", "expected a number")  # it would count as 0 or 1
    return value


def _without_control(name: str) -> str:
    if has_control(name):
        raise ValueError("expected a name without control characters")
    return name


def _not_empty(value: object) -> object:
    if value == "":
        raise ValueError("expected a path; . is the current folder")
    return value


def _without_nul(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("expected a path without a NUL character")
    return path


def up_to_a_day(seconds: float) -> float:
    """Return `seconds` if it is at most one day."""
    if seconds > float(SECONDS["d"]):
        raise ValueError("expected at most 1d")
    return seconds


def one_or_many(value: object) -> object:
    """Return one text as a tuple; other values are unchanged."""
    return (value,) if isinstance(value, str) else value


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    Allowed(DURATION_WORDS),
]
PositiveDuration = Annotated[Duration, Field(gt=0)]
UpToADay = Annotated[PositiveDuration, AfterValidator(up_to_a_day)]
Integer = Annotated[int, BeforeValidator(_number), Allowed("an integer")]
Count = Annotated[Integer, Field(ge=1)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False), Allowed("a number")]
PositiveNumber = Annotated[Number, Field(gt=0)]
Name = Annotated[
    str,
    Field(pattern=rf"\A{NAME}\z"),
    Allowed(NAME_WORDS),
]
ModelName = Annotated[
    str,
    Field(pattern=r"\A[A-Za-z0-9_.{}-]+\z"),
    Allowed(NAME_WORDS),
]
"""A name, or that of a template, whose placeholders are checked with its streams."""
Text = Annotated[str, Field(min_length=1), AfterValidator(_without_control), Allowed(TEXT_WORDS)]
FilePath = Annotated[Path, BeforeValidator(_not_empty), AfterValidator(_without_nul)]
Latest = Annotated[str, BeforeValidator(_latest), Allowed(LATEST_WORDS)]
Streams = Annotated[
    tuple[Text, ...],
    BeforeValidator(one_or_many),
    Field(min_length=1),
    Allowed("the name of a stream, or a list of names"),
]
StartPosition = Annotated[
    str,
    Field(pattern=r"\A(earliest|latest|[0-9]+(-[0-9]+)?)\z"),
    Allowed("earliest, latest, or an entry ID such as 1526919030474-0"),
]
Vector = Annotated[tuple[Number, ...], Field(min_length=1), Allowed("a list of numbers")]
Matrix = Annotated[tuple[Vector, ...], Field(min_length=1), Allowed("a list of lists of numbers")]


def check_streams(streams: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of streams if none occurs twice and none is meant as a pattern."""
    for stream in streams:
        if "*" in stream or "?" in stream:
            raise ValueError(
                f"{stream!r} looks like a pattern, but each stream is read by its name; "
                "write every name, such as [clicks-1, clicks-2], or a template, such as "
                "clicks-{tenant} (docs/tenants.md)"
            )
    return distinct("streams", streams)


def distinct(name: str, values: tuple[str, ...]) -> tuple[str, ...]:
    """Return `values` if no value occurs twice; `name` is the key for the error."""
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{name} has {twice[0]!r} twice; remove one")
    return values
