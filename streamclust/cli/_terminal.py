"""The terminal, pipe or file that a command writes to: its width, its colours, its characters.

The width is that of the variable COLUMNS or else of the terminal. A pipe or file has no width: it
gets whole lines and all columns. Colours follow rich's rules: only on a terminal, or with
FORCE_COLOR; never with NO_COLOR or on a dumb terminal.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
import warnings
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import click

from streamclust.cli._render import say
from streamclust.text import BAR_LEVELS, printable

if TYPE_CHECKING:
    from rich.color import ColorSystem
    from rich.style import Style

BAD, WARNING, MUTED, HEADER = "bold red", "bold magenta", "dim", "bold"
"""Styles: colours of the terminal's own theme that are readable on dark and on light terminals, as
yellow isn't. Bold and dim remain where colours are off or look alike."""

_DEFAULT_WIDTH = 80


@dataclass(frozen=True)
class Terminal:
    """The output of a command.

    Parameters
    ----------
    width : int or None
        Columns; None for a pipe or file, which has no limit.
    colours : ColorSystem or None
        The codes that it understands; None for plain text.
    no_colour : bool
        Whether the user asked for no colours: only bold and dim are left.
    unicode : bool
        Whether its encoding has characters for bars and the ellipsis.
    interactive : bool
        Whether it is a terminal, rather than a pipe or file for which COLUMNS gives a width.
    """

    width: int | None = None
    colours: ColorSystem | None = None
    no_colour: bool = False
    unicode: bool = True
    interactive: bool = False

    @property
    def ellipsis(self) -> str:
        """Return the mark that stands for omitted characters."""
        return "…" if self.unicode else "..."

    def paint(self, text: str, style: str) -> str:
        """Return the text with the codes of a style, if the terminal understands them."""
        if self.colours is None or not style or not text:
            return text
        return _style(style, self.no_colour).render(text, color_system=self.colours)

    def fold(self, text: str) -> list[str]:
        """Return the lines of an error, remark or verdict: one line in a pipe or file."""
        return self.wrap(text) if self.interactive else [text]

    def wrap(self, text: str) -> list[str]:
        """Return the lines of a paragraph; no line is wider than the terminal."""
        if self.width is None or cells(text) <= self.width:
            return [text]
        from rich.console import Console
        from rich.text import Text

        console = Console(width=self.width, color_system=None)
        lines = Text(text).wrap(console, self.width, overflow="fold")
        return [line.plain.rstrip() for line in lines]


@cache
def _style(style: str, no_colour: bool) -> Style:
    from rich.style import Style

    found = Style.parse(style)
    return found.without_color if no_colour else found


def stdout_terminal() -> Terminal:
    """Return the terminal of standard output."""
    is_terminal = sys.stdout.isatty()
    colours, no_colour = None, False
    if is_terminal or os.environ.get("FORCE_COLOR"):
        from rich.color import ColorSystem
        from rich.console import Console

        console = Console()
        name = console.color_system
        no_colour = console.no_color
        colours = None if name is None else ColorSystem[_SYSTEMS.get(name, "STANDARD")]
    return Terminal(_width(is_terminal), colours, no_colour, _has_unicode(), is_terminal)


_SYSTEMS = {"256": "EIGHT_BIT", "truecolor": "TRUECOLOR", "windows": "WINDOWS"}


def _width(is_terminal: bool) -> int | None:
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    if not is_terminal:
        return None
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or _DEFAULT_WIDTH
    except (OSError, ValueError):
        return _DEFAULT_WIDTH


def _has_unicode() -> bool:
    try:
        f"{BAR_LEVELS}…".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def cells(text: str) -> int:
    """Return the number of columns that a text takes; East Asian characters take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def shorten(text: str, width: int, ellipsis: str = "…", *, at_end: bool = False) -> str:
    """Return a text of at most `width` columns, with its middle or end left out if it is longer.

    Examples
    --------
    >>> shorten("sensors-of-the-north-0001", 13), shorten("▁▂▃▄▅▆", 4, at_end=True)
    ('sensor…h-0001', '▁▂▃…')
    """
    if cells(text) <= width:
        return text
    from rich.cells import set_cell_size

    room = max(width - len(ellipsis), 0)
    tail = 0 if at_end else room // 2
    start = set_cell_size(text, room - tail).rstrip()
    end = set_cell_size(text[::-1], tail).rstrip()[::-1]
    return f"{start}{ellipsis}{end}" if width >= len(ellipsis) else ellipsis[:width]


def print_lines(lines: list[str]) -> None:
    """Write lines that are painted already to standard output."""
    if lines:
        click.echo("\n".join(lines), color=True)


def show_warnings_in_one_line() -> None:
    """Print warnings of streamclust in the form of an error; those of others as Python does."""
    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if category.__module__.startswith("streamclust"):
            say(f"warning: {printable(str(message))}")
        else:
            shown(message, category, *place, **more)

    warnings.showwarning = show


def prepare_streams() -> None:
    """Make sure that standard input, output and error are open and accept any text.

    If one of them was closed at the start, a socket or a file would get its number and receive its
    output. Characters that the encoding of a stream doesn't have are written in ASCII.
    """
    for fd, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(fd, mode, encoding="utf-8", closefd=False))
    codecs.register_error("streamclust", _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="streamclust")


_ASCII = str.maketrans(
    dict(zip(BAR_LEVELS, "_.:-=+*#", strict=True))
    | {"…": "...", "→": "->", "←": "<-", "×": "x", "·": ".", "─": "-", "━": "-", "│": "|"}
)


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace what a terminal's encoding lacks: bars and arrows by ASCII, the rest by escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_ASCII)
    return text.encode("ascii", "backslashreplace").decode(), error.end
