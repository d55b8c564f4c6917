"""Threads that run turns: no more than needed, none while nothing is due, and an end."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest

from streamclust.runtime.pool import Pool
from streamclust.runtime.scheduler import Turn, Wait
from tests.support.waiting import LIMIT, wait_until

Run = Callable[[Turn], Wait | None]


@contextmanager
def running(run: Run, threads: int, *models: str) -> Iterator[Pool]:
    """A pool and its waiting thread; at the end of the block all models must leave."""
    pool, stop = Pool(run, threads), threading.Event()
    for model in models:
        pool.add(model)
    waiting = threading.Thread(target=pool.wait, args=(stop,), daemon=True)
    waiting.start()
    try:
        yield pool
    finally:
        stop.set()
        waiting.join(LIMIT)
        assert not waiting.is_alive()


def unless_leaving(turn: Turn, wait: Wait) -> Wait | None:
    return None if turn.leaving else wait


def test_each_news_gives_a_turn_and_no_turn_comes_without() -> None:
    turns: Counter[str] = Counter()

    def run(turn: Turn) -> Wait | None:
        turns[turn.model] += 1
        return unless_leaving(turn, Wait())

    with running(run, 2, "a", "b") as pool:
        wait_until(lambda: turns == {"a": 1, "b": 1})
        for times in range(2, 50):
            pool.news("a")
            wait_until(lambda times=times: turns["a"] == times)  # type: ignore[misc]
        assert turns["b"] == 1
    assert turns == {"a": 50, "b": 2}  # the last one to leave


def test_a_time_that_comes_gives_a_turn() -> None:
    times: list[float] = []

    def run(turn: Turn) -> Wait | None:
        times.append(time.monotonic())
        return unless_leaving(turn, Wait(times[-1] + 0.02))

    with running(run, 2, "m"):
        wait_until(lambda: len(times) >= 5)
    pairs = pairwise(times[:5])
    assert all(later - before >= 0.02 for before, later in pairs)


def test_an_earlier_time_does_not_wait_for_a_later_one() -> None:
    turns: Counter[str] = Counter()

    def run(turn: Turn) -> Wait | None:
        turns[turn.model] += 1
        seconds = 3600.0 if turn.model == "late" else 0.01
        return unless_leaving(turn, Wait(time.monotonic() + seconds))

    with running(run, 2, "late") as pool:
        wait_until(lambda: turns["late"] == 1)
        pool.add("soon")
        wait_until(lambda: turns["soon"] >= 3)
    assert turns["late"] == 2


@pytest.mark.parametrize(("models", "limit", "expected"), [(1, 4, 1), (3, 2, 2), (100, 3, 3)])
def test_threads_start_when_they_are_needed(models: int, limit: int, expected: int) -> None:
    names = [f"m{number}" for number in range(models)]
    together = threading.Semaphore(0)
    busy, most, lock = 0, 0, threading.Lock()

    def run(turn: Turn) -> Wait | None:
        nonlocal busy, most
        if turn.leaving:
            return None
        with lock:
            busy += 1
            most = max(most, busy)
        together.acquire(timeout=LIMIT)
        with lock:
            busy -= 1
        return Wait()

    with running(run, limit, *names):
        wait_until(lambda: busy == expected)
        for _ in names:
            together.release()
    assert most == expected


def test_a_thread_that_hangs_is_replaced() -> None:
    released = threading.Event()
    turns: Counter[str] = Counter()

    def run(turn: Turn) -> Wait | None:
        turns[turn.model] += 1
        if turn.model == "hangs":
            released.wait(LIMIT)
        return unless_leaving(turn, Wait())

    with running(run, 1, "hangs", "other") as pool:
        wait_until(lambda: turns["hangs"] == 1)
        assert turns["other"] == 0
        wait_until(lambda: pool.seconds_late("other") > 0.0)
        pool.replace_thread("hangs")
        wait_until(lambda: turns["other"] == 1)
        released.set()


def test_turns_of_one_model_never_overlap_whatever_comes_while_they_run() -> None:
    names = [f"m{number}" for number in range(5)]
    inside: Counter[str] = Counter()
    turns: Counter[str] = Counter()
    overlapped = []

    def run(turn: Turn) -> Wait | None:
        inside[turn.model] += 1
        overlapped.append(inside[turn.model] > 1)
        turns[turn.model] += 1
        time.sleep(0.0)
        inside[turn.model] -= 1
        return unless_leaving(turn, Wait())

    with running(run, 4, *names) as pool:

        def hundred_turns() -> bool:
            for name in 200 * names:
                pool.news(name)
            return len(turns) == len(names) and min(turns.values()) > 100

        wait_until(hundred_turns)
    assert not any(overlapped)


def test_turns_have_the_context_of_the_pool() -> None:
    found: list[str] = []

    def run(turn: Turn) -> Wait | None:
        found.append(np.geterr()["divide"])
        return None

    with np.errstate(divide="raise"), running(run, 1, "m"):
        wait_until(lambda: found)
    assert found == ["raise"]


def test_a_system_that_refuses_the_first_thread_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuses(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def leaves(turn: Turn) -> Wait | None:
        return None

    pool = Pool(leaves, 2)
    monkeypatch.setattr(threading.Thread, "start", refuses)
    pool.add("m")
    with pytest.raises(RuntimeError, match="can't start new thread"):
        pool.wait(threading.Event())
