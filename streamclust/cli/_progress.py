"""Progress bars on stderr, shown only on a terminal."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TypeVar

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
def point_progress(total: int | None) -> Iterator[Callable[[int], None] | None]:
    """Show a bar on a terminal, or only a count if the total is unknown."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with _bar(console, total) as bar:
        task = bar.add_task("", total=total)
        started = time.monotonic()

        def show(points: int) -> None:
            rate = points / max(time.monotonic() - started, 1e-3)
            bar.update(task, completed=points, description=f"{points:,} points, {rate:,.0f}/s")

        yield show


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
