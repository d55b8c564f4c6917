"""The parameters of requests, checked: each error names the parameter and the expected value."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from streamclust.dashboard.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from starlette.datastructures import QueryParams
    from starlette.requests import Request


def whole(query: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    """Return a parameter that is a whole number.

    Raises
    ------
    ApiError
        If it isn't a whole number, or is out of range.
    """
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and least <= int(text) <= most):
        expected = f"a whole number from {least:,} to {most:,}"
        raise ApiError(400, "bad_query", f"{name} is {text[:60]!r}; expected {expected}", name)
    return int(text)


def choice(query: QueryParams, name: str, default: str, known: Collection[str]) -> str:
    """Return a parameter that is one of several words.

    Raises
    ------
    ApiError
        If it is another word.
    """
    text = query.get(name, default)
    if text not in known:
        expected = f"one of {', '.join(known)}"
        raise ApiError(400, "bad_query", f"{name} is {text[:60]!r}; expected {expected}", name)
    return text


def model_name(request: Request) -> str:
    """Return the name of the model in the path.

    Raises
    ------
    ApiError
        If no model can have this name.
    """
    name: str = request.path_params["name"]
    if re.fullmatch(r"[^\0{}]{1,512}", name) is None:
        raise ApiError(404, "unknown_model", f"no model has the name {name[:60]!r}")
    return name
