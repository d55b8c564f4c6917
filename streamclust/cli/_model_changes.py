"""``streamclust models delete``, ``reset`` and ``rename``: they list the changes, and ask."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from streamclust.cli._confirm import confirm, yes_option
from streamclust.cli._options import server_options
from streamclust.cli._render import plural, say, size_text
from streamclust.cli._server import opened_server, unknown_model
from streamclust.text import exact_json, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import redis

    from streamclust.config import Settings
    from streamclust.store.model.inventory import Inventory, StoredKey
    from streamclust.store.model.keys import Keys

_TIMEOUT = 600.0
"""Maximum seconds for a command of the server; a large key takes long to copy or remove."""

_NAME = re.compile(r"[A-Za-z0-9_.-]+")

force_option = click.option(
    "--force",
    is_flag=True,
    help="Do it even while a worker, an encoder or a refit uses the model. That process loses the "
    "model and everything it hasn't committed. A worker whose settings still have the model starts "
    "the model from nothing.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")


@dataclass(frozen=True)
class _Stored:
    """A model on an opened server."""

    client: redis.Redis
    keys: Keys
    found: Inventory
    label: str


@click.command(short_help="Remove a model with all its keys.")
@click.argument("model")
@server_options
@yes_option
@force_option
@json_option
def delete(settings: Settings, model: str, yes: bool, force: bool, as_json: bool) -> None:
    """Remove MODEL from the server: state, versions, dead letters, codes and consumer groups.

    The streams of points stay. The command lists what it will remove and asks for confirmation.
    All keys of the model are removed at once. While a worker, an encoder or a refit uses the model,
    the command refuses.

    \b
    Examples:
      streamclust models delete machines
      streamclust models delete machines --yes --json
    """
    from streamclust.store.model.removal import delete as run

    with _opened(settings, model, force=force) as stored:
        found = stored.found
        _list(stored, found.keys, found.groups, quiet=as_json and yes, err=as_json)
        keys = plural(len(found.keys), "key")
        groups = plural(len(found.groups), "consumer group")
        confirm(f"delete model {model!r}: {keys}, {groups}?", yes)
        run(stored.client, stored.keys, found, force=force)
    if as_json:
        _print_json(stored, found.keys, found.groups)
    else:
        click.echo(printable(f"{model}: deleted"))
        if model in settings.models:
            where = settings.file or "the settings"
            say(printable(f"{where} still has the model: the next worker starts it from nothing"))


@click.command(short_help="Forget what a model has learned.")
@click.argument("model")
@server_options
@yes_option
@force_option
@json_option
def reset(settings: Settings, model: str, yes: bool, force: bool, as_json: bool) -> None:
    """Remove what MODEL has learned: its state, versions and dead letters.

    Codes and consumer groups stay. MODEL starts from nothing: the next worker learns the streams
    again from `models.MODEL.start`; entries that were trimmed are not learned again. Versions count
    from 1, and the model has a new model ID, so that subscribers see that it is another model.

    \b
    Examples:
      streamclust models reset machines
      streamclust models reset machines --yes
    """
    from streamclust.store.model.keys import raw_key
    from streamclust.store.model.removal import reset as run

    with _opened(settings, model, force=force) as stored:
        keys = stored.keys
        learned = set(map(raw_key, keys.learned))
        lost = tuple(each for each in stored.found.keys if each.key in learned)
        _list(stored, lost, (), quiet=as_json and yes, err=as_json)
        confirm(f"reset model {model!r}: {plural(len(lost), 'key')}?", yes)
        run(stored.client, keys, force=force)
    if as_json:
        _print_json(stored, lost, ())
    else:
        click.echo(printable(f"{model}: reset"))


@click.command(short_help="Give a model another name.")
@click.argument("old")
@click.argument("new")
@server_options
@yes_option
@force_option
@json_option
def rename(settings: Settings, old: str, new: str, yes: bool, force: bool, as_json: bool) -> None:
    """Rename model OLD to NEW: all keys move, with versions, position, dead letters and codes.

    Encoders continue at their positions. Rename the model in the settings too, before you start a
    worker. Subscribers must follow the new name.

    \b
    Examples:
      streamclust models rename machines pumps
    """
    from streamclust.store.model.keys import Keys
    from streamclust.store.model.rename import rename as run

    if not _NAME.fullmatch(new):
        raise click.UsageError(f"NEW is {new!r}; expected text of letters, digits, _, . and -")
    if old == new:
        raise click.UsageError("OLD and NEW are the same name")
    with _opened(settings, old, force=force) as stored:
        found = stored.found
        _list(stored, found.keys, found.groups, quiet=as_json and yes, err=as_json)
        confirm(f"rename model {old!r} to {new!r}: {plural(len(found.keys), 'key')}?", yes)
        run(stored.client, stored.keys, Keys(settings.namespace, new), found, force=force)
    if as_json:
        _print_json(stored, found.keys, found.groups, renamed_to=new)
        return
    click.echo(printable(f"{old}: renamed to {new}"))
    if template := settings.models.template_of(old):
        entry = printable(template.name.text)
        say(f"if its stream exists, the template {entry} starts {old} from nothing")
    elif old in settings.models:
        say(f"now rename models.{old} to models.{new} in {settings.file or 'the settings'}")


@contextmanager
def _opened(settings: Settings, model: str, *, force: bool) -> Iterator[_Stored]:
    """Give the model's keys; refuse an unknown model and, without `force`, one that is in use."""
    from streamclust.errors import BusyError, UnknownModelError
    from streamclust.store.model.inventory import take_inventory
    from streamclust.store.model.keys import Keys
    from streamclust.store.model.lease import release_ended

    known = settings.models.get(model)
    streams = () if known is None else (*known.streams, *known.encode.streams)
    with opened_server(settings) as server:
        client, keys = server.client(timeout=_TIMEOUT), Keys(settings.namespace, model)
        release_ended(client, keys)
        found = take_inventory(client, keys, streams)
        if not found.keys:
            raise UnknownModelError(
                f"model {model!r} has no keys on {server.label} in namespace {settings.namespace!r}"
                if known
                else unknown_model(client, settings, model, server.label)
            )
        if found.users and not force:
            raise BusyError(
                f"model {model!r} is in use: {' and '.join(found.users)}; stop them first, or add "
                "--force to take the model from them"
            )
        yield _Stored(client, keys, found, server.label)


