"""Output that several commands share: numbers, times, lines, and the tables of models."""

from __future__ import annotations

import math
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

import click

from streamclust.text import BAR_LEVELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamclust.formats.model import Model
    from streamclust.formats.model_head import ModelHead

WIDEST_NAME = 100
"""Maximum number of characters of a name in a table."""

SCORES = {
    "inertia": "inertia per point (mean squared distance; lower is better)",
    "log_likelihood": "log-likelihood per point (in nats; higher is better)",
}
"""Name, unit and direction of each score."""

COSINE_SCORES = {"inertia": "inertia per point (mean of 1 - cos; lower is better)"}
"""The same for the metric cosine."""


def score_meaning(model: Model | ModelHead) -> str:
    """Return name, unit and direction of the score of a version."""
    return (COSINE_SCORES if model.metric == "cosine" else SCORES)[model.score_name]


def kind_and_shape(model: Model | ModelHead) -> str:
    """Return the kind of a version, K and D, as `kmeans 5x2`."""
    return "{} {}x{}".format(model.kind.removeprefix("gaussian_"), *model.shape)


_LARGEST_PLAIN, _SMALLEST_PLAIN = 1e7, 1e-4
"""Numbers between these are written without an exponent."""


def bars(values: Sequence[float], width: int = 24) -> str:
    """Return a bar for each value, relative to the largest, for the first `width` values."""
    top = max(values, default=0.0)
    if top <= 0.0:
        return ""
    steps = [round(value / top * (len(BAR_LEVELS) - 1)) for value in values[:width]]
    return "".join(BAR_LEVELS[step] for step in steps) + ("…" if len(values) > width else "")


def number(value: float | None, digits: int = 4) -> str:
    """Return a value with at least `digits` significant digits, or a dash for None.

    Examples
    --------
    >>> number(29.2634), number(123456.7), number(-9.9712e-05), number(None)
    ('29.26', '123,457', '-9.971e-05', '-')
    """
    if value is None:
        return "-"
    if not _SMALLEST_PLAIN <= abs(value) < _LARGEST_PLAIN:
        return f"{value:.{digits}g}"
    return _without_zeros([f"{value:,.{_decimals(value, digits)}f}"])[0]


def numbers(values: Sequence[float | None], digits: int = 4, *, signed: bool = False) -> list[str]:
    """Return the values of one column, with the same number of decimals where that is readable.

    None is shown as "-".

    The largest value has at least `digits` significant digits, and the smallest at least three. If
    that takes more than five decimals, each value has its own number of decimals.

    Examples
    --------
    >>> numbers([40.02, 55.0, -0.5]), numbers([1e-05, -2.5e-05]), numbers([1e-05, 1e3])
    (['40.02', '55.00', '-0.50'], ['1.0e-05', '-2.5e-05'], ['1e-05', '1000'])
    """
    known = iter(_known_numbers([each for each in values if each is not None], digits, signed))
    return ["-" if value is None else next(known) for value in values]


def _known_numbers(values: Sequence[float], digits: int, signed: bool) -> list[str]:
    sizes = [abs(value) for value in values if value and math.isfinite(value)]
    sign = "+" if signed else ""
    if not sizes:
        return [f"{value:{sign}g}" for value in values]
    low, high = min(sizes), max(sizes)
    decimals = max(_decimals(high, digits), _decimals(low, 3))
    if (high < 0.01 and decimals > _MAX_DECIMALS) or low >= _LARGEST_PLAIN:
        rest = iter(_without_zeros([f"{value:{sign}.{digits - 1}e}" for value in values if value]))
        return [next(rest) if value else f"{value:{sign}g}" for value in values]
    if high < _LARGEST_PLAIN and decimals <= _MAX_DECIMALS:
        return _without_zeros([f"{value:{sign}z,.{decimals}f}" for value in values])
    return [f"{value:{sign}.{digits}g}" for value in values]


_MAX_DECIMALS = 5


def _decimals(value: float, digits: int) -> int:
    """Return the decimals of a value with at least `digits` significant digits."""
    return max(digits - 1 - math.floor(math.log10(abs(value))), 0)


def _without_zeros(texts: list[str]) -> list[str]:
    """Remove the zeros that all numbers have at the end of their decimals."""
    parts = [text.partition("e") for text in texts]
    finite = [start for start, _, _ in parts if "n" not in start]
    if not all("." in start for start in finite):
        return texts
    zeros = min((len(start) - len(start.rstrip("0")) for start in finite), default=0)
    return [
        (start[: len(start) - zeros].rstrip(".") if start in finite else start) + e + exponent
        for start, e, exponent in parts
    ]


def count(value: int | None, unknown: str = "?") -> str:
    """Return a count with commas between thousands."""
    return unknown if value is None else f"{value:,}"


def size_text(size: int) -> str:
    """Return a number of bytes in a unit that suits it: KB, MB, GB or TB, powers of 1,000."""
    value, unit = float(size), "bytes"
    for larger in ("KB", "MB", "GB", "TB"):
        if value < 1000.0:
            break
        value, unit = value / 1000.0, larger
    return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"


def plural(value: int, noun: str) -> str:
    """Return a count and its noun.

    Examples
    --------
    >>> plural(1, "point"), plural(2000, "entry"), plural(4, "key")
    ('1 point', '2,000 entries', '4 keys')
    """
    is_irregular = noun.endswith("y") and not noun.endswith("ey")
    plural_noun = f"{noun[:-1]}ies" if is_irregular else f"{noun}s"
    return f"{value:,} {noun if value == 1 else plural_noun}"


def say(line: str) -> None:
    """Write a line to stderr; a closed stderr isn't an error."""
    try:
        click.echo(line, err=True)
    except OSError:
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Discard output that can't be written: it would fail again at exit and change the code."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
