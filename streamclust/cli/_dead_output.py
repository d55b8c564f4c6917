"""Output of ``streamclust dead``: dead letters, and the bad rows of files.

The bad rows are those that `ingest --on-bad dead` has stored.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from streamclust.cli._confirm import confirm
from streamclust.cli._render import plural, say
from streamclust.cli._server import not_configured, opened_server
from streamclust.cli._tables import Table, lay_out
from streamclust.cli._terminal import HEADER, Terminal, print_lines, stdout_terminal
from streamclust.text import exact_json, printable

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator, Mapping, Sequence

    import redis

    from streamclust.config import Settings
    from streamclust.store.model.dead_letters import StoredLetter
    from streamclust.store.stream.bad_rows import StoredRow

_MAX_REASONS = 10
"""Maximum number of kinds of reasons in the list for people."""

_WIDEST_REASON, _WIDEST_DATA = 200, 60
_LEAST = 20
"""Least width of a reason."""


def print_letters(
    model: str, stored: int, refused: int, reasons: Counter[str], shown: Sequence[StoredLetter]
) -> None:
    """Print the dead letters for people, and the number of letters per reason."""
    terminal = stdout_terminal()
    head = f"{model}: {plural(stored, 'dead letter')} stored, {plural(refused, 'point')} refused"
    lines = [*terminal.wrap(printable(head)), "", terminal.paint("  COUNT  REASON", HEADER)]
    most = reasons.most_common(_MAX_REASONS)
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


def count_bad_rows(settings: Settings, client: redis.Redis, model: str) -> dict[str, int]:
    """Return the number of stored bad rows by stream of the model; only streams that have some."""
    return {stream: count for stream, (count, _) in _newest(settings, client, model).items()}


def bad_rows_note(model: str, counts: Mapping[str, int]) -> list[str]:
    """Return lines with the number of stored bad rows of files, and the command that shows them."""
    if not counts:
        return []
    places = ", ".join(f"{count:,} for stream {stream!r}" for stream, count in counts.items())
    note = f"bad rows of files stored by `ingest`: {places}; `streamclust dead {model} --ingest`"
    return stdout_terminal().fold(printable(f"{note} shows them"))


def list_bad_rows(
    settings: Settings, model: str, number: int, *, oldest: bool, reason: str | None, as_json: bool
) -> None:
    """Print up to `number` of the stored bad rows of each stream of the model."""
    from streamclust.store.stream.bad_rows import read_bad_rows

    with _opened(settings, model) as client:
        counts = count_bad_rows(settings, client, model)
        rows = {
            stream: read_bad_rows(client, stream, number, oldest=oldest, reason=reason)
            for stream in counts
        }
    if as_json:
        streams = [
            {"stream": stream, "stored": counts[stream], "rows": [asdict(row) for row in found]}
            for stream, found in rows.items()
        ]
        click.echo(exact_json({"model": model, "streams": streams}))
        return
    if not counts:
        say(printable(f"{model}: no bad rows of files"))
    terminal = stdout_terminal()
    for stream, found in rows.items():
        head = f"stream {stream!r}: {plural(counts[stream], 'bad row')} of files stored"
        lines = terminal.wrap(printable(head))
        print_lines([*lines, "", *_row_table(found)] if found else lines)


def purge_bad_rows(
    settings: Settings, model: str, *, reason: str | None, yes: bool, as_json: bool
) -> None:
    """Remove the stored bad rows of the streams of the model, after a question."""
    from streamclust.store.stream.bad_rows import purge_bad_rows as run

    with _opened(settings, model) as client:
        newest = _newest(settings, client, model)
        removed = 0
        if newest:
            which = "the" if reason is None else f"those of {reason!r} among the"
            stored = plural(sum(count for count, _ in newest.values()), "bad row")
            places = ", ".join(map(repr, newest))
            confirm(f"remove {which} {stored} of files for stream {places}?", yes)
            removed = sum(run(client, stream, last, reason) for stream, (_, last) in newest.items())
    if as_json:
        click.echo(exact_json({"model": model, "removed": removed}))
    else:
        click.echo(printable(f"{model}: removed {plural(removed, 'bad row')} of files"))


@contextmanager
def _opened(settings: Settings, model: str) -> Iterator[redis.Redis]:
    from streamclust.errors import ConfigError

    if model not in settings.models:
        raise ConfigError(not_configured(model, settings))
    with opened_server(settings) as server:
        yield server.client()


def _newest(settings: Settings, client: redis.Redis, model: str) -> dict[str, tuple[int, str]]:
    """Return the number of bad rows and the newest ID, for the streams that have some."""
    from streamclust.store.stream.bad_rows import newest_bad_row

    streams = settings.models[model].streams if model in settings.models else ()
    found = {stream: newest_bad_row(client, stream) for stream in streams}
    return {stream: newest for stream, newest in found.items() if newest[0]}


def _row_table(rows: Sequence[StoredRow]) -> list[str]:
    table = Table()
    table.add_column("FILE")
    table.add_column("LINE", "right")
    table.add_column("REASON")
    data = table.add_column("DATA")
    for row in rows:
        texts = row.file, row.line, row.brief_reason, row.data
        limits = _WIDEST_DATA, _WIDEST_DATA, _WIDEST_REASON, _WIDEST_DATA
        table.add_row(*map(printable, texts, limits))
    return lay_out(table, stdout_terminal(), [data]).lines
