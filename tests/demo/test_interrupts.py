from __future__ import annotations

import signal

import pytest

from streamclust.demo.interrupts import Interrupts

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_interrupts(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), Interrupts():
        signal.raise_signal(number)


def test_the_second_signal_is_ignored_so_that_tidying_up_is_not_cut_short() -> None:
    tidied = False
    with Interrupts():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            tidied = True
    assert tidied


def test_a_shield_puts_the_signal_off_until_its_end() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        with interrupts.shielded():
            signal.raise_signal(signal.SIGINT)
            with interrupts.shielded():
                done.append("inner")
            done.append("outer")
        done.append("never")
    assert done == ["inner", "outer"]


def test_a_fault_within_a_shield_is_not_hidden_by_the_signal() -> None:
    with Interrupts() as interrupts:
        with pytest.raises(ValueError, match="fault"), interrupts.shielded():
            signal.raise_signal(signal.SIGINT)
            raise ValueError("fault")
        with pytest.raises(KeyboardInterrupt), interrupts.shielded():
            pass


def test_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interrupts():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_is_ignored_stays_ignored_and_sigterm_counts(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt), Interrupts():
            signal.raise_signal(number)
            assert signal.getsignal(number) is signal.SIG_IGN
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(number, before)
