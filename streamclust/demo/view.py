"""The view of the running demonstration: live on a terminal, else plain lines."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from streamclust.demo.plan import TITLES
from streamclust.demo.terminal_charts import colour_strip, spark, weight_bars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console, RenderableType

    from streamclust.demo.feeding import Feeding
    from streamclust.demo.recorder import Recorder

    Show = Callable[[Feeding], None]

_LINE_SECONDS = 2.0
"""Seconds between two plain lines of progress."""

_WIDEST = 110
_LABEL = 8
"""Width of the names of the charts."""

SCORES = {
    "inertia": ("inertia per pixel", "lower is better"),
    "log_likelihood": ("log-likelihood per reading", "higher is better"),
}
"""Name and direction of each score."""


class View(Protocol):
    """Shows the steps and the progress of the demonstration."""

    def say(self, text: str) -> None:
        """Announce the next step."""

    def working(self, text: str) -> AbstractContextManager[None]:
        """Show a step during the block, and its duration at the end."""

    def live(self) -> AbstractContextManager[Show]:
        """Give a function that shows the progress of learning."""


class PlainView:
    """Lines of text, for pipes and logs."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, highlight=False, soft_wrap=True)

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Print a line before, and one after."""
        self.say(f"{text} ...")
        started = time.monotonic()
        yield
        self.say(f"  done in {time.monotonic() - started:.1f} s")

    @contextmanager
    def live(self) -> Iterator[Show]:
        """Print one line per model every few seconds."""
        due = time.monotonic()

        def show(feeding: Feeding) -> None:
            nonlocal due
            if time.monotonic() >= due:
                due += _LINE_SECONDS
                for model in (feeding.palette, feeding.shuttle):
                    self.say(f"  {model.name} ({model.feeding}): {facts(model)}, {score(model)}")

        yield show


class LiveView:
    """Panels that are redrawn in place, on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, text: str) -> None:
        """Print a line with a mark before it."""
        self._console.print(f"[cyan]•[/] {text}", highlight=False)

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Show a spinner, then a line with the time that it took."""
        started = time.monotonic()
        with self._console.status(text):
            yield
        self.say(f"{text} [dim]({time.monotonic() - started:.1f} s)[/]")

    @contextmanager
    def live(self) -> Iterator[Show]:
        """Redraw one panel per model."""
        width = min(self._console.width, _WIDEST)
        with Live(console=self._console, auto_refresh=False) as display:
            yield lambda feeding: display.update(frame(feeding, width), refresh=True)


def frame(feeding: Feeding, width: int) -> RenderableType:
    """Return the current picture."""
    palette = feeding.palette.newest
    mixture = feeding.shuttle.newest
    inner = width - 4 - _LABEL
    colours = "" if palette is None else colour_strip(palette.means)
    weights = "" if mixture is None else weight_bars(mixture.params.weights, min(64, inner))
    return Group(
        _panel(feeding.palette, "colours", colours, width),
        _panel(feeding.shuttle, "weights", weights, width),
        Text(f" {feeding.seconds:4.1f} s   Ctrl-C stops", style="dim"),
    )


def _panel(recorder: Recorder, name: str, strip: RenderableType, width: int) -> Panel:
    inner = width - 4
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        Text(f"{recorder.feeding:<10}", style="bold"),
        ProgressBar(recorder.total, recorder.learned, width=inner - 16),
        f"{recorder.learned / recorder.total:4.0%}",
    )
    curve = spark(*recorder.scores(), recorder.total, inner - _LABEL)
    charts = Table.grid()
    charts.add_column(width=_LABEL, style="dim")
    charts.add_column(no_wrap=True)
    charts.add_row("score", Text(curve, style="cyan"))
    charts.add_row(name, strip)
    lines = (bar, Text(facts(recorder)), Text(score(recorder)), charts)
    return Panel(Group(*lines), title=TITLES[recorder.name], title_align="left", width=width)


def facts(recorder: Recorder) -> str:
    """Return version, points, rate and lag in words."""
    if recorder.newest is None:
        return f"waiting for the first version ({recorder.sent:,} points sent)"
    return (
        f"version {recorder.newest.version}, {recorder.learned:,} points, "
        f"{recorder.rate:,.0f}/s, lag {recorder.lag:,}"
    )


def score(recorder: Recorder) -> str:
    """Return the newest prequential score in words."""
    model = recorder.newest
    if model is None or model.score is None:
        return "no score yet"
    name, direction = SCORES[model.score_name]
    return f"{name} {model.score:,.2f} ({direction}; scored before learning)"
