"""``streamclust status``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from streamclust.cli.common import opened_server, plain_console, server_options
from streamclust.text import exact_json, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import redis
    from rich.table import Table

    from streamclust.config import Settings
    from streamclust.store.gaps import Lost
    from streamclust.store.health import Health
    from streamclust.store.published import Model

WIDEST_NAME = 100
"""Characters of a name that are shown in a table."""


T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """What is known of one model; None where there is nothing to know yet.

    `troubles` has a line for each part that can't be read.
    """

    name: str
    model: Model | None
    health: Health | None
    lag: int | None
    lost: Lost | None
    dead: int | None
    troubles: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it for machines."""
        health = self.health
        return {
            "model": self.name,
            "worker": None if health is None else f"{health.host}:{health.pid}",
            "phase": self.phase,
            "reason": self.reason or None,
            "points_seen": self.points,
            "progress_age": None if health is None else health.progress_age,
            "kernels": None if health is None else health.kernels,
            "drifts": None if health is None else health.drifts,
            "rate": None if health is None else health.rate,
            "dead": self.dead,
            "lag": self.lag,
            "lost": None if self.lost is None else asdict(self.lost),
            "published": None if self.model is None else self.model.summary(),
            "weight_per_cluster": None if self.model is None else self.model.mass.tolist(),
        }

    @property
    def points(self) -> int | None:
        """Points learned, by the live worker's report or else the newest version's."""
        if self.health is not None and (self.health.alive or self.model is None):
            return self.health.points
        return None if self.model is None else self.model.points

    @property
    def alive(self) -> bool:
        """Whether a live worker has the model and makes progress."""
        return self.health is not None and self.health.alive

    @property
    def failed(self) -> bool:
        """Whether the model is failed, stalled or damaged."""
        return bool(self.troubles) or not (self.health is None or self.health.alive)

    @property
    def phase(self) -> str:
        """What the worker reports; without one 'stopped', or 'damaged' if a key can't be read."""
        if self.health is not None:
            return self.health.phase
        return "damaged" if self.troubles else "stopped"

    @property
    def reason(self) -> str:
        """Why the model isn't as it should be; empty if it is."""
        if self.health is None and self.model is None and not self.troubles:
            return "never published"
        reported = "" if self.health is None else self.health.reason
        return "; ".join(dict.fromkeys(filter(None, (reported, *self.troubles))))


@click.command()
@click.argument("models", nargs=-1)
@server_options
@click.option("--json", "as_json", is_flag=True, help="JSON, with the weight of each cluster.")
def status(settings: Settings, models: tuple[str, ...], as_json: bool) -> None:
    """Show MODELS (default: all of the namespace) and the workers that learn them.

    LAG is the number of stream entries still to be learned; "?" where the server can't tell.
    LOST is the number of entries that were gone before they could be read; "+?" if there were more
    of which the server can't tell the number.
    WORKER is the phase that a live worker reports. "failed" is a model that it can't go on with,
    "stalled" one without progress, "damaged" one that has no worker and a key that can't be read.
    The reasons are below the table.
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
    """Gather what the server has on a model; what can't be read becomes a trouble of its row.

    Raises
    ------
    UnknownModelError
        If neither the settings nor the server know the model.
    redis.RedisError
        If the server itself can't be used.
    """
    from streamclust.errors import UnknownModelError
    from streamclust.store.checkpoint import Covered, decode_covered
    from streamclust.store.gaps import Lost
    from streamclust.store.keys import Keys
    from streamclust.store.lag import lag
    from streamclust.store.read_size import read_value
    from streamclust.store.subscription import dead_count, model_names, read_model

    keys = Keys(settings.namespace, name)
    configured = settings.models[name].streams if name in settings.models else ()
    troubles: list[str] = []

    def attempt(read: Callable[[], Any], key: str) -> Any:
        value, trouble = _attempt(read, key)
        troubles.extend(filter(None, [trouble]))
        return value

    def covered() -> Covered:
        state: Any = read_value(client, keys.state, lambda: client.get(keys.state))
        return Covered() if state is None else decode_covered(state, f"key {keys.state}")

    health, trouble = health_of(client, settings, name)
    troubles += filter(None, [trouble])
    model: Model | None = None
    try:
        model = attempt(lambda: read_model(client, keys), keys.models)
    except UnknownModelError:
        known = name in settings.models or health is not None
        if not known and name not in model_names(client, settings.namespace):
            raise
        if "\\x" in name:
            troubles.append("the name isn't UTF-8, so its keys can't be read")
    at = attempt(covered, keys.state)
    lost = behind = None
    if at is not None:
        lost, streams = sum(at.lost.values(), Lost()), tuple(at.position) or configured
        if streams:
            behind = attempt(lambda: lag(client, streams, at.position, at.read), ", ".join(streams))
    dead = attempt(lambda: dead_count(client, keys), keys.dead)
    return Row(name, model, health, behind, lost, dead, tuple(troubles))


def health_of(client: redis.Redis, settings: Settings, name: str) -> tuple[Health | None, str]:
    """Return what the live worker of a model reports, and why that can't be read, if so."""
    from streamclust.store.health import read_health
    from streamclust.store.keys import Keys

    keys = Keys(settings.namespace, name)
    return _attempt(lambda: read_health(client, keys), keys.health)


def _attempt(read: Callable[[], T], key: str) -> tuple[T | None, str]:
    """Return what `read` does, or None and the reason why it can't, which names the key."""
    import redis

    from streamclust.errors import NotPermittedError, StreamclustError, UnknownModelError
    from streamclust.store.connect import translated
    from streamclust.store.faults import passes

    try:
        return read(), ""
    except UnknownModelError:
        raise
    except StreamclustError as error:
        return None, str(error)
    except redis.RedisError as error:
        if passes(error) or isinstance(translated(error, ""), NotPermittedError):
            raise  # a fault of the server, or of the user's rights, and not of this key
        reason = str(error).removeprefix("WRONGTYPE ")
        return None, reason if key in reason else f"key {key} can't be read: {reason}"
    except Exception as error:
        return None, f"key {key} holds what can't be read: {error!r}"


def _show(rows: Sequence[Row], *, detailed: bool) -> None:
    console = plain_console()
    if not rows:
        console.print("no models yet: describe one in config.yaml and run `streamclust worker`")
        return
    console.print(_models_table(rows))
    for row in rows:
        if row.reason:
            click.echo(printable(f"{row.name}: {row.phase}: {row.reason}"))
    known = (row.health.kernels for row in rows if row.health and row.health.kernels)
    kernels = sorted(set(map(printable, known)))
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
        "none" if row.phase == "stopped" else printable(row.phase),
        "-" if model is None else str(model.version),
        count(row.points, "-"),
        "-" if health is None else f"{health.rate:,.0f}",
        count(row.lag),
        _lost(row.lost),
        count(row.dead),
        "-" if model is None else number(model.score),
        "" if model is None else bars(model.mass.tolist(), 12),
    )


def _lost(lost: Lost | None) -> str:
    from streamclust.cli.words import count

    if lost is None:
        return "?"
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
