"""Tables that fit the terminal: a number is never cut, and no line is wider than the terminal.

A table that doesn't fit becomes narrower in this order: long texts are shortened in the middle,
optional columns are left out, and finally each row becomes a block with one line per column.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from streamclust.cli._terminal import HEADER, Terminal, cells, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_GAP = "  "
_LONG_TEXT = 12
"""Width to which texts may always be shortened."""

_SHORT_TEXT = 8
"""Width to which texts may be shortened after optional columns were left out."""


class Styled(NamedTuple):
    """A cell with a style."""

    text: str
    style: str


Cell = str | Styled


@dataclass(eq=False)
class Column:
    """A column of a table.

    Parameters
    ----------
    header : str
    right : bool
        Whether cells are aligned on the right, as numbers are. Such cells are never shortened.
    bars : bool
        Whether the cells are bars. Long bars lose their end, and other long texts their middle.
        Bars are left out if the terminal has no characters for them.
    whole : bool
        Whether texts are never shortened.
    cells : list of str or Styled
    """

    header: str
    right: bool = False
    bars: bool = False
    whole: bool = False
    cells: list[Cell] = field(default_factory=list)

    @property
    def width(self) -> int:
        """Columns of the terminal that the widest cell takes."""
        return max(cells(self.header), *(cells(_text(cell)) for cell in self.cells), 0)


@dataclass(eq=False)
class Table:
    """Columns of equal length."""

    columns: list[Column] = field(default_factory=list)

    def add_column(
        self,
        header: str,
        justify: str = "left",
        *,
        bars: bool = False,
        whole: bool = False,
    ) -> Column:
        """Add an empty column of texts, or of numbers if it is justified 'right'."""
        self.columns.append(Column(header, justify == "right", bars, whole))
        return self.columns[-1]

    def add_row(self, *row: Cell) -> None:
        """Add a cell to each column."""
        for column, cell in zip(self.columns, row, strict=True):
            column.cells.append(cell)

    def __len__(self) -> int:
        return len(self.columns[0].cells) if self.columns else 0


class Layout(NamedTuple):
    """A table as text.

    Parameters
    ----------
    lines : list of str
        Header and rows.
    hidden : list of Column
        The columns that are left out.
    header : str
        The first of the lines; empty if each row is a block of lines.
    """

    lines: list[str]
    hidden: list[Column]
    header: str = ""


def lay_out(table: Table, terminal: Terminal, optional: Iterable[Column] = ()) -> Layout:
    """Return the lines of a table.

    Parameters
    ----------
    table : Table
    terminal : Terminal
    optional : iterable of Column
        Columns to leave out, in this order, while the table is wider than the terminal.
    """
    widths = {id(column): column.width for column in table.columns}
    kept = [column for column in table.columns if terminal.unicode or not column.bars]
    hidden = [column for column in table.columns if column not in kept]
    if terminal.width is not None:
        _shrink(kept, widths, terminal.width, max(terminal.width // 3, _LONG_TEXT))
        for column in optional:
            if _total(kept, widths) <= terminal.width:
                break
            if column in kept:
                kept.remove(column)
                hidden.append(column)
        _shrink(kept, widths, terminal.width, _SHORT_TEXT)
        if _total(kept, widths) > terminal.width:
            return Layout(_blocks(kept, terminal), hidden)
    rows = [_line(kept, widths, terminal, [Styled(column.header, HEADER) for column in kept])]
    for row in zip(*(column.cells for column in kept), strict=True):
        rows.append(_line(kept, widths, terminal, row))
    return Layout(rows, hidden, rows[0])


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell.text


def _total(columns: Sequence[Column], widths: dict[int, int]) -> int:
    gaps = len(_GAP) * max(len(columns) - 1, 0)
    return gaps + sum(widths[id(column)] for column in columns)


def _shrink(columns: Sequence[Column], widths: dict[int, int], width: int, least: int) -> None:
    """Reduce the widths of the texts, the widest first, down to `least`, until the table fits."""
    texts = [column for column in columns if not (column.right or column.whole)]
    for column in sorted(texts, key=lambda each: -widths[id(each)]):
        excess = _total(columns, widths) - width
        if excess > 0:
            smallest = max(least, cells(column.header))
            widths[id(column)] = max(widths[id(column)] - excess, min(smallest, widths[id(column)]))


def _line(
    columns: Sequence[Column], widths: dict[int, int], terminal: Terminal, row: Sequence[Cell]
) -> str:
    parts = []
    for place, (column, cell) in enumerate(zip(columns, row, strict=True)):
        width = widths[id(column)]
        text = shorten(_text(cell), width, terminal.ellipsis, at_end=column.bars)
        space = " " * (width - cells(text))
        painted = terminal.paint(text, cell.style) if isinstance(cell, Styled) else text
        if column.right:
            parts.append(space + painted)
        else:
            parts.append(painted if place == len(columns) - 1 else painted + space)
    return _GAP.join(parts).rstrip()


def _blocks(columns: Sequence[Column], terminal: Terminal) -> list[str]:
    """Return a block of lines per row, for a terminal that is too narrow for the table."""
    lines: list[str] = []
    for row in zip(*(column.cells for column in columns), strict=True):
        lines += [""] if lines else []
        for column, cell in zip(columns, row, strict=True):
            lines += facts([(column.header, cell)], terminal, max(cells(c.header) for c in columns))
    return lines


def facts(pairs: Iterable[tuple[str, Cell]], terminal: Terminal, label: int) -> list[str]:
    """Return a line per name and value; names take `label` columns.

    A text that is wider than the rest of the line continues below itself. A word that is wider
    than the rest of the line, as a number can be, has its own line.
    """
    lines: list[str] = []
    for name, cell in pairs:
        text, style = _text(cell), cell.style if isinstance(cell, Styled) else ""
        start = name + " " * (label - cells(name) + 1)
        room = None if terminal.width is None else terminal.width - cells(start)
        widest = max(map(cells, text.split()), default=0)
        if room is not None and widest > room:
            parts = Terminal(terminal.width).wrap(text)
            lines += [name, *(terminal.paint(part, style) for part in parts)]
            continue
        for part in Terminal(room).wrap(text) or [""]:
            lines.append((start + terminal.paint(part, style)).rstrip())
            start = " " * cells(start)
    return lines
