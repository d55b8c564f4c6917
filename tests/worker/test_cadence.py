"""Cadences: due after enough points or time."""

from __future__ import annotations

from streamclust.worker.cadence import AutoCadence, Cadence
from tests.support.clock import Clock


def due(cadence: Cadence) -> bool:
    return cadence.due


def test_it_is_due_after_so_many_points() -> None:
    cadence = Cadence(100, 3600.0, Clock())
    assert not due(cadence)
    cadence.count(60)
    cadence.count(39)
    assert not due(cadence)
    cadence.count(1)
    assert due(cadence)
    cadence.count(1000)
    assert due(cadence)


def test_it_is_due_after_so_much_time_with_any_points() -> None:
    clock = Clock()
    cadence = Cadence(100, 5.0, clock)
    cadence.count(1)
    clock.now += 4.99
    assert not due(cadence)
    clock.now += 0.01
    assert due(cadence)


def test_time_alone_makes_nothing_due() -> None:
    clock = Clock()
    cadence = Cadence(100, 5.0, clock)
    clock.now += 1e9
    assert not due(cadence)
    cadence.count(0)
    assert not due(cadence)
    cadence.count(1)  # the time since the last one has long passed
    assert due(cadence)


def test_a_reset_starts_both_counts_again() -> None:
    clock = Clock()
    cadence = Cadence(100, 5.0, clock)
    cadence.count(99)
    clock.now += 4.0
    cadence.reset()
    cadence.count(99)
    clock.now += 4.0
    assert not due(cadence)
    clock.now += 1.0
    assert due(cadence)
    cadence.reset()
    clock.now += 100.0
    assert not due(cadence)


def test_points_from_before_a_restart_count_too() -> None:
    clock = Clock()
    cadence = Cadence(100, 5.0, clock, counted=99)
    assert not due(cadence)
    clock.now += 5.0
    assert due(cadence)
    cadence.reset()
    cadence.count(1)
    assert cadence.counted == 1


def test_the_clock_of_the_system_is_the_default() -> None:
    cadence = Cadence(1, 3600.0)
    assert not due(cadence)
    cadence.count(1)
    assert due(cadence)


def seconds_until_due(cadence: AutoCadence, clock: Clock, points_per_second: int) -> float:
    """Feed points, ten times a second, until it is due."""
    cadence.reset()
    for tenth in range(1, 1_000):
        clock.now += 0.1
        if tenth % 10 == 1:
            cadence.count(points_per_second)
        if cadence.due:
            return tenth / 10
    raise AssertionError("never due")


def test_auto_waits_for_large_states_on_slow_feeds_only() -> None:
    clock = Clock()
    cadence = AutoCadence(1_000_000, clock)
    cadence.point_bytes = 128
    cadence.state_bytes = 3_000
    assert seconds_until_due(cadence, clock, 1) == 1.0
    cadence.state_bytes = 60_000
    assert 5.9 <= seconds_until_due(cadence, clock, 1) <= 6.1
    assert seconds_until_due(cadence, clock, 10_000) == 1.0
    cadence.state_bytes = 100_000_000
    assert 59.9 <= seconds_until_due(cadence, clock, 1) <= 60.1
    assert seconds_until_due(cadence, clock, 1_000_000) == 0.1


def test_auto_is_never_due_without_points() -> None:
    clock = Clock()
    cadence = AutoCadence(100, clock)
    clock.now += 1e6
    assert not due(cadence)


# ---- thresholds
