"""``streamclust worker``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from streamclust.cli.common import (
    daemon_wait,
    found_server,
    opened_server,
    server_options,
    wait_option,
)
from streamclust.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamclust.config import Settings
    from streamclust.worker.model import Job


@click.command()
@server_options
@click.option("--until-idle", is_flag=True, help="Learn what is there, publish, and exit.")
@click.option("--check", is_flag=True, help="Exit 0 if live workers have all models, else 1.")
@wait_option("forever; 30s with --until-idle")
def worker(settings: Settings, until_idle: bool, check: bool, wait: float | None) -> None:
    """Learn the models of the configuration from their streams, and publish them.

    Runs until Ctrl-C or SIGTERM: then it finishes the batch, commits, publishes and exits 0.
    A second signal ends it at once; nothing that was committed is lost either way.
    While the server is away, loads its data, is busy or demoted, the worker waits for it.

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
    from streamclust.store.health import read_health
    from streamclust.store.keys import Keys

    if not settings.models:
        raise ConfigError("models: none is configured; describe at least one in config.yaml")
    missing = []
    with opened_server(settings) as server:
        client = server.client()
        for name in settings.models:
            health = read_health(client, Keys(settings.namespace, name))
            if health is None:
                missing.append(name)
            else:
                click.echo(f"{name}: alive, {printable(health.phase)}, {health.points:,} points")
    for name in missing:
        click.echo(f"{name}: no live worker", err=True)
    if missing:
        raise SystemExit(1)
