"""Turns on few threads for many models: in order, fair, and no news is lost."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from streamclust.runtime.scheduler import CREDIT, LONG, Scheduler, Turn, Wait


def run_all(scheduler: Scheduler, now: float, wait: Wait | None) -> list[str]:
    """Take and end a turn of each ready model, one after another; return their names."""
    names = []
    while (turn := scheduler.take(now)) is not None:
        names.append(turn.model)
        scheduler.ended(turn.model, now, wait)
    return names


# ---- one event at a time


def test_a_model_that_waits_for_news_gets_a_turn_only_after_news() -> None:
    scheduler = Scheduler(2)
    scheduler.add("m", 0.0)
    assert run_all(scheduler, 0.0, Wait()) == ["m"]
    assert scheduler.take(1e9) is None
    assert scheduler.next_due() is None
    assert scheduler.news("m", 5.0)
    assert run_all(scheduler, 5.0, Wait()) == ["m"]
    assert not scheduler.news("unknown", 5.0)


def test_a_model_that_waits_for_a_time_gets_its_turn_then() -> None:
    scheduler = Scheduler(2)
    scheduler.add("m", 0.0)
    run_all(scheduler, 0.0, Wait(3.0))
    assert scheduler.next_due() == 3.0
    assert scheduler.take(2.9) is None
    assert scheduler.take(3.0) == Turn("m", leaving=False)


def test_news_before_the_time_replaces_the_timer() -> None:
    scheduler = Scheduler(1)
    scheduler.add("m", 0.0)
    run_all(scheduler, 0.0, Wait(3.0))
    scheduler.news("m", 1.0)
    assert run_all(scheduler, 1.0, Wait(7.0)) == ["m"]
    assert scheduler.next_due() == 7.0
    assert scheduler.take(3.0) is None


def test_news_during_a_turn_gives_another_turn() -> None:
    scheduler = Scheduler(2)
    scheduler.add("m", 0.0)
    assert scheduler.take(0.0) is not None
    assert not scheduler.news("m", 0.1)
    assert scheduler.take(0.1) is None  # it runs, so it can't run twice
    scheduler.ended("m", 0.2, Wait())
    assert scheduler.take(0.2) == Turn("m", leaving=False)


def test_the_number_of_threads_limits_the_turns() -> None:
    scheduler = Scheduler(2)
    for name in "abc":
        scheduler.add(name, 0.0)
    assert [scheduler.take(0.0), scheduler.take(0.0)] == [Turn("a", False), Turn("b", False)]
    assert scheduler.take(0.0) is None
    assert scheduler.crowded
    scheduler.ended("a", 0.1, Wait())
    assert scheduler.take(0.1) == Turn("c", False)
    assert not scheduler.crowded


def test_after_a_stop_each_model_gets_turns_until_it_has_left() -> None:
    scheduler = Scheduler(2)
    for name in "abc":
        scheduler.add(name, 0.0)
    run_all(scheduler, 0.0, Wait(9.0))
    scheduler.news("a", 0.0)
    assert scheduler.take(0.0) == Turn("a", leaving=False)
    scheduler.stop(1.0)
    found = [scheduler.take(1.0)]
    scheduler.ended("b", 1.0, Wait(5.0))  # it isn't ready to leave yet
    scheduler.ended("a", 1.0, Wait())
    while (turn := scheduler.take(1.0)) is not None:
        found.append(turn)
        scheduler.ended(turn.model, 1.0, None)
    assert sorted(found) == [Turn(name, True) for name in "abbc"]  # type: ignore[type-var]
    assert len(scheduler) == 0


def test_a_thread_that_hangs_is_replaced_until_its_turn_ends() -> None:
    scheduler = Scheduler(1)
    for name in "ab":
        scheduler.add(name, 0.0)
    assert scheduler.take(0.0) == Turn("a", False)
    assert scheduler.take(600.0) is None
    assert scheduler.seconds_late("b", 600.0) == 600.0
    assert scheduler.hang("a")
    assert not scheduler.hang("a")
    assert not scheduler.hang("b")
    assert scheduler.take(600.0) == Turn("b", False)
    scheduler.ended("a", 700.0, Wait(700.0))
    scheduler.ended("b", 700.0, Wait(700.0))
    assert scheduler.take(700.0) is not None
    assert scheduler.take(700.0) is None


def test_lateness_counts_from_the_time_at_which_a_turn_was_due() -> None:
    scheduler = Scheduler(1)
    for name in "ab":
        scheduler.add(name, 0.0)
    run_all(scheduler, 0.0, Wait(5.0))
    assert scheduler.seconds_late("a", 4.0) == 0.0
    assert scheduler.seconds_late("a", 8.0) == 3.0
    scheduler.take(8.0)
    assert (scheduler.seconds_late("a", 9.0), scheduler.seconds_late("b", 9.0)) == (0.0, 1.0)
    assert scheduler.seconds_late("unknown", 9.0) == 0.0


# ---- fairness


def light_waits(heavy: int, seconds: float, threads: int = 2) -> float:
    """Return the longest wait of a model with one short turn per second, beside heavy models."""
    scheduler, now, longest = Scheduler(threads), 0.0, 0.0
    names = [f"heavy {number}" for number in range(heavy)]
    for name in (*names, "light"):
        scheduler.add(name, now)
    running: list[tuple[float, str]] = []
    asked = 0.0
    while now < 200.0:
        while (turn := scheduler.take(now)) is not None:
            if turn.model == "light":
                if now > 60.0:  # turns that are long for the first time hold others up
                    longest = max(longest, now - asked)
                asked = now + 1.0
            took = 0.001 if turn.model == "light" else seconds
            running.append((now + took, turn.model))
        ends, model = min(running, default=(float("inf"), ""))
        due = scheduler.next_due()
        if due is not None and due < ends:
            now = due
            continue
        now = ends
        running.remove((ends, model))
        scheduler.ended(model, now, Wait(asked) if model == "light" else Wait(now))
    return longest


def test_a_light_model_waits_for_one_turn_of_heavy_models_however_many() -> None:
    for heavy in (1, 3, 500):
        assert light_waits(heavy, 0.05) <= 0.051


def test_long_turns_leave_a_thread_to_the_others() -> None:
    for heavy in (1, 3, 20):
        assert light_waits(heavy, 10.0 * LONG) <= 0.01


def test_models_that_are_always_ready_share_the_threads_by_time() -> None:
    scheduler, now = Scheduler(1), 0.0
    used: dict[str, float] = {"cheap": 0.0, "dear": 0.0}
    costs = {"cheap": 0.001, "dear": 0.1}
    for name in costs:
        scheduler.add(name, now)
    while now < 100.0:
        turn = scheduler.take(now)
        assert turn is not None
        now += costs[turn.model]
        used[turn.model] += costs[turn.model]
        scheduler.ended(turn.model, now, Wait(now))
    assert used["cheap"] == pytest.approx(used["dear"], rel=0.01)


def test_a_model_that_slept_gets_a_limited_credit_for_it() -> None:
    scheduler, now = Scheduler(1), 0.0
    scheduler.add("sleeper", now)
    run_all(scheduler, now, Wait())
    scheduler.add("busy", now)
    for _ in range(1000):
        assert scheduler.take(now) == Turn("busy", False)
        now += 0.1
        scheduler.ended("busy", now, Wait(now))
    # When it wakes and has much to do
    scheduler.news("sleeper", now)
    found = []
    for _ in range(100):
        turn = scheduler.take(now)
        assert turn is not None
        found.append(turn.model)
        now += 0.1
        scheduler.ended(turn.model, now, Wait(now))
    # Then it is ahead for as long as its credit lasts, and after that the two take turns
    first = found.index("busy")
    assert 1 <= first <= round(CREDIT / 0.1) + 2
    assert Counter(found[first:])["busy"] == pytest.approx((100 - first) / 2, abs=1)


# ---- random interleavings


@dataclass
class Feed:
    """A stream, what its model has learned of it, and what the server has committed."""

    entries: int = 0
    armed: bool = False
    learned: int = 0
    committed: int = 0
    token: int = 0  # of the newest lease
    mine: int = 0  # the token under which the model's session runs
    log: list[tuple[int, int]] = field(default_factory=list)  # commits: from, up to


@dataclass
class Running:
    turn: Turn
    ends: float
    seen: int  # entries at the time of its read


class World:
    """Models, streams, threads and a server, of which everything can go wrong at random."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)  # noqa: S311
        self.now = 0.0
        self.scheduler = Scheduler(self.rng.choice([1, 2, 2, 4]))
        self.feeds: dict[str, Feed] = {}
        self.running: dict[str, Running] = {}
        self.announced: list[str] = []  # news that is still on its way
        self.stopping = False
        for number in range(self.rng.randint(1, 12)):
            self.find(f"m{number}")

    def find(self, name: str) -> None:
        self.feeds.setdefault(name, Feed())
        if name not in self.scheduler:
            self.scheduler.add(name, self.now)

    # -- what happens

    def entry_arrives(self) -> None:
        name = self.rng.choice(list(self.feeds))
        feed = self.feeds[name]
        feed.entries += self.rng.randint(1, 40)
        if feed.armed:
            feed.armed = False
            self.announced.append(name)

    def news_arrives(self) -> None:
        if self.announced:
            at = self.rng.randrange(len(self.announced))
            self.scheduler.news(self.announced.pop(at), self.now)

    def turn_begins(self) -> None:
        turn = self.scheduler.take(self.now)
        if turn is None:
            return
        assert turn.model not in self.running, "two turns of one model at the same time"
        assert len(self.running) < self.scheduler.threads
        feed = self.feeds[turn.model]
        if feed.mine != feed.token or not feed.token:  # it takes the lease, and loads the state
            feed.token += 1
            feed.mine, feed.learned = feed.token, feed.committed
        feed.armed = True  # before the read
        stall = self.rng.random() < 0.02
        ends = self.now + (self.rng.uniform(1.0, 5.0) if stall else self.rng.uniform(0.0, 0.02))
        self.running[turn.model] = Running(turn, ends, feed.entries)

    def turn_ends(self) -> None:
        over = [each for each in self.running.values() if each.ends <= self.now]
        if not over:
            return
        run = self.rng.choice(over)
        name, feed = run.turn.model, self.feeds[run.turn.model]
        del self.running[name]
        self.scheduler.ended(name, self.now, self._outcome(run, feed))

    def _outcome(self, run: Running, feed: Feed) -> Wait | None:
        feed.learned = min(run.seen, feed.learned + 100)
        behind = feed.learned < run.seen
        chance = self.rng.random()
        if chance < 0.03:  # the connection is lost, before or after the commit landed
            if chance < 0.015:
                self._commit(feed)
            feed.mine = 0
            return Wait(self.now + self.rng.uniform(0.0, 1.0))
        if chance < 0.5 or run.turn.leaving or feed.mine != feed.token:
            if not self._commit(feed):
                return Wait(self.now)  # the lease was lost
            if run.turn.leaving:
                feed.mine, feed.armed = 0, False
                return None
            return Wait(self.now if behind else None)
        return Wait(self.now if behind else self.now + 0.5)  # the commit comes later

    def _commit(self, feed: Feed) -> bool:
        if feed.mine != feed.token:
            return False
        if feed.learned > feed.committed:
            feed.log.append((feed.committed, feed.learned))
        feed.committed = feed.learned
        return True

    def lease_is_lost(self) -> None:
        name = self.rng.choice(list(self.feeds))
        self.feeds[name].token += 1
        self.scheduler.news(name, self.now)

    def turn_hangs(self) -> None:
        if self.running:
            self.scheduler.hang(self.rng.choice(list(self.running)))

    def model_comes_or_goes(self) -> None:
        name = f"m{self.rng.randint(0, 15)}"
        if name in self.scheduler:
            self.scheduler.remove(name, self.now)
        elif not self.stopping:
            self.find(name)

    def time_passes(self) -> None:
        times = [each.ends for each in self.running.values()]
        due = self.scheduler.next_due()
        times += [] if due is None else [due]
        self.now = max(self.now, min(times, default=self.now))

    def all_stop(self) -> None:
        self.stopping = True
        self.scheduler.stop(self.now)

    # -- the run

    def step(self) -> None:
        events = {
            self.entry_arrives: 20,
            self.news_arrives: 20,
            self.turn_begins: 40,
            self.turn_ends: 40,
            self.time_passes: 20,
            self.lease_is_lost: 1,
            self.turn_hangs: 1,
            self.model_comes_or_goes: 1,
        }
        self.rng.choices(list(events), list(events.values()))[0]()

    def settle(self) -> None:
        """Let everything that is under way come to its end, without new entries."""
        for _ in range(20_000):
            while self.announced:
                self.news_arrives()
            self.turn_begins()
            self.turn_ends()
            if self._is_quiet():
                return
            if not self.scheduler.crowded or len(self.running) >= self.scheduler.threads:
                self.time_passes()
        raise AssertionError("it never comes to rest")

    def _is_quiet(self) -> bool:
        return not (
            self.running
            or self.announced
            or self.scheduler.crowded
            or self.scheduler.next_due() is not None
        )

    def check(self) -> None:
        for name, feed in self.feeds.items():
            edges = [edge for commit in feed.log for edge in commit]
            assert edges == sorted(edges), f"{name}: out of order"
            assert sum(end - start for start, end in feed.log) == feed.committed, f"{name}: twice"
            if name in self.scheduler:
                assert feed.committed == feed.entries, f"{name}: a wake-up was lost"


SEEDS, STEPS = 40, 2_500
"""100,000 events in all."""


def test_no_interleaving_breaks_order_loses_news_or_learns_twice() -> None:
    for seed in range(SEEDS):
        world = World(seed)
        for _ in range(STEPS):
            world.step()
        try:
            world.settle()
            world.check()
            world.all_stop()
            world.settle()
            world.check()
            assert len(world.scheduler) == 0, "a model never left"
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def test_a_stop_in_the_middle_lets_every_model_leave() -> None:
    for seed in range(SEEDS):
        world = World(1000 + seed)
        stop_at = world.rng.randrange(500)
        for step in range(stop_at + 20):
            if step == stop_at:
                world.all_stop()
            world.step()
        world.settle()
        world.check()
        assert len(world.scheduler) == 0, f"seed {1000 + seed}: a model never left"
