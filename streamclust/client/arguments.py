"""Checks of the arguments of the Python clients, and errors that name them."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamclust.errors import DataError
from streamclust.hyperparameters import as_integer, as_number
from streamclust.store.server.address import Address
from streamclust.text import NAME_WORDS, is_name

if TYPE_CHECKING:
    from streamclust.errors import ConfigError, ServerError

_LARGEST = (1 << 64) - 1
"""The largest number in the ID of an entry."""


def check_text(name: str, value: Any) -> None:
    """Refuse what isn't a text."""
    if not isinstance(value, str):
        raise DataError(f"{name} is {value!r}; expected text")


def check_name(name: str, value: Any) -> None:
    """Refuse what can't be the name of a model, or a namespace."""
    if not isinstance(value, str) or not is_name(value):
        raise DataError(f"{name} is {value!r}; expected {NAME_WORDS}")


def check_on_gap(on_gap: Any) -> None:
    """Refuse what can't be called."""
    if on_gap is not None and not callable(on_gap):
        raise DataError(f"on_gap is {on_gap!r}; expected a function of two numbers")


def as_since(since: Any) -> int | None:
    """Return the number of a version or an alert; None stays None."""
    return None if since is None else min(as_integer("since", since), _LARGEST)


def as_seconds(name: str, value: Any) -> float:
    """Return a number of seconds, which may be infinite."""
    if isinstance(value, float) and value == math.inf:
        return value
    return as_number(name, value, "a number of seconds, at least 0")


def as_address(url: Any, namespace: Any, data_dir: Any, **logins: Any) -> Address:
    """Return the address of the server, after a check of all arguments of `Client`.

    Parameters
    ----------
    url, namespace, data_dir
        See `streamclust.Client`.
    **logins
        The other arguments of `streamclust.Client`: texts, or None. Passwords aren't shown.

    Raises
    ------
    DataError
        If an argument has the wrong type, or can't be a namespace or a path.
    """
    if not isinstance(url, str):
        raise DataError(f"url is {url!r}; expected text, such as embedded or redis://localhost")
    check_name("namespace", namespace)
    if not isinstance(data_dir, str | os.PathLike) or not str(data_dir) or "\0" in str(data_dir):
        raise DataError(f"data_dir is {data_dir!r}; expected a path")
    for name, login in logins.items():
        if login is not None and not isinstance(login, str):
            raise DataError(f"{name} is of type {type(login).__name__}; expected text")
    return Address(url, Path(data_dir), **logins)


_SETTING = re.compile(
    r"(?<![\w./@-])redis\.(url|data_dir|(?:sentinel_)?(?:username|password))\b"  # not in a host
)
_NO_ARGUMENT = re.compile(r" or redis\.password_file| \(in the environment: [^)]*\)")


def name_arguments(error: ConfigError | ServerError) -> None:
    """Replace the settings in the text of an error by the arguments of `Client`."""
    text = _SETTING.sub(r"\1", _NO_ARGUMENT.sub("", str(error)))
    error.args = (text, *error.args[1:])
