"""``streamclust metrics``."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from streamclust.cli._options import server_options, wait_option
from streamclust.cli._render import say
from streamclust.cli._server import found_server, opened_server, read_overviews
from streamclust.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import redis
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from streamclust.config import Settings
    from streamclust.store.model.overview import Overview
    from streamclust.store.server.connect import Server

_GAUGES: dict[str, tuple[str, Callable[[Overview], float | None]]] = {
    "up": ("Whether a live worker learns the model and makes progress.", lambda row: row.alive),
    "failed": (
        "Whether the model is failed, stalled or damaged; `streamclust status` has the reason.",
        lambda row: row.failed,
    ),
    "lag_entries": ("Stream entries that are not learned yet.", lambda row: row.lag),
    "version": (
        "Newest published version.",
        lambda row: None if row.model is None else row.model.version,
    ),
    "score": (
        "Out-of-sample inertia, or log-likelihood, per point.",
        lambda row: None if row.model is None else row.model.score,
    ),
    "effective_weight_points": (
        "Total weight of the points in the model, after forgetting.",
        lambda row: None if row.model is None else float(row.model.mass.sum()),
    ),
}

_COUNTERS: dict[str, tuple[str, Callable[[Overview], float | None]]] = {
    "points": ("Points learned.", lambda row: row.points),
    "dead_points": ("Points in the dead-letter stream.", lambda row: row.dead),
    "lost_entries": (
        "Entries removed before they were read.",
        lambda row: row.lost.entries if row.lost else None,
    ),
    "gaps_of_unknown_size": (
        "Gaps whose number of lost entries is unknown.",
        lambda row: row.lost.unknown if row.lost else None,
    ),
    "drifts": (
        "Drifts detected.",
        lambda row: None if row.health is None else row.health.drifts,
    ),
}


@dataclass(frozen=True)
class StatusCollector:
    """Gives Prometheus the figures of `status`, read again at each scrape."""

    look_up: Callable[[], Sequence[Overview]]

    def collect(self) -> Iterator[Metric]:
        """Yield one metric family per figure; models without a value are left out."""
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
    help="Serve over HTTP on this port until Ctrl-C; 0 chooses a free port.",
)
@wait_option("no wait; with --port, streamclust_server_up is 0 until then")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on, with --port."
)
def metrics(settings: Settings, port: int | None, host: str, wait: float | None) -> None:
    """Print the figures of `status` in Prometheus' text format, or serve them over HTTP.

    The command reads the figures again at each scrape.

    \b
    Examples:
      streamclust metrics                              once, for a textfile collector
      streamclust metrics --port 9464 --host 0.0.0.0   for Prometheus to scrape
    """
    from prometheus_client import CollectorRegistry, generate_latest

    serve_at_once = port is not None and wait is None
    with found_server(settings) if serve_at_once else opened_server(settings, wait) as server:
        if serve_at_once:
            _raise_permanent_fault(server)
        clients: list[redis.Redis] = []

        def look_up() -> list[Overview]:
            if not clients:  # a client of a cluster can't be made while the cluster is down
                clients.append(server.client())
            [client] = clients
            return list(read_overviews(client, settings))

        registry = CollectorRegistry(auto_describe=False)
        registry.register(StatusCollector(look_up))
        if port is None:
            click.echo(generate_latest(registry).decode(), nl=False)
        else:
            _serve(registry, host, port)


def _raise_permanent_fault(server: Server) -> None:
    """Raise a permanent fault of the server at the start, such as a wrong password."""
    import redis

    from streamclust.store.server.faults import passes

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
        while not stop.wait(0.2):  # a signal to another thread doesn't end the wait
            pass
    server.shutdown()
    thread.join()
