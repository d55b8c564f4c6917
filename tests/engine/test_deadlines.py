"""When a part is no longer waited for."""

from __future__ import annotations

from streamclust.engine.deadlines import UNKNOWN, Deadlines


def with_median(slots: int, seconds: float) -> Deadlines:
    """Deadlines after ten parts that took so long, at the time 100."""
    deadlines = Deadlines(slots)
    for part in range(10):
        deadlines.submitted(("earlier", part), 100.0 - seconds)
        assert deadlines.arrived(("earlier", part), 100.0)
    return deadlines


def test_a_deadline_is_five_medians_and_at_least_a_second() -> None:
    assert Deadlines(1).limit == UNKNOWN
    assert with_median(1, 0.01).limit == 1.0
    assert with_median(1, 2.0).limit == 10.0


def test_one_part_in_time_moves_no_deadline_of_another() -> None:
    deadlines = with_median(2, 1.0)
    deadlines.submitted("slow", 100.0)
    deadlines.submitted("fast", 100.0)
    assert deadlines.arrived("fast", 101.0)
    assert deadlines.overdue(104.9) is None
    assert deadlines.overdue(105.0) == "slow"
    assert not deadlines.silent  # another worker answered meanwhile


def test_a_late_result_is_not_needed_and_counts_in_the_median() -> None:
    deadlines = with_median(2, 1.0)
    deadlines.submitted("slow", 100.0)
    assert deadlines.overdue(105.0) == "slow"
    assert not deadlines.arrived("slow", 109.0)
    assert not deadlines.arrived("slow", 110.0)
    assert not deadlines.lost("slow")


def test_workers_that_are_all_silent_are_not_waited_for_again() -> None:
    deadlines = with_median(2, 1.0)
    for part in range(4):
        deadlines.submitted(part, 100.0 + part)
    assert deadlines.room == 0
    assert deadlines.overdue(105.0) == 0
    assert deadlines.silent
    assert [deadlines.overdue(105.0) for _ in range(4)] == [1, 2, 3, None]
    assert deadlines.room == 0
    assert not deadlines.arrived(0, 120.0)
    assert not deadlines.silent
    assert deadlines.room == 1  # the other three may never arrive


def test_a_worker_that_keeps_its_parts_is_given_no_more_than_two_per_slot() -> None:
    deadlines = with_median(2, 1.0)
    for part in ("kept", "kept too", "a", "b"):
        deadlines.submitted(part, 100.0)
    deadlines.arrived("a", 101.0)
    deadlines.arrived("b", 101.0)
    assert {deadlines.overdue(105.0), deadlines.overdue(105.0)} == {"kept", "kept too"}
    assert deadlines.room == 2
    assert deadlines.lost("kept") is False
    assert deadlines.room == 3


def test_after_all_late_parts_are_lost_the_workers_get_another_chance() -> None:
    deadlines = with_median(1, 1.0)
    deadlines.submitted("a", 100.0)
    deadlines.overdue(105.0)
    assert deadlines.silent
    deadlines.lost("a")
    assert not deadlines.silent
    assert deadlines.room == 2


def test_a_lost_part_is_needed_until_it_is_computed_here() -> None:
    deadlines = with_median(1, 1.0)
    deadlines.submitted("a", 100.0)
    assert deadlines.lost("a")
    assert not deadlines.lost("a")
    assert deadlines.next is None


def test_parts_of_a_fold_that_ended_are_late() -> None:
    deadlines = with_median(1, 1.0)
    deadlines.submitted("a", 100.0)
    deadlines.abandon()
    assert deadlines.next is None
    assert deadlines.room == 1
    assert not deadlines.arrived("a", 101.0)
    assert deadlines.room == 2
