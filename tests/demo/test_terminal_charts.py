from __future__ import annotations

import numpy as np
import pytest
from rich.color_triplet import ColorTriplet
from rich.console import Console
from rich.text import Text

from streamclust.demo.terminal_charts import by_luminance, colour_strip, spark, weight_bars


def colours_of(strip: Text) -> list[ColorTriplet]:
    """The colour of each block, as it is drawn."""
    segments = strip.render(Console(color_system="truecolor"))
    styles = [segment.style for segment in segments if "█" in segment.text]
    return [
        style.color.triplet for style in styles if style and style.color and style.color.triplet
    ]


def test_curve_has_a_column_for_each_part_of_the_feed() -> None:
    assert spark([10, 30, 50, 70], [0.0, 1.0, 2.0, 3.0], total=80, width=4) == "▁▃▆█"


def test_curve_leaves_blank_what_is_to_come() -> None:
    assert spark([10, 30], [2.0, 1.0], total=80, width=4) == "█▁"


def test_curve_fills_columns_without_a_value() -> None:
    assert spark([0, 30, 79], [0.0, 1.0, 0.0], total=80, width=8) == "▁▁▁████▁"


def test_curve_of_nothing_is_empty_and_of_one_level_is_flat() -> None:
    assert spark([], [], total=80, width=4) == ""
    assert spark([10, 30], [5.0, 5.0], total=40, width=2) == "▁▁"


def test_one_wild_value_does_not_flatten_the_curve() -> None:
    values = [-1e9, *np.linspace(0.0, 1.0, 99)]
    curve = spark(list(range(100)), values, total=100, width=100)
    assert set(curve) == set("▁▂▃▄▅▆▇█")


def test_strip_is_ordered_from_dark_to_light() -> None:
    colours = np.array(
        [[255.0, 255.0, 255.0], [0.0, 0.0, 0.0], [0.0, 0.0, 255.0], [0.0, 200.0, 0.0]]
    )
    assert by_luminance(colours).tolist() == [1, 2, 3, 0]
    expected = [(0, 0, 0), (0, 0, 255), (0, 200, 0), (255, 255, 255)]
    assert [tuple(c) for c in colours_of(colour_strip(colours, rows=1))] == expected


def test_strip_repeats_its_row_and_clips_what_no_screen_can_show() -> None:
    strip = colour_strip(np.array([[-3.0, 256.0, 7.6]]), rows=2)
    assert strip.plain == "█\n█"
    assert [tuple(c) for c in colours_of(strip)] == [(0, 255, 8), (0, 255, 8)]


@pytest.mark.parametrize("width", [20, 64])
def test_bars_have_the_heights_of_the_weights(width: int) -> None:
    bars = weight_bars(np.array([0.5, 0.25, 0.0, 0.25]), width)
    size = width // 4 - 1
    assert bars.plain.split() == ["█" * size, "▅" * size, "▁" * size, "▅" * size]
    assert len(bars.plain) <= width
