"""A page about thousands of models: counts, groups, and the order in which models are shown."""

from __future__ import annotations

from collections import defaultdict
from heapq import nsmallest
from typing import TYPE_CHECKING

from streamclust.cli._render import count, plural
from streamclust.cli._tables import Styled, Table, lay_out
from streamclust.cli._terminal import BAD, MUTED
from streamclust.store.model.ordering import sort_key
from streamclust.store.model.totals import Totals
from streamclust.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from streamclust.cli._tables import Cell
    from streamclust.cli._terminal import Terminal
    from streamclust.store.model.overview import Overview

_MAX_GROUPS = 10
_WIDEST_GROUP = 60


class Summary:
    """Adds up the figures of all models, and returns the first few models in an order.

    Parameters
    ----------
    group_of : callable
        Returns the group of a model, given its name.
    """

    def __init__(self, group_of: Callable[[str], str]) -> None:
        self._group_of = group_of
        self.total = Totals()
        self._groups: defaultdict[str, Totals] = defaultdict(Totals)
        self._shown_count = 0

    def first(self, rows: Iterable[Overview], sort: str, limit: int) -> list[Overview]:
        """Return the first `limit` models; 0 returns all. Only these stay in memory."""
        key, counted = sort_key(sort), self._counted(rows)
        found = nsmallest(limit, counted, key) if limit else sorted(counted, key=key)
        self._shown_count = len(found)
        return found

    def _counted(self, rows: Iterable[Overview]) -> Iterator[Overview]:
        for row in rows:
            self.total.add(row)
            self._groups[self._group_of(row.name)].add(row)
            yield row

    @property
    def left_out(self) -> int:
        """Number of models that aren't among the first."""
        return self.total.models - self._shown_count

    def head(self, sort: str, terminal: Terminal) -> list[str]:
        """Return the lines above the first models; none if all models are shown."""
        if not self.left_out:
            return []
        phases = ", ".join(
            f"{number:,} {printable(name)}" for name, number in self.total.by_phase()
        )
        lines = terminal.wrap(f"{plural(self.total.models, 'model')}: {phases}")
        lines += self._group_lines(terminal)
        order = "those with problems first" if sort == "problems" else f"by {sort}"
        return [*lines, "", *terminal.wrap(f"the first {self._shown_count:,} models, {order}:")]

    def tail(self, terminal: Terminal) -> list[str]:
        """Return the line below the first models; none if all models are shown."""
        if not self.left_out:
            return []
        text = f"{terminal.ellipsis} and {self.left_out:,} more; --limit 0 shows all; --model, "
        text += "--phase and --sort select others"
        return [terminal.paint(line, MUTED) for line in terminal.wrap(text)]

    def _group_lines(self, terminal: Terminal) -> list[str]:
        """Return a table of the largest groups, if models form groups."""
        if all(totals.models == 1 for totals in self._groups.values()):
            return []
        groups = sorted(self._groups.items(), key=lambda item: (-item[1].models, item[0]))
        table = Table()
        table.add_column("GROUP")
        for header in ("MODELS", "FAILED", "STOPPED", "POINTS", "RATE/S", "LAG", "LOST", "DEAD"):
            table.add_column(header, justify="right")
        has_alerts = self.total.alerts > 0
        if has_alerts:
            table.add_column("ALERTS", justify="right")
        for name, totals in groups[:_MAX_GROUPS]:
            alerts = [count(totals.alerts)] if has_alerts else []
            table.add_row(*_group_cells(name, totals), *alerts)
        optional = [column for column in table.columns if column.header in ("POINTS", "RATE/S")]
        lines = ["", *lay_out(table, terminal, optional).lines]
        if len(groups) > _MAX_GROUPS:
            rest = len(groups) - _MAX_GROUPS
            lines += terminal.wrap(f"{terminal.ellipsis} and {plural(rest, 'more group')}")
        return lines


def _group_cells(name: str, totals: Totals) -> Sequence[Cell]:
    return (
        printable(name, _WIDEST_GROUP),
        count(totals.models),
        Styled(count(totals.failed), BAD if totals.failed else ""),
        count(totals.phases["stopped"]),
        count(totals.points),
        f"{totals.rate:,.0f}",
        count(totals.lag) + "?" * bool(totals.unknown_lags),
        count(totals.lost) + "+?" * bool(totals.unknown_gaps),
        count(totals.dead),
    )
