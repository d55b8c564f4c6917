"""Ctrl-C in the gap between a look at a flag and a wait, twice, and where it is ignored."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from streamclust.cli._signals import CtrlC, Wakeup


@pytest.fixture
def silent() -> Iterator[int]:
    """A pipe to which nobody writes; but for half a minute only, so that a test can fail."""
    read_end, write_end = os.pipe()
    late = threading.Timer(30.0, os.write, [write_end, b"x"])
    late.daemon = True
    late.start()
    yield read_end
    late.cancel()
    late.join()
    os.close(read_end)
    os.close(write_end)


class Late(CtrlC):
    """One for which Ctrl-C is pressed right after the look at the flag, before the wait."""

    def _check(self) -> None:
        super()._check()
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_between_the_look_and_the_wait_ends_the_wait(silent: int) -> None:
    with Late() as ctrl_c:
        with pytest.raises(KeyboardInterrupt):
            ctrl_c.wait_for(silent)
        assert ctrl_c.is_set()


def test_ctrl_c_that_came_before_ends_the_wait(silent: int) -> None:
    with CtrlC() as ctrl_c:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            ctrl_c.wait_for(silent)
        assert list(ctrl_c.guard(iter([1, 2]))) == []


def test_python_s_own_handler_ends_the_wait_too(silent: int) -> None:
    with Wakeup() as wakeup, pytest.raises(KeyboardInterrupt):
        threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()
        wakeup.wait_for(silent)


def test_other_signals_do_not_end_the_wait() -> None:
    read_end, write_end = os.pipe()
    before = signal.signal(signal.SIGUSR1, lambda *_: os.write(write_end, b"x"))
    try:
        with CtrlC() as ctrl_c:
            signal.raise_signal(signal.SIGUSR1)
            ctrl_c.wait_for(read_end)
            assert os.read(read_end, 9) == b"x"
            assert not ctrl_c.is_set()
    finally:
        signal.signal(signal.SIGUSR1, before)
        os.close(read_end)
        os.close(write_end)


def test_a_second_ctrl_c_forces() -> None:
    with CtrlC() as ctrl_c:
        signal.raise_signal(signal.SIGINT)
        assert ctrl_c.is_set()
        assert ctrl_c.wait(3600)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_what_was_there_is_given_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with CtrlC() as ctrl_c:
        assert signal.getsignal(signal.SIGINT) != before
        assert not ctrl_c.wait(0)
    assert signal.getsignal(signal.SIGINT) == before
    assert signal.set_wakeup_fd(-1) == -1


def test_where_ctrl_c_is_ignored_it_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with CtrlC() as ctrl_c:
            signal.raise_signal(signal.SIGINT)
            assert not ctrl_c.is_set()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
