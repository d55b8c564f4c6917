"""``streamclust workers``."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from streamclust.cli._options import server_options
from streamclust.cli._render import count, plural
from streamclust.cli._server import opened_server
from streamclust.cli._tables import Styled, Table, lay_out
from streamclust.cli._terminal import BAD, print_lines, shorten, stdout_terminal
from streamclust.text import exact_json, printable
from streamclust.times import ago

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamclust.cli._terminal import Terminal
    from streamclust.config import Settings
    from streamclust.store.model.workers import WorkerReport

_MAX_TROUBLES = 20


@click.command()
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def workers(settings: Settings, as_json: bool) -> None:
    """Show the live workers of the namespace, and how many models each one has.

    \b
    WORKER   host and process ID
    MODELS   models that it learns: AWAKE in memory, or ASLEEP without new entries
    WAITING  models of its settings that other workers learn, or that wait for
             a worker
    PAUSED   models that users have paused, if there are any
    FAILED   models that it retries; STALLED: models without progress

    The first failed models and their reasons are below the table; `status --phase failed` shows
    all. A worker that ends, or that is lost, disappears within `worker.health_ttl`.

    \b
    Examples:
      streamclust workers
      streamclust workers --json | jq '.[] | {host, pid, held}'
    """
    from streamclust.store.model.workers import read_workers

    with opened_server(settings) as server:
        found = read_workers(server.client(), settings.namespace)
    if as_json:
        internal = ("shares", "offers", "avoids")
        reports = [asdict(each) for each in found]
        click.echo(
            exact_json(
                [{key: each[key] for key in each if key not in internal} for each in reports]
            )
        )
    elif found:
        terminal = stdout_terminal()
        print_lines([*_table(found, terminal), *_troubles(found, terminal)])
    else:
        click.echo(printable(f"no live worker in namespace {settings.namespace!r}"))


def _table(found: Sequence[WorkerReport], terminal: Terminal) -> list[str]:
    table = Table()
    table.add_column("WORKER")
    for header in ("RELEASE", "STARTED", "MODELS", "AWAKE", "ASLEEP", "WAITING"):
        table.add_column(header, justify="right")
    paused = ["PAUSED"] if any(each.paused for each in found) else []
    for header in (*paused, "FAILED", "STALLED", "REPORTED"):
        table.add_column(header, justify="right")
    for each in found:
        table.add_row(
            f"{printable(each.host, 60)}:{each.pid}",
            printable(each.release, 20) or "-",
            ago(1000.0 * each.started),
            count(each.held),
            count(each.awake),
            count(each.asleep),
            count(each.waiting),
            *(count(each.paused) for _ in paused),
            Styled(count(each.failed), BAD if each.failed else ""),
            Styled(count(each.stalled), BAD if each.stalled else ""),
            f"{max(time.time() - each.time, 0.0):.0f} s ago",
        )
    columns = {column.header: column for column in table.columns}
    optional = ("RELEASE", "REPORTED", "STARTED", "ASLEEP", "AWAKE", "WAITING")
    return lay_out(table, terminal, [columns[name] for name in optional]).lines


def _troubles(found: Sequence[WorkerReport], terminal: Terminal) -> Iterator[str]:
    """Yield the lines of the first failed and stalled models."""
    troubles = sorted(item for each in found for item in each.troubles.items())
    for name, reason in troubles[:_MAX_TROUBLES]:
        text = f"{shorten(printable(name), 60, terminal.ellipsis)}: {printable(reason)}"
        yield from terminal.fold(text)
    rest = sum(each.failed + each.stalled for each in found) - min(len(troubles), _MAX_TROUBLES)
    if rest > 0:
        more = f"+{plural(rest, 'more model')}; `streamclust status --phase failed` has all"
        yield from terminal.wrap(more)
