"""Progress bars on stderr, shown only on a terminal."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.console import Console
    from rich.progress import Progress

T = TypeVar("T")

_LATE = 1.0
"""Seconds after which the progress of a read is shown."""

_EACH = 128
"""Rows between two looks at the clock."""


@contextmanager
def point_progress(total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal, or only a count if the total is unknown."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with _bar(console, total) as bar:
        task = bar.add_task("", total=total)
        started = time.monotonic()

        def show(points: int) -> None:
            rate = points / max(time.monotonic() - started, 1e-3)
            bar.update(task, completed=points, description=f"{points:,} points, {rate:,.0f}/s")

        yield show


class PassProgress:
    """Shows the parts of each pass over many points, with a text; on a terminal only."""

    def __init__(self, bar: Progress | None, words: str) -> None:
        self._bar, self._words, self._points = bar, words, 0
        self._task = None if bar is None else bar.add_task(words, total=None)

    def on_points(self, count: int) -> None:
        """Show the number of points that were read in this pass."""
        self._points = count

    def on_part(self, done: int, total: int) -> None:
        """Show how many parts of this pass are done."""
        read = f"part {done:,}/{total:,}" if total else f"{self._points:,} points"
        words = f"{self._words}; {read}"
        self._update(description=words, total=total or None, completed=done)

    def show(self, words: str) -> None:
        """Show a text, until the next call."""
        self._words = words
        self._update(description=words)

    def _update(self, **fields: Any) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, **fields)


@contextmanager
def pass_progress(words: str) -> Iterator[PassProgress]:
    """Show the progress of passes on a terminal, beginning with a text."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield PassProgress(None, words)
        return
    columns = (BarColumn(8), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        yield PassProgress(bar, words)


def reading_progress(rows: Iterable[T], total: int, noun: str) -> Iterator[T]:
    """Yield rows; after a second, show on stderr how many have been read, if it is a terminal."""
    if not sys.stderr.isatty():
        yield from rows
        return
    from rich.console import Console

    late, bar = time.monotonic() + _LATE, None
    with ExitStack() as stack:
        for number, row in enumerate(rows, 1):
            if number % _EACH == 0:
                if bar is None and time.monotonic() > late:
                    bar = stack.enter_context(_bar(Console(stderr=True), total))
                    bar.add_task("", total=total)
                if bar is not None:
                    text = f"{number:,} of {total:,} {noun} read"
                    bar.update(bar.task_ids[0], completed=number, description=text)
            yield row


def _bar(console: Console, total: int | None) -> Progress:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

    text = TextColumn("{task.description}")
    columns = (
        [SpinnerColumn(), text] if total is None else [BarColumn(), TaskProgressColumn(), text]
    )
    return Progress(*columns, console=console, transient=True)
