"""Ctrl-C, SIGTERM and SIGHUP raise KeyboardInterrupt once, and not during the clean-up."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Raises KeyboardInterrupt at the first signal, and ignores later ones.

    Within `shielded` the first signal takes effect at the end of the block. SIGINT and SIGHUP stay
    ignored if the command was started with them ignored (by ``&`` in a script, or by nohup).

    The module has only fast imports, because it also protects the imports of the other modules.
    """

    def __init__(self) -> None:
        self._previous: dict[int, Any] = {}
        self._raised = False
        self._shields = 0
        self._waiting = False

    def __enter__(self) -> Self:
        handled = [
            number
            for number in _SIGNALS
            if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN
        ]
        self._previous = {number: signal.signal(number, self._handle) for number in handled}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Delay signals until the end of the block."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
        if self._waiting and not self._shields:
            self._raise()

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self._shields:
            self._waiting = True
        else:
            self._raise()

    def _raise(self) -> None:
        self._waiting = False
        if not self._raised:
            self._raised = True
            raise KeyboardInterrupt
