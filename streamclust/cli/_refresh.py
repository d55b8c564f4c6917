"""A screen that is refreshed every few seconds, until Ctrl-C."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from streamclust.cli._terminal import MUTED, print_lines, stdout_terminal
from streamclust.cli.exit_codes import EXIT_INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import NoReturn


def refresh(read: Callable[[], list[str]], interval: float) -> NoReturn:
    """Show the lines of `read` every `interval` seconds until Ctrl-C or SIGTERM.

    On a terminal the lines replace the previous ones, and the last ones stay. Lines below the
    bottom of the terminal are left out until the end. In a pipe or file, the lines follow the
    previous ones after an empty line.
    """
    try:
        with _in_place(interval) if _can_move() else _in_sequence() as draw:
            while True:
                draw(read())
                time.sleep(interval)
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None


def _can_move() -> bool:
    """Return whether standard output is a terminal that can move its cursor."""
    from rich.console import Console

    return sys.stdout.isatty() and not Console().is_dumb_terminal


@contextmanager
def _in_sequence() -> Iterator[Callable[[list[str]], None]]:
    first = True

    def draw(lines: list[str]) -> None:
        nonlocal first
        print_lines(lines if first else ["", *lines])
        first = False

    yield draw


@contextmanager
def _in_place(interval: float) -> Iterator[Callable[[list[str]], None]]:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    hint = f"every {interval:g} s; Ctrl-C ends"
    console = Console(highlight=False)
    live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)

    def draw(lines: list[str]) -> None:
        painted = "\n".join([*lines, stdout_terminal().paint(hint, MUTED)])
        text = Text.from_ansi(painted, no_wrap=True, overflow="crop")
        live.update(text, refresh=True)

    previous = signal.signal(signal.SIGTERM, _end)
    try:
        with live:  # hides the cursor, and shows it again at the end
            yield draw
    finally:
        signal.signal(signal.SIGTERM, previous)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
