"""Numbers for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamclust.cli._render import number, numbers

ANY = st.floats(-1e300, 1e300)


@given(ANY)
def test_a_number_has_four_significant_digits_of_its_value(value: float) -> None:
    assert float(number(value).replace(",", "")) == pytest.approx(value, rel=5e-4, abs=0.0)


@given(st.lists(ANY, min_size=1), st.booleans())
def test_numbers_of_a_column_have_three_significant_digits_each(
    values: list[float], signed: bool
) -> None:
    for value, text in zip(values, numbers(values, signed=signed), strict=True):
        assert float(text.replace(",", "")) == pytest.approx(value, rel=6e-3, abs=0.0)
        assert text[0] in "+-" if signed and value else True


@given(st.lists(st.floats(0.01, 9.99), min_size=2))
def test_numbers_of_like_size_have_the_same_number_of_decimals(values: list[float]) -> None:
    assert len({len(text.partition(".")[2]) for text in numbers(values)}) == 1


def test_what_is_no_number_is_shown_as_such() -> None:
    assert numbers([float("nan"), 1.25, float("inf")]) == ["nan", "1.25", "inf"]
    assert numbers([2.639e-06, 0.0, -1.5e-06], signed=True) == ["+2.639e-06", "+0", "-1.500e-06"]
    assert number(None) == "-"