def _list(
    stored: _Stored,
    keys: Sequence[StoredKey],
    groups: Sequence[tuple[bytes, str]],
    *,
    quiet: bool,
    err: bool,
) -> None:
    """List the keys and groups that the command will remove or rename."""
    if quiet:
        return
    lines = [f"{stored.label}, namespace {stored.keys.namespace}:", *map(_of_key, keys)]
    for stream, name in groups:
        lines.append(f"  consumer group {name} of {stream.decode(errors='backslashreplace')}")
    for line in lines:
        click.echo(printable(line), err=err)


_CONTENTS = {
    "state": "what was learned, and the position in the streams",
    "coreset": "points of the state: coreset, or warm-up",
    "id": "model ID",
    "proposal": "proposed refit",
    "refitting": "lock of a refit",
    "lease": "lease of a worker",
    "token": "fencing token",
    "health": "report of a worker",
    "paused": "pause of a user",
}


def _of_key(each: StoredKey) -> str:
    name = each.key.decode(errors="surrogateescape").partition("}:")[2]
    text = _CONTENTS.get(name, "")
    if name == "models":
        text = plural(each.length, "version")
    elif name.startswith("codes"):
        text = f"codes of {each.length:,} entries"
    elif name == "dead":
        text = plural(each.length, "dead letter")
    elif name == "alerts":
        text = plural(each.length, "alert")
    size = "unknown size" if each.size is None else size_text(each.size)
    return f"  {each.key.decode(errors='surrogateescape')}: {text}, {size}"


def _print_json(
    stored: _Stored, keys: Sequence[StoredKey], groups: Sequence[tuple[bytes, str]], **more: Any
) -> None:
    report = {
        "model": stored.keys.model,
        "keys": [each.key.decode(errors="backslashreplace") for each in keys],
        "versions": stored.found.length(stored.keys.models),
        "bytes": sum(each.size or 0 for each in keys),
        "groups": [
            {"stream": stream.decode(errors="backslashreplace"), "group": name}
            for stream, name in groups
        ],
    }
    click.echo(exact_json({**report, **more}))
