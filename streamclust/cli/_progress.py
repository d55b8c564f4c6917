"""Progress bars on stderr, shown only on a terminal."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console
    from rich.progress import Progress


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


def _bar(console: Console, total: int | None) -> Progress:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

    text = TextColumn("{task.description}")
    columns = (
        [SpinnerColumn(), text] if total is None else [BarColumn(), TaskProgressColumn(), text]
    )
    return Progress(*columns, console=console, transient=True)
