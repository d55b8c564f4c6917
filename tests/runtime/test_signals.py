"""Signals that ask a daemon to leave, wherever its main thread is."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from streamclust.runtime.signals import stop_on_signals
from tests.support.waiting import LIMIT

NUMBERS = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_sets_the_event_also_while_the_thread_holds_its_lock(
    number: signal.Signals,
) -> None:
    stop = threading.Event()
    with stop_on_signals(stop):
        with stop._cond:  # type: ignore[attr-defined]  # as inside of stop.wait
            signal.raise_signal(number)
        assert stop.wait(LIMIT)


def test_where_ctrl_c_is_ignored_it_stays_so_and_sigterm_counts() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop = threading.Event()
    try:
        with stop_on_signals(stop):
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert not stop.is_set()
            signal.raise_signal(signal.SIGTERM)
            assert stop.wait(LIMIT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_second_signal_leaves_at_once() -> None:
    code = (
        "import signal, threading\n"
        "from streamclust.runtime.signals import stop_on_signals\n"
        "with stop_on_signals(threading.Event()):\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    raise SystemExit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 130


def test_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    with stop_on_signals(threading.Event()):
        assert all(signal.getsignal(number) not in before for number in NUMBERS)
    assert [signal.getsignal(number) for number in NUMBERS] == before
