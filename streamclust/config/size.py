"""Numbers that can be `auto`: components of a model, with a range; and the time between commits."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, PlainSerializer, TypeAdapter, ValidationError

from streamclust.config.values import (
    DURATION_WORDS,
    Allowed,
    Count,
    format_duration,
    parse_duration,
)

AUTO = "auto"

_DEFAULT = (2, 50)
_WORDS = "an integer >= 1, or auto"
_COUNT: TypeAdapter[int] = TypeAdapter(Count)


def parse_size(value: object) -> object:
    """Return a number of components, or `auto`.

    Examples
    --------
    >>> parse_size("auto"), parse_size("12")
    ('auto', 12)
    """
    if value == AUTO:
        return AUTO
    try:
        return _COUNT.validate_python(value)
    except ValidationError:
        raise ValueError(f"expected {_WORDS}") from None


Size: TypeAlias = Annotated[object, BeforeValidator(parse_size), Allowed(_WORDS)]
SizeRange: TypeAlias = Annotated[
    tuple[Count, Count], Allowed("a list of two integers, the minimum and the maximum")
]


def parse_interval(value: object) -> object:
    """Return the seconds of a duration that isn't 0, or `auto`.

    Examples
    --------
    >>> parse_interval("auto"), parse_interval("5m")
    ('auto', 300.0)
    """
    if value == AUTO:
        return AUTO
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise ValueError(f"{error}, or auto") from None
    if not seconds:
        raise ValueError("expected more than 0, or auto")
    return seconds


def _format_interval(value: object) -> str:
    return format_duration(value) if isinstance(value, float) else AUTO


Interval: TypeAlias = Annotated[
    object,
    BeforeValidator(parse_interval),
    PlainSerializer(_format_interval, return_type=str, when_used="json"),
    Allowed(f"{DURATION_WORDS}, or auto"),
]


def bounds(name: str, size: object, given: tuple[int, int] | None) -> tuple[int | None, int]:
    """Return the minimum number of components (None if fixed) and the maximum.

    Parameters
    ----------
    name : str
        Key of `size`, such as ``n_clusters``; the key of the range has the suffix ``_range``.
    size : int or 'auto'
    given : tuple of int or None
        The range.

    Raises
    ------
    ValueError
        If size and range contradict each other.
    """
    if isinstance(size, int):
        if given is not None:
            raise ValueError(
                f"{name}_range needs {name}: auto, but {name} is {size}; remove one of them"
            )
        return None, size
    least, most = given or _DEFAULT
    if least > most:
        raise ValueError(f"{name}_range is [{least}, {most}]; expected the minimum first")
    return least, most
