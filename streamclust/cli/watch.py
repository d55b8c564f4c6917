"""``streamclust watch``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from streamclust.cli._options import NumberRange, server_options, wait_option
from streamclust.cli._server import each_version, opened_client
from streamclust.cli._terminal import show, stdout_terminal
from streamclust.cli._versions import VersionRows, damaged_row, version_facts
from streamclust.cli.exit_codes import EXIT_INTERRUPTED
from streamclust.text import exact_json

if TYPE_CHECKING:
    from streamclust.client.client import Client
    from streamclust.config import Settings
    from streamclust.formats.model import Model


@click.command()
@click.argument("model")
@server_options
@click.option(
    "--since",
    type=click.IntRange(min=0),
    help="Start after this version; 0 shows all stored ones.  [default: start with the newest]",
)
@click.option("--count", type=click.IntRange(min=1), help="Exit after this many versions.")
@click.option(
    "--timeout",
    type=NumberRange(min=0),
    help="Exit if no version arrives for this many seconds.",
)
@wait_option("--timeout if given, else forever")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per version.")
@click.option(
    "--arrays",
    is_flag=True,
    help="With --json: include centroids, or weights, means and covariances.",
)
def watch(
    model: str,
    settings: Settings,
    since: int | None,
    count: int | None,
    timeout: float | None,
    wait: float | None,
    as_json: bool,
    arrays: bool,
) -> None:
    """Show each version of MODEL when it is published, until Ctrl-C.

    The score is out of sample: the worker scores each point before it learns the point. MOVED is
    the largest distance that a component moved since the previous version. WEIGHTS has one bar per
    component.

    \b
    Examples:
      streamclust watch machines
      streamclust watch machines --since 0                  all stored versions first
      streamclust watch machines --json | jq .inertia
      streamclust watch machines --json --arrays --count 1  the newest centroids
    """
    from streamclust.errors import DamagedVersionError

    if arrays and not as_json:
        raise click.UsageError("--arrays needs --json")
    before: Model | None = None
    if wait is None:
        wait = math.inf if timeout is None else timeout
    try:
        with opened_client(settings, wait) as client:
            if not as_json:
                _say_if_waiting(client, model)
            number, rows = 0, VersionRows(stdout_terminal())
            for update in each_version(client, model, since, timeout):
                if isinstance(update, DamagedVersionError):
                    click.echo(damaged_row(model, update, as_json))
                    continue
                number += 1
                if as_json:
                    click.echo(_as_json(update, arrays))
                else:
                    show(rows.lines(update, before))
                before = update
                if number == count:
                    break
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None


def _say_if_waiting(client: Client, model: str) -> None:
    import redis

    from streamclust.errors import DamagedVersionError, ServerError, UnknownModelError
    from streamclust.store.server.faults import passes

    try:
        client.model(model)
    except DamagedVersionError:
        pass  # `each_version` reports it
    except UnknownModelError:
        click.echo(f"waiting for the first version of {model!r}", err=True)
    except ServerError as error:
        cause = error.__cause__
        if not (isinstance(cause, redis.RedisError) and passes(cause)):
            raise  # else the updates wait


def _as_json(model: Model, arrays: bool) -> str:
    return model.to_json() if arrays else exact_json(version_facts(model))
