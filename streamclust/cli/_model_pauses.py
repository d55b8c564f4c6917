"""``streamclust models pause`` and ``resume``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from streamclust.cli._options import Duration, server_options
from streamclust.cli._render import plural, say
from streamclust.cli._server import opened_server, select_models, unknown_model
from streamclust.cli._signals import CtrlC
from streamclust.cli.exit_codes import EXIT_ERROR, EXIT_INTERRUPTED
from streamclust.text import exact_json, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import redis

    from streamclust.config import Settings
    from streamclust.store.model.keys import Keys
    from streamclust.store.model.pause import Effect

_MAX_LINES = 25
"""Maximum number of models with one line each; for more models, the command prints counts."""

_MODELS = click.argument("models", nargs=-1, required=True, metavar="MODEL...")


@click.command(short_help="Stop learning models, until resume.")
@_MODELS
@server_options
@click.option("--reason", default="", metavar="TEXT", help="Why; `status` shows this text.")
@click.option(
    "--wait",
    type=Duration(most=86_400.0),
    default="10s",
    show_default=True,
    metavar="DURATION",
    help="Maximum wait for the workers' confirmation.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per model.")
def pause(
    settings: Settings, models: tuple[str, ...], reason: str, wait: float, as_json: bool
) -> None:
    """Pause MODELs: no worker learns or publishes them until `streamclust models resume`.

    A MODEL may be a pattern in quotes, such as 'clicks-*', or the name of a template. A running
    worker commits the current batch, confirms the pause, and keeps the model. The pause is stored
    on the server: it also holds for other workers, and after a restart. Versions can still be read,
    and encoders continue with the newest one. The streams aren't read, so their lag grows; entries
    that are trimmed during the pause are never learned. A refit or a rollback waits for the end of
    the pause.

    A model that is paused already keeps its first reason. If a worker doesn't confirm the pause in
    time, the exit code is 1; the pause stays, and takes effect after the worker's current batch.

    \b
    Examples:
      streamclust models pause machines --reason "sensor 7 is being replaced"
      streamclust models pause 'clicks-*'
      streamclust models resume machines
    """
    from streamclust.client.pausing import new_pause, pause_all

    new = new_pause(reason)
    with opened_server(settings) as server, CtrlC() as ctrl_c:
        client = server.client()
        chosen = _chosen(client, settings, models, server.label)
        found = pause_all(client, chosen, new, wait, ctrl_c.is_set)
        is_interrupted = ctrl_c.is_set()
    if as_json:
        for keys, effect in found.items():
            click.echo(exact_json(_pause_json(keys.model, effect)))
    elif len(found) > _MAX_LINES:
        new_ones = sum(effect.is_new for effect in found.values())
        before = len(found) - new_ones
        more = f", {before:,} were paused already" if before else ""
        click.echo(f"paused {plural(new_ones, 'model')}{more}")
    else:
        for keys, effect in found.items():
            click.echo(printable(f"{keys.model}: {_pause_text(effect)}"))
    waiting = [keys.model for keys, effect in found.items() if not effect.is_confirmed]
    _say_first(
        waiting, f"the worker hasn't confirmed within {wait:g} s; it pauses after its current batch"
    )
    if is_interrupted:
        raise SystemExit(EXIT_INTERRUPTED)
    if waiting:
        raise SystemExit(EXIT_ERROR)


def _pause_text(effect: Effect) -> str:
    if not effect.is_new:
        return f"is already paused: {effect.pause.text_with_age}"
    if not effect.is_held:
        return "paused; no worker has the model"
    health = effect.health
    if health is None or not effect.is_confirmed:
        return "will be paused"
    version = f"version {health.version}" if health.version else "no version yet"
    return f"paused at {plural(health.points, 'point')}, {version}"


def _pause_json(model: str, effect: Effect) -> dict[str, Any]:
    from streamclust.store.model.pause import pause_dict

    health = effect.health
    return {
        "model": model,
        "is_new": effect.is_new,
        "is_confirmed": effect.is_confirmed,
        "worker": None if health is None else f"{health.host}:{health.pid}",
        **pause_dict(effect.pause),
    }


@click.command(short_help="Continue paused models.")
@_MODELS
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per model.")
def resume(settings: Settings, models: tuple[str, ...], as_json: bool) -> None:
    """Resume paused MODELs: each continues at the entry at which it was paused.

    A MODEL may be a pattern in quotes, such as 'clicks-*', or the name of a template. The worker
    that has a model continues at once; without a worker, the next one continues. A refit or a
    rollback that waits is applied first. It is no error if a model isn't paused.

    \b
    Examples:
      streamclust models resume machines
      streamclust models resume 'clicks-*'
    """
    from streamclust.store.model.pause import pause_dict, resume_models

    with opened_server(settings) as server:
        client = server.client()
        chosen = _chosen(client, settings, models, server.label)
        names = [keys.model for keys in chosen]
        found = dict(zip(names, resume_models(client, chosen), strict=True))
    if as_json:
        for name, resumed in found.items():
            before = None if resumed is None else pause_dict(resumed.pause)
            held = resumed is not None and resumed.is_held
            click.echo(exact_json({"model": name, "paused_before": before, "is_held": held}))
    elif len(found) > _MAX_LINES:
        count = sum(resumed is not None for resumed in found.values())
        more = f", {len(found) - count:,} weren't paused" if count < len(found) else ""
        click.echo(f"resumed {plural(count, 'model')}{more}")
    else:
        for name, resumed in found.items():
            text = "isn't paused"
            if resumed is not None:
                text = f"resumed; it was paused {resumed.pause.text_with_age}"
                text += "" if resumed.is_held else "; no worker has the model"
            click.echo(printable(f"{name}: {text}"))


def _chosen(
    client: redis.Redis, settings: Settings, names: Sequence[str], label: str
) -> list[Keys]:
    """Return the keys of the models that the arguments select.

    Raises
    ------
    UnknownModelError
        If a model is neither in the settings nor on the server, or a pattern matches none.
    """
    from streamclust.errors import UnknownModelError
    from streamclust.store.model.keys import Keys
    from streamclust.store.model.versions import model_names

    chosen = select_models(client, settings, names, label)
    others = [name for name in chosen if name not in settings.models]
    there = set(model_names(client, settings.namespace)) if others else set()
    for name in others:
        if name not in there:
            raise UnknownModelError(unknown_model(client, settings, name, label))
    return [Keys(settings.namespace, name) for name in chosen]


def _say_first(names: Iterable[str], text: str) -> None:
    """Print a line about each of the first models."""
    for number, name in enumerate(names):
        if number == _MAX_LINES:
            say("and more; see `streamclust status`")
            return
        say(printable(f"{name}: {text}"))
