"""``streamclust status``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from streamclust.cli.common import opened_server, plain_console, server_options
from streamclust.text import exact_json, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis
    from rich.table import Table

    from streamclust.config import Settings
    from streamclust.store.gaps import Lost
    from streamclust.store.health import Health
    from streamclust.store.published import Model

WIDEST_NAME = 100
"""Characters of a name that are shown in a table."""


@dataclass(frozen=True)
class Row:
    """What is known of one model; None where there is nothing to know yet."""

    name: str
    model: Model | None
    health: Health | None
    lag: int | None
    lost: Lost
    dead: int

    def as_dict(self) -> dict[str, Any]:
        """Return it for machines."""
        health = self.health
        return {
            "model": self.name,
            "worker": None if health is None else f"{health.host}:{health.pid}",
            "phase": "stopped" if health is None else health.phase,
            "points_seen": self.points,
            "kernels": None if health is None else health.kernels,
            "drifts": None if health is None else health.drifts,
            "rate": None if health is None else health.rate,
            "dead": self.dead,
            "lag": self.lag,
            "lost": asdict(self.lost),
            "published": None if self.model is None else self.model.summary(),
            "weight_per_cluster": None if self.model is None else self.model.mass.tolist(),
        }

    @property
    def points(self) -> int | None:
        """Points learned, by the live worker's word or else the newest version's."""
        if self.health is not None:
            return self.health.points
        return None if self.model is None else self.model.points


@click.command()
@click.argument("models", nargs=-1)
@server_options
@click.option("--json", "as_json", is_flag=True, help="JSON, with the weight of each cluster.")
def status(settings: Settings, models: tuple[str, ...], as_json: bool) -> None:
    """Show MODELS (default: all of the namespace) and the workers that learn them.

    LAG is the number of stream entries still to be learned; "?" where the server can't tell.
    LOST is the number of entries that were gone before they could be read; "+?" if there were more
    of which the server can't tell the number.
    With one model named, its components are listed too.

    \b
    Examples:
      streamclust status
      streamclust status palette
      streamclust status --json | jq '.[] | {model, lag, rate}'
    """
    with opened_server(settings) as server:
        client = server.client()
        names = models or all_names(client, settings)
        rows = [look(client, settings, name) for name in names]
    if as_json:
        click.echo(exact_json([row.as_dict() for row in rows]))
    else:
        _show(rows, detailed=len(models) == 1)


def all_names(client: redis.Redis, settings: Settings) -> Sequence[str]:
    """Return the models of the settings and of the namespace."""
    from streamclust.store.subscription import model_names

    return sorted({*settings.models, *model_names(client, settings.namespace)})


def look(client: redis.Redis, settings: Settings, name: str) -> Row:
    """Gather what the server has on a model."""
    from streamclust.errors import UnknownModelError
    from streamclust.store.checkpoint import Covered, decode_covered
    from streamclust.store.gaps import Lost
    from streamclust.store.health import read_health
    from streamclust.store.keys import Keys
    from streamclust.store.lag import lag
    from streamclust.store.read_size import read_value
    from streamclust.store.subscription import dead_count, read_model

    keys = Keys(settings.namespace, name)
    health = read_health(client, keys)
    model: Model | None = None
    try:
        model = read_model(client, keys)
    except UnknownModelError:
        if name not in settings.models and health is None:
            raise
    state: Any = read_value(client, keys.state, lambda: client.get(keys.state))
    at = Covered() if state is None else decode_covered(state, f"key {keys.state}")
    configured = settings.models[name].streams if name in settings.models else ()
    streams = tuple(at.position) or configured
    behind = lag(client, streams, at.position, at.read) if streams else None
    lost = sum(at.lost.values(), Lost())
    return Row(name, model, health, behind, lost, dead_count(client, keys))


def _show(rows: Sequence[Row], *, detailed: bool) -> None:
    console = plain_console()
    if not rows:
        console.print("no models yet: describe one in config.yaml and run `streamclust worker`")
        return
    console.print(_models_table(rows))
    kernels = sorted({printable(row.health.kernels) for row in rows if row.health is not None})
    if kernels:
        console.print(f"kernels: {'; '.join(kernels)}")
    if detailed and rows[0].model is not None:
        console.print()
        console.print(components_table(rows[0].model))


def _models_table(rows: Sequence[Row]) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False, collapse_padding=True)
    for name in ("MODEL", "KIND", "WORKER"):
        table.add_column(name, no_wrap=True)
    for name in ("VER", "POINTS", "RATE/S", "LAG", "LOST", "DEAD", "SCORE"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("WEIGHTS", no_wrap=True, overflow="crop")
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> tuple[str, ...]:
    from streamclust.cli.words import bars, count, number

    model, health = row.model, row.health
    return (
        printable(row.name, WIDEST_NAME),
        "-" if model is None else _kind(model),
        "none" if health is None else printable(health.phase),
        "-" if model is None else str(model.version),
        count(row.points, "-"),
        "-" if health is None else f"{health.rate:,.0f}",
        count(row.lag),
        _lost(row.lost),
        count(row.dead),
        "-" if model is None else number(model.score),
        "" if model is None else bars(model.mass.tolist(), 12),
    )


def _lost(lost: Lost) -> str:
    from streamclust.cli.words import count

    return count(lost.entries) + ("+?" if lost.unknown else "")


def _kind(model: Model) -> str:
    return "{} {}x{}".format(model.kind.removeprefix("gaussian_"), *model.means.shape)


def components_table(model: Model) -> Table:
    """Return the weight, the share and the place of each component."""
    from rich.table import Table

    from streamclust.cli.words import number

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("#", justify="right")
    table.add_column("WEIGHT", justify="right")
    table.add_column("SHARE", justify="right")
    features = model.features or tuple(f"x{d}" for d in range(model.means.shape[1]))
    for feature in features[:8]:
        table.add_column(printable(feature, WIDEST_NAME), justify="right")
    total = float(model.mass.sum()) or 1.0
    for k, mass, mean in zip(model.numbers.tolist(), model.mass, model.means, strict=True):
        values = (number(float(value)) for value in mean[:8])
        table.add_row(str(k), f"{mass:,.1f}", f"{mass / total:.2%}", *values)
    return table
