"""``streamclust metrics``."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from streamclust.cli._options import server_options, wait_option
from streamclust.cli._render import say
from streamclust.cli._server import (
    found_server,
    opened_server,
    read_overviews,
    select_models,
)
from streamclust.store.model.totals import Totals
from streamclust.text import matching, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

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
    "paused": (
        "Whether a user has paused the model; its lag then grows.",
        lambda row: row.pause is not None,
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
    "codebook_perplexity": (
        "Number of components, used equally often, of the same entropy; at most K.",
        lambda row: None if row.codebook is None else row.codebook.perplexity,
    ),
    "codebook_largest_share": (
        "Share of the component that is used most, from 0 to 1.",
        lambda row: None if row.codebook is None else row.codebook.largest_share,
    ),
    "codebook_dead": (
        "Components with less than 1 % of the average weight.",
        lambda row: None if row.codebook is None else row.codebook.dead,
    ),
    "codebook_near_dead": (
        "Components with 1 % to 10 % of the average weight.",
        lambda row: None if row.codebook is None else row.codebook.near_dead,
    ),
    "missing_share": (
        "Share of missing values in all points learned, from 0 to 1.",
        lambda row: row.missing_share,
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
    "alerts": ("Points flagged as anomalies.", lambda row: row.alerts),
}


_GROUP_GAUGES: dict[str, tuple[str, Callable[[Totals], float]]] = {
    "group_lag_entries": ("Stream entries that are not learned yet.", lambda sums: sums.lag),
    "group_largest_lag_entries": (
        "Largest lag of one model of the group.",
        lambda sums: sums.largest_lag,
    ),
    "group_models_of_unknown_lag": (
        "Models whose lag the server doesn't know.",
        lambda sums: sums.unknown_lags,
    ),
}

_GROUP_COUNTERS: dict[str, tuple[str, Callable[[Totals], float]]] = {
    "group_points": ("Points learned.", lambda sums: sums.points),
    "group_dead_points": ("Points in the dead-letter streams.", lambda sums: sums.dead),
    "group_lost_entries": ("Entries removed before they were read.", lambda sums: sums.lost),
    "group_gaps_of_unknown_size": (
        "Gaps whose number of lost entries is unknown.",
        lambda sums: sums.unknown_gaps,
    ),
    "group_drifts": ("Drifts detected.", lambda sums: sums.drifts),
    "group_alerts": ("Points flagged as anomalies.", lambda sums: sums.alerts),
}

_ALL_SERIES = 100
"""Maximum number of models that have their own series by default."""

_MAX_SERIES = 1000
"""Maximum number of models that have their own series."""

_MAX_GROUPS = 100
"""Maximum number of groups; the smallest ones are summed up in the group `_REST`."""

_REST = "other"


@dataclass(frozen=True)
class StatusCollector:
    """Returns the figures of `status` to Prometheus, and reads them again at each scrape.

    Parameters
    ----------
    look_up : callable
        Returns the names of all models, and an iterator over their overviews.
    group_of : callable
        Returns the group of a model, given its name.
    patterns : sequence of str
        Patterns of the models that have their own series. Default: all models, if there are few.
    count_workers : callable, optional
        Returns the number of live workers; None if it is unknown.
    """

    look_up: Callable[[], tuple[Sequence[str], Iterable[Overview]]]
    group_of: Callable[[str], str]
    patterns: Sequence[str] = ()
    count_workers: Callable[[], int | None] = lambda: None

    def collect(self) -> Iterator[Metric]:
        """Yield one metric family per figure; models without a value are left out."""
        import redis
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        own, groups, left_out, reached = list[_Own](), dict[str, Totals](), 0, 1.0
        figures, live = {**_GAUGES, **_COUNTERS}, None
        try:
            names, rows = self.look_up()
            # The models that have their own series.
            if self.patterns:
                chosen = set(matching(names, self.patterns)[:_MAX_SERIES])
            else:
                chosen = set(names) if len(names) <= _ALL_SERIES else set()
            left_out = len(names) - len(chosen)
            live = self.count_workers()
            for row in rows:
                groups.setdefault(self.group_of(row.name), Totals()).add(row)
                if row.name in chosen:
                    samples = {name: value(row) for name, (_, value) in figures.items()}
                    own.append(_Own(printable(row.name), samples))
        except redis.RedisError:
            own, groups, left_out, reached = [], {}, 0, 0.0
        yield GaugeMetricFamily("streamclust_server_up", "Whether Redis answers.", reached)
        if live is not None:
            yield GaugeMetricFamily("streamclust_workers", "Live workers.", live)
        text = "Models without series of their own; see --per-model."
        yield GaugeMetricFamily("streamclust_models_without_series", text, left_out)
        for kind, table in ((GaugeMetricFamily, _GAUGES), (CounterMetricFamily, _COUNTERS)):
            for name, (text, _) in table.items():
                family = kind(f"streamclust_{name}", text, labels=["model"])
                for model, values in own:
                    if values[name] is not None:
                        family.add_metric([model], float(values[name]))
                yield family
        yield from self._group_families(_bounded(groups))

    def _group_families(self, groups: dict[str, Totals]) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        text = "Models of the group in each phase."
        models = GaugeMetricFamily("streamclust_group_models", text, labels=["group", "phase"])
        for group, sums in groups.items():
            for phase, number in sums.by_phase():
                models.add_metric([printable(group), printable(phase)], number)
        yield models
        for kind, table in (
            (GaugeMetricFamily, _GROUP_GAUGES),
            (CounterMetricFamily, _GROUP_COUNTERS),
        ):
            for name, (text, value_of) in table.items():
                family = kind(f"streamclust_{name}", text, labels=["group"])
                for group, sums in groups.items():
                    family.add_metric([printable(group)], float(value_of(sums)))
                yield family


class _Own(NamedTuple):
    """The values of a model that has its own series."""

    model: str
    values: dict[str, Any]


def _bounded(groups: dict[str, Totals]) -> dict[str, Totals]:
    """Return the groups in the order of their names; the smallest of too many are summed up."""
    if len(groups) <= _MAX_GROUPS:
        return dict(sorted(groups.items()))
    ranked = sorted(groups.items(), key=lambda item: (-item[1].models, item[0]))
    rest = Totals()
    for _, sums in ranked[_MAX_GROUPS - 1 :]:
        rest.merge(sums)
    return {**dict(sorted(ranked[: _MAX_GROUPS - 1])), _REST: rest}


@click.command()
@server_options
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Serve over HTTP on this port until Ctrl-C; 0 chooses a free port.",
)
@wait_option(
    "no wait. With --port, the command serves at once: streamclust_server_up is 0 until the "
    "server answers"
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Address to listen on, with --port.",
)
@click.option(
    "--per-model",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="Models with their own series, as in 'clicks-*'; at most 1,000 models. Repeatable.  "
    "[default: all models if there are at most 100, else none]",
)
def metrics(
    settings: Settings, port: int | None, host: str, wait: float | None, patterns: tuple[str, ...]
) -> None:
    """Print the figures of `status` in Prometheus' text format, or serve them over HTTP.

    The command reads the figures again at each scrape. The series streamclust_group_... have sums
    per group: a template of the settings, or a single model. There are at most 100 groups. Each
    model also has its own series if there are at most 100 models, or with --per-model.

    \b
    Examples:
      streamclust metrics                              once, for a textfile collector
      streamclust metrics --port 9464 --host 0.0.0.0   for Prometheus to scrape
      streamclust metrics --per-model 'clicks-*'       series of these models
    """
    from prometheus_client import CollectorRegistry, generate_latest

    from streamclust.runtime.overviews import group_of

    serve_at_once = port is not None and wait is None
    opened = (
        found_server(settings)
        if serve_at_once
        else opened_server(settings, wait, start=False if wait else None)
    )
    with opened as server:
        if serve_at_once:
            _raise_permanent_fault(server)
        clients: list[redis.Redis] = []

        def look_up() -> tuple[Sequence[str], Iterable[Overview]]:
            if not clients:  # a client of a cluster can't be made while the cluster is down
                clients.append(server.client())
            [client] = clients
            names = select_models(client, settings, (), server.label)
            return names, read_overviews(client, settings, names, server.label)

        def count_workers() -> int | None:
            from redis import ResponseError

            from streamclust.store.model.workers import read_workers

            try:
                return len(read_workers(clients[0], settings.namespace))
            except ResponseError:  # the user may not read the reports
                return None

        registry = CollectorRegistry(auto_describe=False)
        registry.register(StatusCollector(look_up, group_of(settings), patterns, count_workers))
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
