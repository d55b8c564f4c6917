"""``streamclust metrics``."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from streamclust.cli.common import found_server, opened_server, say, server_options, wait_option
from streamclust.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import redis
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from streamclust.cli.status import Row
    from streamclust.config import Settings
    from streamclust.store.connect import Server

_GAUGES: dict[str, tuple[str, Callable[[Row], float | None]]] = {
    "up": ("Whether a live worker has the model and makes progress.", lambda row: row.alive),
    "failed": (
        "Whether the model is failed, stalled or damaged; `streamclust status` has the reason.",
        lambda row: row.failed,
    ),
    "lag_entries": ("Stream entries still to be learned.", lambda row: row.lag),
    "version": (
        "Newest published version.",
        lambda row: None if row.model is None else row.model.version,
    ),
    "score": (
        "Out-of-sample inertia, or log-likelihood, per point.",
        lambda row: None if row.model is None else row.model.score,
    ),
    "effective_weight_points": (
        "Points behind the model, after forgetting.",
        lambda row: None if row.model is None else float(row.model.mass.sum()),
    ),
}

_COUNTERS: dict[str, tuple[str, Callable[[Row], float | None]]] = {
    "points": ("Points learned.", lambda row: row.points),
    "dead_points": ("Points refused.", lambda row: row.dead),
    "lost_entries": (
        "Entries gone before they were read.",
        lambda row: row.lost.entries if row.lost else None,
    ),
    "gaps_of_unknown_size": (
        "Gaps that the server has no size for.",
        lambda row: row.lost.unknown if row.lost else None,
    ),
    "drifts": (
        "Drifts found.",
        lambda row: None if row.health is None else row.health.drifts,
    ),
}


@dataclass(frozen=True)
class StatusCollector:
    """Gives Prometheus what `status` shows, looked up anew at each scrape."""

    look_up: Callable[[], Sequence[Row]]

    def collect(self) -> Iterator[Metric]:
        """Yield a family a figure; a model that has none yet is left out."""
        import redis
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        rows, reached = [], 1.0
        try:
            rows = list(self.look_up())
        except redis.RedisError:
            reached = 0.0
        yield GaugeMetricFamily("streamclust_server_up", "Whether Redis answers.", reached)
        for kind, table in ((GaugeMetricFamily, _GAUGES), (CounterMetricFamily, _COUNTERS)):
            for name, (text, value_of) in table.items():
                family = kind(f"streamclust_{name}", text, labels=["model"])
                for row in rows:
                    value = value_of(row)
                    if value is not None:
                        family.add_metric([printable(row.name)], float(value))
                yield family


@click.command()
@server_options
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Serve them on this port until Ctrl-C, looked up at each scrape; 0 takes a free one.",
)
@wait_option("not at all; with --port it serves at once, and shows streamclust_server_up 0")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to serve them on.")
def metrics(settings: Settings, port: int | None, host: str, wait: float | None) -> None:
    """Print what `status` shows in Prometheus' text format, or serve it.

    \b
    Examples:
      streamclust metrics                            once, for a textfile collector
      streamclust metrics --port 9464 --host 0.0.0.0 for Prometheus to scrape
    """
    from prometheus_client import CollectorRegistry, generate_latest

    from streamclust.cli.status import all_names, look

    serve_at_once = port is not None and wait is None
    with found_server(settings) if serve_at_once else opened_server(settings, wait) as server:
        if serve_at_once:
            _refuse_what_stays(server)
        clients: list[redis.Redis] = []

        def look_up() -> list[Row]:
            if not clients:  # one of a cluster can't be made while that is away
                clients.append(server.client())
            [client] = clients
            return [look(client, settings, name) for name in all_names(client, settings)]

        registry = CollectorRegistry(auto_describe=False)
        registry.register(StatusCollector(look_up))
        if port is None:
            click.echo(generate_latest(registry).decode(), nl=False)
        else:
            _serve(registry, host, port)


def _refuse_what_stays(server: Server) -> None:
    """Raise a fault of the server at the start, unless it is one that may pass."""
    import redis

    from streamclust.store.faults import passes

    try:
        with server.client() as client:
            client.ping()
    except redis.RedisError as error:
        if not passes(error):
            raise


def _serve(registry: CollectorRegistry, host: str, port: int) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    from prometheus_client import start_http_server

    from streamclust.errors import ConfigError
    from streamclust.runtime.signals import stop_on_signals

    stop = threading.Event()
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise ConfigError(f"--port: can't listen on {host}:{port}: {error.strerror}") from None
    with stop_on_signals(stop):
        say(f"http://{host}:{server.server_port}/metrics")
        while not stop.wait(0.2):  # a signal that another thread was given wakes nobody
            pass
    server.shutdown()
    thread.join()
