"""``streamclust watch``."""

from __future__ import annotations

import math
import re
import threading
import time
from typing import TYPE_CHECKING

import click

from streamclust.cli._options import Duration, server_options, wait_option
from streamclust.cli._render import plural, say
from streamclust.cli._server import (
    each_version,
    opened_client,
    opened_server,
    read_overview,
    refuse_unknown,
    select_models,
)
from streamclust.cli._terminal import print_lines, stdout_terminal
from streamclust.cli._versions import VersionRows, damaged_row, version_facts
from streamclust.cli.exit_codes import EXIT_INTERRUPTED
from streamclust.text import exact_json, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from streamclust.client.client import Client
    from streamclust.config import Settings
    from streamclust.formats.model import Model
    from streamclust.store.server.connect import Server

_LOOK, _PROGRESS, _REMINDER = 1.0, 10.0, 600.0
"""While no version exists: seconds between two checks, between two reports of the progress, and
between two equal reports."""


@click.command()
@click.argument("model")
@server_options
@click.option(
    "--since",
    type=click.IntRange(min=0),
    metavar="VERSION",
    help="Start after this version; 0 shows all stored ones.  [default: start with the newest]",
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    metavar="N",
    help="Exit after this many versions.  [default: no limit]",
)
@click.option(
    "--timeout",
    type=Duration(forever=True),
    metavar="DURATION",
    help="Exit if no version arrives for this long: 30s, 5m.  [default: forever]",
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

    MODEL may be a pattern in quotes: 'clicks-*' shows the new versions of all models whose names
    begin with clicks-, also of models that are created later.

    If MODEL has no version yet, the command reports what the model waits for. If neither the
    settings nor the server have MODEL, that is an error (exit code 1).

    TIME is the local time of the publication. The worker scores each point before it learns the
    point. A lower inertia is better, and so is a higher log-likelihood. MOVED is the largest
    distance that a component moved since the previous version. WEIGHTS has one bar per component.

    \b
    Examples:
      streamclust watch machines
      streamclust watch machines --since 0                  all stored versions first
      streamclust watch machines --json | jq .inertia
      streamclust watch machines --json --arrays --count 1  the newest centroids
      streamclust watch 'clicks-*'                          new versions of many models
    """
    from streamclust.runtime.discovery import selects_several

    if arrays and not as_json:
        raise click.UsageError("--arrays needs --json")
    if selects_several(model, settings):
        for name, given in (("--since", since is not None), ("--arrays", arrays)):
            if given:
                raise click.UsageError(f"{name} needs one model, got the pattern {model!r}")
    if wait is None and settings.redis.url != "embedded":
        wait = math.inf if timeout is None else timeout
    try:
        with opened_server(settings, wait, start=False) as server:
            if selects_several(model, settings):
                _watch_many(server, settings, model, count, timeout, as_json)
                return
            for number, lines in enumerate(
                _versions(server, settings, model, since, timeout, as_json, arrays), 1
            ):
                print_lines(lines)
                if number == count:
                    break
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None


def _versions(
    server: Server,
    settings: Settings,
    model: str,
    since: int | None,
    timeout: float | None,
    as_json: bool,
    arrays: bool,
) -> Iterator[list[str]]:
    """Yield the lines of each version; print an error for a version that can't be read."""
    from streamclust.errors import DamagedVersionError

    before: Model | None = None
    with opened_client(settings) as client:
        waiting = _Waiting(settings, server, model)
        if _is_awaited(client, model):
            since = since or 0
            waiting.start()
        rows = VersionRows(stdout_terminal())
        try:
            for update in each_version(client, model, since, timeout):
                waiting.end()
                if isinstance(update, DamagedVersionError):
                    click.echo(damaged_row(model, update, as_json))
                    continue
                if as_json:
                    yield [update.to_json() if arrays else exact_json(version_facts(update))]
                else:
                    yield rows.lines(update, before)
                before = update
        finally:
            waiting.end()


def _watch_many(
    server: Server,
    settings: Settings,
    pattern: str,
    count: int | None,
    timeout: float | None,
    as_json: bool,
) -> None:
    from streamclust.cli._watch_many import watch_many
    from streamclust.runtime.discovery import select_names

    client = server.client()
    names = select_models(client, settings, [pattern], server.label)
    say(printable(f"following {plural(len(names), 'model')} that match {pattern!r}"))

    def is_wanted(name: str) -> bool:
        return bool(select_names([name], pattern, settings))

    namespace = settings.namespace
    watch_many(client, namespace, is_wanted, count=count, timeout=timeout, as_json=as_json)


def _is_awaited(client: Client, model: str) -> bool:
    """Return whether the model has no version yet."""
    import redis

    from streamclust.errors import DamagedVersionError, ServerError, UnknownModelError
    from streamclust.store.server.faults import passes

    try:
        client.model(model)
    except DamagedVersionError:
        pass  # `each_version` reports it
    except UnknownModelError:
        return True
    except ServerError as error:
        cause = error.__cause__
        if not (isinstance(cause, redis.RedisError) and passes(cause)):
            raise  # else the updates wait
    return False


class _Waiting:
    """Reports what the first version of a model waits for, from a thread, until `end`.

    A text is written when it changes, and again after ten minutes.

    Parameters
    ----------
    settings : Settings
    server : Server
    model : str
    """

    def __init__(self, settings: Settings, server: Server, model: str) -> None:
        self._settings = settings
        self._server = server
        self._model = model
        self._over = threading.Event()
        self._text: str | None = None
        self._written = 0.0

    def start(self) -> None:
        """Report once, and then from a thread.

        Raises
        ------
        UnknownModelError
            If neither the settings nor the server have the model.
        """
        client = self._server.client()
        self._report(client)
        threading.Thread(target=self._run, args=(client,), name="waiting", daemon=True).start()

    def end(self) -> None:
        """Stop the reports."""
        self._over.set()

    def _run(self, client: redis.Redis) -> None:
        from contextlib import suppress

        from redis import RedisError

        from streamclust.errors import StreamclustError

        while not self._over.wait(_LOOK):
            with suppress(RedisError, StreamclustError, OSError):  # the updates report a fault
                self._report(client)

    def _reason(self, client: redis.Redis) -> str:
        """Return what the model waits for; empty if the user may not read it."""
        from redis import RedisError

        from streamclust.errors import NotPermittedError
        from streamclust.store.server.connect import translated

        settings, model, label = self._settings, self._model, self._server.label
        try:
            row = read_overview(client, settings, model, label)
        except RedisError as error:
            if not isinstance(translated(error, label), NotPermittedError):
                raise
            refuse_unknown(client, settings, model, label)
            return ""
        if row.alive:
            return "; ".join(row.waits(label))
        reason = row.reason if row.failed else "no worker runs"
        return "; ".join((*row.waits(label), reason))

    def _report(self, client: redis.Redis) -> None:
        text = self._reason(client)
        now, age = time.monotonic(), time.monotonic() - self._written
        is_of_same_kind = re.sub(r"\d", "", text) == re.sub(r"\d", "", self._text or "")
        pause = _REMINDER if text == self._text else _PROGRESS if is_of_same_kind else 0.0
        if (self._text is None or age > pause) and not self._over.is_set():
            end = f": {text}" if text else ""
            say(printable(f"waiting for the first version of {self._model!r}{end}"))
            self._text, self._written = text, now
