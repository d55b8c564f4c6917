"""``streamclust watch``."""

from __future__ import annotations

import math
import time
from math import isnan
from typing import TYPE_CHECKING

import click

from streamclust.cli.common import NumberRange, opened_client, server_options, wait_option
from streamclust.text import exact_json, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamclust.client.client import Client
    from streamclust.config import Settings
    from streamclust.errors import DamagedVersionError
    from streamclust.store.published import Model

_ROW = "{:>8}  {:<8}  {:>12}  {:<7}  {:>14}  {:>10}  {}"


@click.command()
@click.argument("model")
@server_options
@click.option("--since", type=click.IntRange(min=0), help="Begin after this version; 0 for all.")
@click.option("--count", type=click.IntRange(min=1), help="Exit after so many versions.")
@click.option(
    "--timeout", type=NumberRange(min=0), help="Exit when no version came for so many seconds."
)
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
                    click.echo(damaged(model, update, as_json))
                    continue
                number += 1
                if not as_json and number == 1:
                    click.echo(header(update))
                click.echo(_as_json(update, arrays) if as_json else row(update, before))
                before = update
                if number == count:
                    break
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def each_version(
    client: Client, model: str, since: int | None, timeout: float | None
) -> Iterator[Model | DamagedVersionError]:
    """Yield what `Client.updates` does, and go on after a version that can't be read."""
    from streamclust.errors import DamagedVersionError

    while True:
        try:
            yield from client.updates(model, since=since, timeout=timeout)
        except DamagedVersionError as error:
            since = error.version
            yield error
        else:
            return


def damaged(model: str, error: DamagedVersionError, as_json: bool) -> str:
    """Return a line for a version that can't be read."""
    if as_json:
        return exact_json({"model": model, "version": error.version, "error": str(error)})
    return printable(f"{error.version:>8}  damaged: {error}")


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


def header(model: Model) -> str:
    """Return the line above the rows of versions."""
    score = model.score_name.replace("_", " ").upper()
    return _ROW.format("VERSION", "TIME", "POINTS", "REASON", score, "MOVED", "WEIGHTS")


def row(model: Model, before: Model | None) -> str:
    """Return a version as a person reads it, and how far it is from the one before."""
    from streamclust.cli.words import bars, number

    when = "" if model.time_ms is None else time.strftime("%X", time.localtime(model.time_ms / 1e3))
    return _ROW.format(
        model.version,
        when,
        f"{model.points:,}",
        printable(model.reason),
        number(model.score),
        number(_moved(model, before)),
        bars(model.mass.tolist()),
    )


def _moved(model: Model, before: Model | None) -> float | None:
    if before is None or model.replaces(before):
        return None
    if before.means.shape[1] != model.means.shape[1]:
        return None
    if before.means.shape != model.means.shape and not (len(before.ids) and len(model.ids)):
        return None
    return max((far for far in model.drift_from(before).tolist() if not isnan(far)), default=None)


def _as_json(model: Model, arrays: bool) -> str:
    return model.to_json() if arrays else exact_json(model.summary())
