"""``streamclust worker``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from streamclust.cli._options import daemon_wait, server_options, wait_option
from streamclust.cli._render import say
from streamclust.cli._server import found_server, opened_server
from streamclust.cli.exit_codes import EXIT_ERROR
from streamclust.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.config import Settings
    from streamclust.runtime.job import Job


@click.command()
@server_options
@click.option("--until-idle", is_flag=True, help="Learn what is there, publish, and exit.")
@click.option("--fail-fast", is_flag=True, help="End the worker as soon as one model can't go on.")
@click.option("--check", is_flag=True, help="Exit 0 if live workers have all models, else 1.")
@wait_option("forever; 30s with --until-idle")
def worker(
    settings: Settings, until_idle: bool, fail_fast: bool, check: bool, wait: float | None
) -> None:
    """Learn the models of the configuration from their streams, and publish them.

    Runs until Ctrl-C or SIGTERM: then it finishes the batch, commits, publishes and exits 0.
    A second signal ends it at once; nothing that was committed is lost either way.
    While the server is away, loads its data, is busy or demoted, the worker waits for it.

    A model that can't go on (a key of another type, a state that is damaged or doesn't fit the
    settings) is failed: that is logged, shown by `status`, and tried again after pauses from 0.5 s
    to 60 s; with --until-idle it isn't tried again. The other models go on. If models are failed in
    the end, the worker exits with the code of the first of them, by name: 1, 2 or 3.

    \b
    Examples:
      streamclust worker                          the models in ./config.yaml
      streamclust worker -c prod.yaml --redis-url redis://db:6379/0
      streamclust worker --until-idle             from cron: drain the stream and exit
      streamclust worker --check                  for health probes
      streamclust worker --set models.palette.n_clusters=32
    """
    if check:
        _check(settings)
        return
    from streamclust.worker.daemon import run_worker

    if fail_fast:
        section = settings.worker.model_copy(update={"fail_fast": True})
        settings = settings.model_copy(update={"worker": section})
    with found_server(settings) as server:
        run_worker(
            settings,
            server,
            wait=daemon_wait(wait, until_idle),
            until_idle=until_idle,
            beside=_beside(settings, until_idle),
        )


def _beside(settings: Settings, until_idle: bool) -> Callable[[Job], None] | None:
    """Return what refits by the clock, if that is asked for."""
    scheduled = any(model.refit.every is not None for model in settings.models.values())
    if until_idle or not scheduled:
        return None
    from streamclust.refit.schedule import keep_refitting

    return keep_refitting


def _check(settings: Settings) -> None:
    from streamclust.errors import ConfigError
    from streamclust.store.keys import Keys
    from streamclust.store.overview import health_of

    if not settings.models:
        raise ConfigError("models: none is configured; describe at least one in config.yaml")
    troubles = []
    with opened_server(settings) as server:
        client = server.client()
        for name in settings.models:
            health, trouble = health_of(client, Keys(settings.namespace, name))
            if health is not None and health.alive:
                click.echo(f"{name}: alive, {printable(health.phase)}, {health.points:,} points")
            elif health is not None:
                troubles.append(f"{name}: {health.phase}: {health.reason}")
            else:
                troubles.append(f"{name}: {trouble or 'no live worker'}")
    for line in troubles:
        say(printable(line))
    if troubles:
        raise SystemExit(EXIT_ERROR)
