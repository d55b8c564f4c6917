"""What counts as a hyperparameter: one place that checks integers, numbers and flags by name."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection
from typing import Any

import numpy as np

from streamclust.errors import DataError


def as_integer(name: str, value: Any, least: int = 0) -> int:
    """Return `value` as an int; NumPy's integers are integers too, but True, 3.0 and "3" are none.

    Parameters
    ----------
    name : str
        Name of the field, for the error.
    value : int
    least : int, default=0

    Raises
    ------
    DataError
        If it is no integer, or is below `least`.
    """
    if type(value) is not int:
        value = _integer(name, value, least)
    if value < least:
        raise DataError(f"{name} is {value}; expected at least {least}")
    return int(value)


def _integer(name: str, value: Any, least: int) -> int:
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise DataError(f"{name} is {value!r}; expected an integer, at least {least}") from None


def as_number(name: str, value: Any, expected: str, *, positive: bool = False) -> float:
    """Return `value` as a float that is finite and not negative; True and "0.5" are no numbers.

    Parameters
    ----------
    name : str
        Name of the field, for the error.
    value : float
    expected : str
        What is allowed, for the error.
    positive : bool, default=False
        Whether 0 is refused too.

    Raises
    ------
    DataError
        If it is anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise DataError(f"{name} is {value!r}; expected {expected}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not 0.0 <= number < math.inf or (positive and number == 0.0):
        raise DataError(f"{name} is {number}; expected {expected}")
    return number


def is_finite(value: Any) -> bool:
    """Return whether `value` is a number that a float can hold."""
    if isinstance(value, bool | np.bool_):
        return False
    try:
        return isinstance(value, int | float | np.integer | np.floating) and math.isfinite(value)
    except OverflowError:
        return False


def as_flag(name: str, value: Any) -> bool:
    """Return `value` as a bool, or refuse what isn't True or False."""
    if not isinstance(value, bool | np.bool_):
        raise DataError(f"{name} is {value!r}; expected True or False")
    return bool(value)


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Refuse a `value` that is none of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise DataError(f"{name} is {value!r}; expected {', '.join(choices)}")


def store(instance: Any, **values: Any) -> None:
    """Set fields of a frozen dataclass to what they were checked to be."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)
