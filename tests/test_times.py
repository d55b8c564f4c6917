"""Times for people and for programs."""

from __future__ import annotations

import re
import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamclust.times import ago, iso_time, local_time

MINUTE, HOUR, DAY = 60, 3600, 86_400


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
