"""Number of components of a model: a number, or `auto` and a range."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, TypeAdapter, ValidationError

from streamclust.config.values import Allowed, Count

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
