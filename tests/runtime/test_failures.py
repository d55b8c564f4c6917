"""Pauses between the retries of what can't continue."""

from __future__ import annotations

import pytest

from streamclust.runtime.failures import pause


def test_pauses_grow_from_half_a_second_to_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda _, high: high)
    pauses = [pause(tries) for tries in range(10)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    monkeypatch.setattr("random.uniform", lambda low, _: low)
    assert pause(10**6) == 30.0
