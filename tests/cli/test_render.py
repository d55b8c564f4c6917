"""Numbers and times for people."""

from __future__ import annotations

import re
import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamclust.cli._render import ago, iso_time, local_time, number, numbers

ANY = st.floats(-1e300, 1e300)
MINUTE, HOUR, DAY = 60, 3600, 86_400


@given(ANY)
def test_a_number_has_four_significant_digits_of_its_value(value: float) -> None:
    assert float(number(value).replace(",", "")) == pytest.approx(value, rel=5e-4, abs=0.0)


@given(st.lists(ANY, min_size=1), st.booleans())
def test_numbers_of_a_column_have_three_significant_digits_each(
    values: list[float], signed: bool
) -> None:
    for value, text in zip(values, numbers(values, signed=signed), strict=True):
        assert float(text) == pytest.approx(value, rel=6e-3, abs=0.0)
        assert text[0] in "+-" if signed and value else True


@given(st.lists(st.floats(0.01, 9.99), min_size=2))
def test_numbers_of_like_size_have_the_same_number_of_decimals(values: list[float]) -> None:
    assert len({len(text.partition(".")[2]) for text in numbers(values)}) == 1


def test_what_is_no_number_is_shown_as_such() -> None:
    assert numbers([float("nan"), 1.25, float("inf")]) == ["nan", "1.25", "inf"]
    assert number(None) == "-"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "just now"),
        (-0.9, "just now"),
        (12, "12 s ago"),
        (3 * MINUTE + 59, "3 min ago"),
        (26 * HOUR, "1 d ago"),
        (23 * HOUR, "23 h ago"),
        (4000 * DAY, "4,000 d ago"),
        (-3 * MINUTE, "in 3 min"),
    ],
)
def test_an_age_is_in_its_largest_unit(seconds: float, words: str) -> None:
    assert ago(1e12, now=1e9 + seconds) == words


def test_an_absolute_time_has_the_zone_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Zurich")
        time.tzset()
        assert local_time(1_767_225_600_000) == "2026-01-01 01:00:00 CET"
        assert local_time(1_782_864_000_000) == "2026-07-01 02:00:00 CEST"
    time.tzset()


def test_json_has_times_in_utc() -> None:
    text = iso_time(1_767_225_600_123)
    assert text == "2026-01-01T00:00:00.123Z"
    assert datetime.fromisoformat(text).timestamp() == 1_767_225_600.123


@given(st.one_of(st.none(), st.floats(), st.integers(0, 2**64)))
def test_an_event_time_from_a_producers_id_is_never_an_error(time_ms: float | None) -> None:
    assert re.fullmatch(r"-|\d{4,}-\d\d-\d\d \d\d:\d\d:\d\d \S*", local_time(time_ms))
    assert ago(time_ms)
    assert (iso_time(time_ms) is None) == (local_time(time_ms) == "-")
