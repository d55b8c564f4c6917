"""When a part is no longer waited for."""

from __future__ import annotations

from streamclust.engine.deadlines import UNKNOWN, Deadlines


def with_median(slots: int, seconds: float) -> Deadlines:
    """Deadlines after ten parts that took so long, at the time 100."""
    deadlines = Deadlines(slots)
    for part in range(10):
        deadlines.submitted("earlier", part, 100.0 - seconds)
        assert deadlines.arrived("earlier", part, 100.0)
    return deadlines


def test_a_deadline_is_five_medians_and_at_least_a_second() -> None:
    assert Deadlines(1).limit() == UNKNOWN
    assert with_median(1, 0.01).limit() == 1.0
    assert with_median(1, 2.0).limit() == 10.0


def test_a_part_in_time_moves_no_deadline_of_another() -> None:
    deadlines = with_median(2, 1.0)
    deadlines.submitted("a", 0, 100.0)
    deadlines.submitted("a", 1, 100.0)
    assert deadlines.arrived("a", 1, 101.0)
    assert deadlines.overdue("a", 104.9) is None
    assert deadlines.overdue("a", 105.0) == 0
    assert deadlines.room == 3


def test_a_late_result_is_not_needed_and_counts_in_the_median() -> None:
    deadlines = with_median(2, 0.5)
    deadlines.submitted("a", 0, 100.0)
    assert deadlines.overdue("a", 102.5) == 0
    for _ in range(2):
        assert not deadlines.arrived("a", 0, 160.0)
    assert not deadlines.lost("a", 0)
    for part in range(10):
        deadlines.submitted("a", part, 100.0)
        deadlines.arrived("a", part, 160.0)
    assert deadlines.limit() == 300.0


def test_workers_that_do_not_answer_get_two_parts_per_slot_and_no_more() -> None:
    deadlines = with_median(2, 1.0)
    for part in range(4):
        deadlines.submitted("a", part, 100.0)
    assert deadlines.room == 0
    assert [deadlines.overdue("a", 105.0) for _ in range(5)] == [0, 1, 2, 3, None]
    assert (deadlines.room, deadlines.outstanding) == (0, 0)
    assert not deadlines.arrived("a", 0, 120.0)
    assert not deadlines.lost("a", 1)
    assert deadlines.room == 2


def test_a_late_part_takes_no_room_once_its_worker_is_known() -> None:
    deadlines = with_median(2, 1.0)
    deadlines.submitted("a", 0, 100.0)
    deadlines.located("a", 0)
    assert deadlines.room == 3  # it isn't late yet
    deadlines.overdue("a", 105.0)
    deadlines.slots = 1
    assert deadlines.room == 1
    deadlines.located("a", 0)
    assert deadlines.room == 2
    deadlines.slots = 2
    assert not deadlines.arrived("a", 0, 106.0)
    assert deadlines.room == 4


def test_a_lost_part_is_needed_until_it_is_computed_here() -> None:
    deadlines = with_median(1, 1.0)
    deadlines.submitted("a", 0, 100.0)
    assert deadlines.lost("a", 0)
    assert not deadlines.lost("a", 0)
    assert deadlines.next("a") is None


def test_folds_share_the_room_and_have_deadlines_of_their_own() -> None:
    deadlines = with_median(1, 1.0)
    deadlines.submitted("a", 0, 100.0)
    deadlines.submitted("b", 0, 103.0)
    assert (deadlines.room, deadlines.outstanding) == (0, 2)
    assert (deadlines.next("a"), deadlines.next("b")) == (105.0, 108.0)
    assert deadlines.overdue("b", 105.0) is None
    assert deadlines.arrived("b", 0, 105.0)
    assert deadlines.overdue("a", 105.0) == 0


def test_parts_of_a_fold_that_ended_are_late() -> None:
    deadlines = with_median(1, 1.0)
    deadlines.submitted("a", 0, 100.0)
    deadlines.end("a")
    assert deadlines.next("a") is None
    assert (deadlines.room, deadlines.outstanding) == (1, 0)
    assert not deadlines.arrived("a", 0, 101.0)
    assert deadlines.room == 2


def test_each_kind_of_parts_has_deadlines_of_its_own() -> None:
    deadlines = with_median(2, 1.0)
    deadlines.submitted("a", 0, 100.0, "long")
    deadlines.submitted("b", 0, 100.0)
    assert (deadlines.next("a"), deadlines.next("b")) == (100.0 + UNKNOWN, 105.0)
    assert deadlines.overdue("b", 105.0) == 0
    assert deadlines.arrived("a", 0, 106.0)
    assert (deadlines.limit("long"), deadlines.limit()) == (30.0, 5.0)
