"""Charts made of characters: a curve, a strip of colours, bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rich.color import Color
from rich.style import Style
from rich.text import Text

from streamclust.text import BAR_LEVELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamclust.arrays import Array, Labels

_COMPONENT_COLOURS = (
    "#5555bb",
    "#ddaa33",
    "#117733",
    "#cc6677",
    "#44aadd",
    "#882255",
    "#44aa99",
    "#777777",
    "#999933",
    "#aa4499",
)
"""Ten colours that colour-blind people can distinguish, on white and on black (Paul Tol)."""

_LUMINANCE = np.array([0.299, 0.587, 0.114])


def spark(points: Sequence[int], values: Sequence[float], total: int, width: int) -> str:
    """Return the values as a curve over 0 to `total` points; future points are blank.

    The lowest 10 % and the highest 2 % of the values are clipped. A column without a value repeats
    the previous one.
    """
    if not values:
        return ""
    low, high = np.percentile(values, [10, 98])
    span = high - low or 1.0
    columns = np.minimum(np.asarray(points) * width // total, width - 1)
    heights = np.clip((np.asarray(values) - low) / span, 0.0, 1.0) * (len(BAR_LEVELS) - 1)
    cells = [" "] * int(columns[0])
    for column in range(columns[0], columns[-1] + 1):
        here = heights[columns == column]
        cells.append(BAR_LEVELS[round(float(here.mean()))] if len(here) else cells[-1])
    return "".join(cells)


def colour_strip(colours: Array, rows: int = 2) -> Text:
    """Return a block for each colour (0 to 255 each), dark to light, on `rows` lines."""
    strip = Text(no_wrap=True, overflow="crop")
    for row in range(rows):
        for colour in colours[by_luminance(colours)]:
            r, g, b = np.clip(np.round(colour), 0, 255).astype(int).tolist()
            strip.append("█", Style(color=Color.from_rgb(r, g, b)))
        strip.append("\n" if row < rows - 1 else "")
    return strip


def by_luminance(colours: Array) -> Labels:
    """Return the order of the colours from dark to light."""
    return np.argsort(colours @ _LUMINANCE, kind="stable")


def weight_bars(weights: Array, width: int) -> Text:
    """Return a bar for each weight, with a height relative to the largest weight."""
    steps = np.round(weights / weights.max() * (len(BAR_LEVELS) - 1)).astype(int)
    bars = Text()
    for number, step in enumerate(steps):
        bars.append(BAR_LEVELS[step] * (width // len(weights) - 1), component_colour(number))
        bars.append(" ")
    return bars


def component_colour(number: int) -> str:
    """Return the colour of a component, on the terminal and in the charts."""
    return _COMPONENT_COLOURS[number % len(_COMPONENT_COLOURS)]
