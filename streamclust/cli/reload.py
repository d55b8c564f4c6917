"""``streamclust reload``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from streamclust.cli._options import Duration, server_options
from streamclust.cli._render import plural, say
from streamclust.cli._server import opened_server
from streamclust.cli.exit_codes import EXIT_ERROR
from streamclust.text import exact_json, printable

if TYPE_CHECKING:
    from streamclust.config import Settings


@click.command()
@server_options
@click.option(
    "--timeout",
    type=Duration(0.1, 86_400.0),
    default="10s",
    show_default=True,
    metavar="DURATION",
    help="Maximum wait for the answers of all workers and encoders.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per worker.")
def reload(settings: Settings, timeout: float, as_json: bool) -> None:
    """Let all running workers and encoders of the namespace read their settings again.

    Each worker reads its own file, environment and flags again, and applies the changes of its
    models: models are added, removed, or restarted with other settings. A model that is removed
    commits, publishes and returns its lease; its keys stay. If a model can't continue with changed
    settings (such as another number of clusters), this model keeps its old settings. If the file
    has an error, the worker changes nothing. Other settings (redis, namespace, worker, log) need a
    restart. An encoder does the same with the models that it encodes.

    The command first checks its own settings. It sends the request through the server, so
    workers can be on other hosts or in containers. The signal SIGHUP has the same effect on one
    worker or encoder. The exit code is 1 if a worker doesn't answer, if no process answers, or
    if a worker or an encoder refuses a change.

    \b
    Examples:
      streamclust reload
      streamclust reload -c prod.yaml
      kill -HUP PID                                  one worker on this host
    """
    from streamclust.errors import StreamclustError
    from streamclust.store.model.reload import read_answers, request_reload
    from streamclust.store.model.workers import read_workers

    answers, is_complete = 0, True
    pending = set[str]()  # encoders that have seen the request
    started = time.monotonic()

    def ends() -> float:
        is_over = answers >= max(workers, 1) and not pending
        return started + (min(timeout, _GRACE) if is_over else timeout)

    with opened_server(settings) as server:
        client, namespace = server.client(), settings.namespace
        workers = sum(bool(worker.shares) for worker in read_workers(client, namespace))
        for answer in read_answers(client, namespace, request_reload(client, namespace), ends):
            encoder = str(answer.get("encoder", ""))
            if answer.get("is_pending"):
                pending.add(encoder)
                continue
            pending.discard(encoder)
            answers += "worker" in answer or not workers
            is_complete = is_complete and not any(answer.get(key) for key in _TROUBLES)
            if as_json:
                click.echo(exact_json(answer))
            else:
                _show(answer)
    if answers < max(workers, 1):
        raise StreamclustError(
            f"{answers} of {plural(workers, 'worker')} answered within {timeout:g} s; see their log"
            if workers
            else f"no worker or encoder of namespace {namespace!r} answered within {timeout:g} s; "
            "is one running? see `streamclust status`"
        )
    if pending:
        who = plural(len(pending), "encoder")
        raise StreamclustError(f"{who} didn't answer within {timeout:g} s; see their log")
    if not is_complete:
        raise SystemExit(EXIT_ERROR)


_GRACE = 0.3
"""Seconds in which an encoder reports that it has seen the request. It applies the change when its
current read ends, so its answer may come later than those of the workers."""

_TROUBLES = ("error", "refused", "fixed")
"""Fields of an answer that has something that a worker could not apply."""


def _show(answer: dict[str, Any]) -> None:
    """Print what a worker did, and what it could not do."""
    worker = answer.get("worker") or f"encoder, {answer.get('encoder', 'unknown process')}"
    if answer.get("error"):
        for line in str(answer["error"]).split("\n"):
            say(f"error: {printable(f'{worker}: {line}')}")
        return
    counts = {key: int(answer.get(key, 0)) for key in ("added", "removed", "changed")}
    changes = [f"{plural(count, 'model')} {key}" for key, count in counts.items() if count]
    click.echo(printable(f"{worker}: {', '.join(changes) or 'no model has changed'}"))
    refused = dict(answer.get("refused", {}))
    for name, reason in refused.items():
        say(f"error: {printable(f'{worker}: {name} keeps its old settings: {reason}')}")
    if (more := int(answer.get("kept", 0)) - len(refused)) > 0:
        say(f"error: {printable(f'{worker}: {more:,} more models keep their old settings')}")
    if fixed := answer.get("fixed"):
        what = ", ".join(map(str, fixed))
        say(f"error: {printable(f'{worker}: restart it to change {what}')}")
