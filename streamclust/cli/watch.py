"""``streamclust watch``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from streamclust.cli._options import server_options, wait_option
from streamclust.cli._render import damaged_row, version_header, version_row
from streamclust.cli._server import each_version, opened_client
from streamclust.cli.exit_codes import EXIT_INTERRUPTED
from streamclust.text import exact_json

if TYPE_CHECKING:
    from streamclust.client.client import Client
    from streamclust.config import Settings
    from streamclust.store.published import Model


@click.command()
@click.argument("model")
@server_options
@click.option("--since", type=click.IntRange(min=0), help="Begin after this version; 0 for all.")
@click.option("--count", type=click.IntRange(min=1), help="Exit after so many versions.")
@click.option("--timeout", type=float, help="Exit when no version came for so many seconds.")
@wait_option("as --timeout, else forever")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON a version.")
@click.option("--arrays", is_flag=True, help="With --json: also centroids, weights, covariances.")
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
    """Follow the updates of MODEL as they are published; Ctrl-C ends it.

    The score is out of sample: each point is scored before it is learned. MOVED is how far the
    component that moved most went since the version before. WEIGHTS has a bar a component.

    \b
    Examples:
      streamclust watch palette
      streamclust watch palette --since 0                  every kept version first
      streamclust watch shuttle --json | jq .log_likelihood
      streamclust watch palette --json --arrays --count 1  the newest centroids
    """
    from streamclust.errors import DamagedVersionError

    if arrays and not as_json:
        raise click.UsageError("--arrays goes with --json")
    before: Model | None = None
    if wait is None:
        wait = math.inf if timeout is None else timeout
    try:
        with opened_client(settings, wait) as client:
            if not as_json:
                _say_if_waiting(client, model)
            number = 0
            for update in each_version(client, model, since, timeout):
                if isinstance(update, DamagedVersionError):
                    click.echo(damaged_row(model, update, as_json))
                    continue
                number += 1
                if not as_json and number == 1:
                    click.echo(version_header(update))
                click.echo(_as_json(update, arrays) if as_json else version_row(update, before))
                before = update
                if number == count:
                    break
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None


def _say_if_waiting(client: Client, model: str) -> None:
    import redis

    from streamclust.errors import DamagedVersionError, ServerError, UnknownModelError
    from streamclust.store.faults import passes

    try:
        client.model(model)
    except DamagedVersionError:
        pass  # it has its line
    except UnknownModelError:
        click.echo(f"waiting for the first version of {model!r}", err=True)
    except ServerError as error:
        cause = error.__cause__
        if not (isinstance(cause, redis.RedisError) and passes(cause)):
            raise  # else the updates wait


def _as_json(model: Model, arrays: bool) -> str:
    return model.to_json() if arrays else exact_json(model.summary())
