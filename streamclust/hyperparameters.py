"""Checks of hyperparameters: integers, numbers, flags and choices, with errors that name them."""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable, Collection
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from streamclust.errors import DataError

F = TypeVar("F", bound=Callable[..., Any])


def as_integer(name: str, value: Any, least: int = 0) -> int:
    """Return `value` as an int; NumPy's integers are accepted, but True, 3.0 and "3" are refused.

    Parameters
    ----------
    name : str
        Name of the field, for the error.
    value : int
    least : int, default=0

    Raises
    ------
    DataError
        If `value` isn't an integer, or is below `least`.
    """
    if type(value) is not int:
        try:
            if isinstance(value, bool | np.bool_):
                raise TypeError
            value = operator.index(value)
        except TypeError:
            message = f"{name} is {value!r}; expected an integer, at least {least}"
            raise DataError(message) from None
    if value < least:
        raise DataError(f"{name} is {value}; expected at least {least}")
    return int(value)


def as_number(name: str, value: Any, expected: str, *, positive: bool = False) -> float:
    """Return `value` as a float that is finite and not negative; True and "0.5" are refused.

    Parameters
    ----------
    name : str
        Name of the field, for the error.
    value : float
    expected : str
        Description of the allowed values, for the error.
    positive : bool, default=False
        Whether 0 is refused too.

    Raises
    ------
    DataError
        If `value` is anything else.
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
    """Return `value` as a bool; refuse all values except True and False."""
    if not isinstance(value, bool | np.bool_):
        raise DataError(f"{name} is {value!r}; expected True or False")
    return bool(value)


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Refuse a `value` that isn't one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise DataError(f"{name} is {value!r}; expected {', '.join(choices)}")


def store(instance: Any, **values: Any) -> None:
    """Set fields of a frozen dataclass to their checked values."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)


def deprecated_name(new: str) -> Callable[[F], F]:
    """Return a decorator for the old name of method `new`: a call gives a DeprecationWarning."""

    def decorate(method: F) -> F:
        @wraps(method)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            text = f"{method.__name__} is now called {new}"
            warnings.warn(text, DeprecationWarning, stacklevel=2)
            return method(*args, **kwargs)

        return wrapper  # type: ignore[return-value]

    return decorate


def renamed(**names: str) -> Callable[[F], F]:
    """Return a decorator that still accepts renamed keyword arguments, with a DeprecationWarning.

    Parameters
    ----------
    **names : str
        Old name of an argument -> its new name.
    """

    def decorate(function: F) -> F:
        if isinstance(function, type):
            function.__init__ = decorate(function.__init__)  # type: ignore[misc]
            return function

        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            for old in names.keys() & kwargs.keys():
                new = names[old]
                warnings.warn(f"{old} is now called {new}", DeprecationWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)  # `replace` passes the new name, too
            return function(*args, **kwargs)

        return wrapper  # type: ignore[return-value]

    return decorate
