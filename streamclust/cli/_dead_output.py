"""Tables of ``streamclust dead``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamclust.cli._render import plural
from streamclust.cli._tables import Table, lay_out
from streamclust.cli._terminal import HEADER, Terminal, print_lines, stdout_terminal
from streamclust.text import printable

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from streamclust.store.model.dead_letters import StoredLetter

_MOST_REASONS = 10
"""Maximum number of kinds of reasons in the list for people."""

_WIDEST_REASON, _WIDEST_DATA = 200, 60
_LEAST = 20
"""Least width of a reason."""


def print_letters(
    model: str, stored: int, refused: int, reasons: Counter[str], shown: Sequence[StoredLetter]
) -> None:
    """Print the dead letters for people, and how often each reason is there."""
    terminal = stdout_terminal()
    head = f"{model}: {plural(stored, 'dead letter')} stored, {plural(refused, 'point')} refused"
    lines = [*terminal.wrap(printable(head)), "", terminal.paint("  COUNT  REASON", HEADER)]
    most = reasons.most_common(_MOST_REASONS)
    for text, count in most:
        lines += _counted(count, printable(text, _WIDEST_REASON), terminal)
    rest = reasons.total() - sum(count for _, count in most)
    if rest:
        more = f"{len(reasons) - len(most):,} more kinds of reasons"
        lines += _counted(rest, more, terminal)
    if shown:
        lines += ["", *_letter_table(shown, terminal)]
    print_lines(lines)


def _counted(count: int, text: str, terminal: Terminal) -> list[str]:
    room = None if terminal.width is None else max(terminal.width - 9, _LEAST)
    first, *rest = Terminal(room).wrap(text)
    return [f"{count:>7,}  {first}", *(f"{'':>7}  {part}" for part in rest)]


def _letter_table(shown: Sequence[StoredLetter], terminal: Terminal) -> list[str]:
    table = Table()
    several = len({letter.stream for letter in shown}) > 1
    table.add_column("ENTRY", whole=True)
    table.add_column("#", "right")
    table.add_column("REASON")
    optional = [table.add_column("DATA")]
    optional += [table.add_column("STREAM")] if several else []
    for letter in shown:
        index = "-" if letter.index < 0 else f"{letter.index:,}"
        texts = printable(letter.reason, _WIDEST_REASON), printable(letter.data, _WIDEST_DATA)
        name = [printable(letter.stream, _WIDEST_DATA)] * several
        table.add_row(printable(letter.entry_id, _WIDEST_DATA), index, *texts, *name)
    return lay_out(table, terminal, optional[::-1]).lines
