"""``streamclust worker``."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from streamclust.cli._options import daemon_wait, server_options, settings_loader, wait_option
from streamclust.cli._render import plural, say
from streamclust.cli._server import found_server, no_models, opened_server, read_overviews
from streamclust.cli.exit_codes import EXIT_ERROR
from streamclust.errors import ConfigError, ServerError
from streamclust.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import redis

    from streamclust.config import Settings
    from streamclust.dashboard.serve import Dashboard
    from streamclust.runtime.job import Job
    from streamclust.runtime.signals import Stop
    from streamclust.store.model.health import Health
    from streamclust.store.model.workers import WorkerReport
    from streamclust.store.server.connect import Server

_MAX_LINES = 25
"""Models that --check names; of more models, it prints the numbers."""

_PROBE_WAIT = 5.0
"""Seconds that --alive waits for the server; a liveness probe has a time limit of its own."""


@click.command()
@server_options
@click.option(
    "--until-idle", is_flag=True, help="Learn all entries of the streams, publish, and exit."
)
@click.option("--fail-fast", is_flag=True, help="Exit as soon as one model fails.")
@click.option(
    "--check", is_flag=True, help="Don't learn: exit 0 if live workers learn all models, else 1."
)
@click.option(
    "--alive",
    is_flag=True,
    help="Don't learn: exit 1 if the server answers and no worker of this machine lives, else 0.",
)
@click.option(
    "--ui",
    "place",
    is_flag=False,
    flag_value="127.0.0.1:8642",
    metavar="[HOST:PORT]",
    help="Also serve the page of `streamclust dashboard`, without actions.  "
    "[default address: 127.0.0.1:8642]",
)
@wait_option("forever; 30s with --until-idle")
def worker(
    settings: Settings,
    until_idle: bool,
    fail_fast: bool,
    check: bool,
    alive: bool,
    place: str | None,
    wait: float | None,
) -> None:
    """Learn the configured models from their streams, and publish versions of the models.

    The worker runs until Ctrl-C or SIGTERM. Then it finishes the batch, commits, publishes and
    exits with code 0. A second signal ends the worker at once; committed data isn't lost. If the
    server fails, the worker waits until the server is back.

    Several workers with the same settings share the models: each learns an equal part. If a worker
    ends or dies, the others take its models over, at the latest after twice `worker.lease`.

    A model fails if its key has the wrong type, or if its state is damaged or doesn't match the
    settings. The worker logs the reason and retries the model after 0.5 s to 60 s; `status` shows
    the reason. The other models continue. With --until-idle a failed model isn't retried. If models
    are still failed at the end, the exit code is that of the first failed model by name: 1, 2 or 3.

    \b
    Examples:
      streamclust worker                             models of ./config.yaml
      streamclust worker --until-idle                learn all entries and exit
      streamclust worker -c prod.yaml --redis-url redis://db:6379/0
      streamclust worker --check                     for health checks: do all models learn?
      streamclust worker --alive                     for liveness probes: does this worker run?
      streamclust worker --ui                        with a page about the models
    """
    if not settings.models:
        raise ConfigError(f"models: none is configured: {no_models(settings)}")
    if check or alive:
        (_check if check else _check_here)(settings)
        return
    from streamclust.worker.daemon import run_worker

    load = settings_loader()
    where = None if place is None else _checked_place(place)
    with found_server(settings, start=True) as server, _page(settings, where, server) as page:

        def reload() -> Settings:
            settings = _with_flag(load(), fail_fast)
            if page is not None:
                page.use(settings)
            return settings

        run_worker(
            _with_flag(settings, fail_fast),
            server,
            wait=daemon_wait(wait, until_idle),
            until_idle=until_idle,
            beside=None if until_idle else _keep_refitting,
            load=reload,
        )


def _with_flag(settings: Settings, fail_fast: bool) -> Settings:
    """Return settings with the flag of the command."""
    if not fail_fast:
        return settings
    section = settings.worker.model_copy(update={"fail_fast": True})
    return settings.model_copy(update={"worker": section})


def _checked_place(place: str) -> tuple[str, int]:
    """Return the host and the port of the page; refuse them before the server is started."""
    from streamclust.cli._dashboard import check_dashboard, read_place

    host, port = read_place(place)
    check_dashboard(host, port)
    return host, port


@contextmanager
def _page(
    settings: Settings, place: tuple[str, int] | None, server: Server
) -> Iterator[Dashboard | None]:
    """Serve the dashboard during the block, if an address is given."""
    if place is None:
        yield None
        return
    import structlog

    from streamclust.cli._dashboard import opened_dashboard
    from streamclust.runtime.log import configure_log

    configure_log(settings.log.level, settings.log.format)
    log = structlog.get_logger()
    with opened_dashboard(settings, *place, server=server, log=log) as found:
        log.info("dashboard_started", url=found.url)
        yield found


def _keep_refitting(jobs: Callable[[], Mapping[str, Job]], stop: Stop, server: Server) -> None:
    from streamclust.refit.schedule import keep_refitting

    keep_refitting(jobs, stop, server)


def _check(settings: Settings) -> None:
    from streamclust.runtime.discovery import found_models
    from streamclust.store.model.read_healths import read_healths

    troubles, phases = list[str](), Counter[str]()
    with opened_server(settings, start=False) as server:
        client = server.client()
        is_many = len(settings.models) > _MAX_LINES or bool(settings.models.templates)
        if is_many and _are_held(client, settings):
            return
        names = found_models(settings, client)
        if not names:
            _check_without_models(client, settings)
        for name, health, trouble in read_healths(client, settings.namespace, names):
            if health is None:
                troubles.append(f"{name}: {trouble or 'no live worker'}")
            elif health.alive:
                phases[health.phase] += 1
                if len(names) <= _MAX_LINES:
                    click.echo(printable(_alive(client, settings, name, health, server.label)))
            else:
                troubles.append(f"{name}: {health.phase}: {health.reason}")
    if len(names) > _MAX_LINES:
        known = ", ".join(f"{number:,} {phase}" for phase, number in sorted(phases.items()))
        click.echo(
            printable(f"{phases.total():,} of {len(names):,} models alive: {known or 'none'}")
        )
    _exit_for(troubles)


def _exit_for(troubles: Sequence[str]) -> None:
    """Print the first troubles and exit, if there are any."""
    for line in troubles[:_MAX_LINES]:
        say(printable(line))
    if len(troubles) > _MAX_LINES:
        say(f"and {len(troubles) - _MAX_LINES:,} more; `streamclust status` has the counts")
    if troubles:
        raise SystemExit(EXIT_ERROR)


def _are_held(client: redis.Redis, settings: Settings) -> bool:
    """Return whether the workers of these settings report that they learn all models; print it."""
    from redis import ResponseError

    from streamclust.store.model.workers import digest, read_workers

    try:
        reports = read_workers(client, settings.namespace)
    except ResponseError:  # the user may not read the reports
        return False
    own = digest(settings.models.entries)
    reports = [each for each in reports if each.shares == own]
    held = sum(each.held for each in reports)
    models = max([len(settings.models), 1, *(each.models for each in reports)])
    if held < models or any(each.failed or each.stalled for each in reports):
        return False
    _print_alive(reports)
    return True


def _check_here(settings: Settings) -> None:
    """Check that a worker of this machine lives, as far as the server can answer."""
    import socket

    from streamclust.store.model.workers import read_workers

    here = socket.gethostname()
    try:
        with opened_server(settings, _PROBE_WAIT, start=False) as server:
            reports = read_workers(server.client(), settings.namespace)
    except ServerError as error:  # a worker waits for its server, so a restart wouldn't help
        say(f"{error}; a worker waits for the server")
        return
    found = [each for each in reports if each.host == here]
    if not found:
        say(printable(f"no live worker on {here}"))
        raise SystemExit(EXIT_ERROR)
    _print_alive(found)


def _print_alive(reports: Sequence[WorkerReport]) -> None:
    for each in reports:
        click.echo(printable(f"{each.host}:{each.pid}: alive, {plural(each.held, 'model')}"))


def _check_without_models(client: redis.Redis, settings: Settings) -> None:
    """Check that a worker lives, where no stream matches a template yet."""
    from streamclust.store.model.workers import read_workers

    if not read_workers(client, settings.namespace):
        say("no live worker")
        raise SystemExit(EXIT_ERROR)
    click.echo("alive; no stream matches a template yet")


def _alive(client: redis.Redis, settings: Settings, name: str, health: Health, label: str) -> str:
    line = f"{name}: alive, {health.phase}, {health.points:,} points"
    if health.phase == "paused":
        return f"{line}; {health.reason}"
    if health.phase != "warming":
        return line
    [row] = read_overviews(client, settings, [name])
    return "; ".join([line, *row.waits(label)])
