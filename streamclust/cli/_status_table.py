"""The table of `status`, and the lines below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streamclust.cli._render import (
    WIDEST_NAME,
    bars,
    count,
    kind_and_shape,
    number,
    plural,
    score_meaning,
)
from streamclust.cli._tables import Styled, Table, lay_out
from streamclust.cli._terminal import BAD, MUTED, WARNING, shorten
from streamclust.text import printable
from streamclust.times import ago

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from streamclust.cli._tables import Cell
    from streamclust.cli._terminal import Terminal
    from streamclust.store.model.overview import Overview

_MAX_REMARKS = 20
_MAX_COMPONENTS = 20


def notes(rows: Sequence[Overview], label: str, terminal: Terminal, *, detailed: bool) -> list[str]:
    """Return the lines below the table: remarks, meanings, and one model's components."""
    lines = list(_remarks(rows, label, terminal))
    known = (row.health.kernels for row in rows if row.health and row.health.kernels)
    kernels = sorted(set(map(printable, known)))
    notes = _score_notes(rows) + ([f"kernels: {'; '.join(kernels)}"] if kernels else [])
    lines += [terminal.paint(line, MUTED) for note in notes for line in terminal.wrap(note)]
    model: Any = rows[0].model
    if detailed and model is not None:
        from streamclust.cli._components import component_lines

        published = f"version {model.version}, published {ago(model.published_ms)}"
        lines += ["", *terminal.wrap(f"{published}; newest point: {ago(model.time_ms)}")]
        more = f"; `streamclust models show {printable(model.name)}` has all"
        lines += component_lines(model, terminal, _MAX_COMPONENTS, more)
    return lines


def table_lines(rows: Sequence[Overview], terminal: Terminal) -> list[str]:
    table = Table()
    for header in ("MODEL", "KIND", "WORKER"):
        table.add_column(header)
    alerts = ["ALERTS"] if any(row.alerts for row in rows) else []
    for header in ("VER", "POINTS", "RATE/S", "LAG", "LOST", "DEAD", *alerts, "SCORE"):
        table.add_column(header, justify="right")
    table.add_column("WEIGHTS", bars=True)
    for row in rows:
        *before, score, weights = _cells(row)
        table.add_row(*before, *(count(row.alerts) for _ in alerts), score, weights)
    columns = {column.header: column for column in table.columns}
    without_news = [name for name in ("LOST", "DEAD") if not any(map(_NEWS[name], rows))]
    rate_and_kind = ["KIND", "RATE/S"] if any(row.health for row in rows) else ["RATE/S", "KIND"]
    optional = ["WEIGHTS", *rate_and_kind, *without_news, "POINTS", "VER", "SCORE", *alerts]
    layout = lay_out(table, terminal, [columns[name] for name in optional])
    hidden = ", ".join(column.header for column in layout.hidden if column.header != "WEIGHTS")
    if not hidden:
        return layout.lines
    note = f"hidden, since the terminal is narrow: {hidden}; --json has all"
    return [*layout.lines, *(terminal.paint(line, MUTED) for line in terminal.wrap(note))]


_NEWS: dict[str, Callable[[Overview], bool]] = {
    "LOST": lambda row: row.lost is not None and bool(row.lost.entries or row.lost.unknown),
    "DEAD": lambda row: bool(row.dead),
}
"""Columns that have news for a model: entries that were lost, points that were refused."""


def _cells(row: Overview) -> tuple[Cell, ...]:
    model, health, lost = row.model, row.health, "?"
    if row.lost is not None:
        lost = count(row.lost.entries) + ("+?" if row.lost.unknown else "")
    worker = Styled(printable(row.phase), BAD if row.failed else "")
    if row.phase == "stopped":
        worker = Styled("none", WARNING if row.lag else "")
    return (
        printable(row.name, WIDEST_NAME),
        "-" if model is None else kind_and_shape(model),
        worker,
        "-" if model is None else str(model.version),
        count(row.points, "-"),
        "-" if health is None else f"{health.rate:,.0f}",
        count(row.lag),
        Styled(lost, BAD if _NEWS["LOST"](row) else ""),
        Styled(count(row.dead), WARNING if _NEWS["DEAD"](row) else ""),
        "-" if model is None else number(model.score),
        "" if model is None else bars(model.mass.tolist(), 12),
    )


def _remarks(rows: Sequence[Overview], label: str, terminal: Terminal) -> Iterator[str]:
    """Yield the lines of each remark: why models don't learn, and what they have lost."""
    widest = WIDEST_NAME if terminal.width is None else terminal.width // 2
    remarks = [
        (shorten(printable(row.name), widest, terminal.ellipsis), *problem)
        for row in rows
        for problem in _problems(row, label)
    ]
    for name, head, text, style in remarks[:_MAX_REMARKS]:
        first, *more = terminal.fold(f"{name}: {head}: {text}")
        before, found, after = first.partition(f"{head}: ")
        yield before + terminal.paint(found, style) + after
        yield from more
    if len(remarks) > _MAX_REMARKS:
        left_out = len(remarks) - _MAX_REMARKS
        yield from terminal.wrap(f"+{plural(left_out, 'more remark')}; --json has all")


def _problems(row: Overview, label: str) -> Iterator[tuple[str, str, str]]:
    """Yield the head, the text and the style of each remark on a model."""
    from streamclust.store.model.health import PAUSED
    from streamclust.store.model.overview import WARMING_UP

    if row.phase == "stopped" and row.lag:
        entries = "1 entry waits" if row.lag == 1 else f"{row.lag:,} entries wait"
        reason = f"{printable(row.reason)}; " if row.reason else ""
        yield "no worker", f"{reason}{entries}; run `streamclust worker`", WARNING
    elif row.reason:
        yield printable(row.phase), printable(row.reason), BAD if row.failed else ""
    for text in row.waits(label):
        head, _, rest = text.partition(": ")
        if head in (WARMING_UP, PAUSED):
            yield head, printable(rest), WARNING if head == PAUSED else ""
        else:
            yield ("waiting" if row.alive else "no stream"), printable(text), WARNING
    if row.lost is not None and _NEWS["LOST"](row):
        least = "at least " * bool(row.lost.unknown)
        entries = "1 entry was" if row.lost.entries == 1 else f"{row.lost.entries:,} entries were"
        yield "LOST", f"{least}{entries} removed from the stream before a worker read them", BAD
    if row.dead:
        points = "1 point was" if row.dead == 1 else f"{row.dead:,} points were"
        yield (
            "DEAD",
            f"{points} refused; `streamclust dead {printable(row.name)}` has the reasons",
            WARNING,
        )
    if row.codebook is not None and (unused := row.codebook.dead + row.codebook.near_dead):
        few = f"{unused:,} of {row.codebook.n_codes:,} components have less than a tenth"
        yield "CODEBOOK", f"{few} of the average weight; see `streamclust models show`", ""
    if row.missing_share:
        yield "MISSING", f"{row.missing_share:.2%} of the values of the points were missing", ""


def _score_notes(rows: Sequence[Overview]) -> list[str]:
    """Return what the scores in the table mean."""
    models = {
        f"{row.model.kind} {row.model.metric}": row.model for row in rows if row.model is not None
    }
    return [
        f"SCORE of {model.kind.replace('_', ' ')}{', cosine' * (model.metric == 'cosine')}: "
        f"{score_meaning(model)}"
        for _, model in sorted(models.items(), reverse=True)
    ]
