"""``streamclust codes``."""

from __future__ import annotations

import re
from heapq import nlargest
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from streamclust.cli._options import server_options
from streamclust.cli._render import number, say
from streamclust.cli._server import opened_server, refuse_unknown, select_models
from streamclust.cli._terminal import stdout_terminal
from streamclust.cli.exit_codes import EXIT_INTERRUPTED
from streamclust.text import exact_json, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from streamclust.cli._terminal import Terminal
    from streamclust.config import Settings
    from streamclust.formats.codes import CodedEntry
    from streamclust.store.model.keys import Keys
    from streamclust.store.model.read_codes import StoredCodes

_LAST = 10
_BLOCK_MS = 500
_WIDEST = 60
_MAX_FOLLOWED = 100
"""Maximum number of models whose new codes are followed: each read names all their keys."""

_ROW = "{:<20}  {:>5}  {:>6}  {:>12}  {:>7}  {}"
_NARROW_ROW = "{:<17} {:>2} {:>4} {:>9} {:>3}"
_NARROW = 64
"""Width of a terminal below which the columns are narrow, and the rest of a row has its own lines.
Rows are shown as they arrive, so the widths don't depend on them."""


class _EntryId(click.ParamType):  # type: ignore[type-arg]
    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"\d{1,20}(-\d{1,20})?", value):
            self.fail(f"got {value!r}; expected the ID of an entry, such as 1700000000000-0")
        return str(value)


@click.command()
@click.argument("model")
@server_options
@click.option("--stream", metavar="KEY", help="Only the codes of this stream of points.")
@click.option(
    "--last",
    "-n",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"Start with the codes of this many newest points.  [default: {_LAST}]",
)
@click.option(
    "--since", type=_EntryId(), metavar="ID", help="Start after this entry; 0 shows all codes."
)
@click.option("--follow", "-f", is_flag=True, help="Show new codes until Ctrl-C.")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    metavar="N",
    help="Exit after this many points.  [default: no limit]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per point.")
def codes(
    settings: Settings,
    model: str,
    stream: str | None,
    last: int | None,
    since: str | None,
    follow: bool,
    count: int | None,
    as_json: bool,
) -> None:
    """Show the codes of MODEL, oldest first: one row per point, also of blocks.

    MODEL may be a pattern in quotes: 'clicks-*' shows the newest codes of all models that match.

    The codes are written by `streamclust encode`, or by the worker with `encode.worker`. ID is the
    ID of the entry. # is the place of the point in the entry. CODE is the number of its cluster or
    component. Code -1 stands for a point that can't be read; the reason follows. VERSION is the
    version of the model.

    \b
    Examples:
      streamclust codes machines
      streamclust codes machines --last 100 --json | jq .code
      streamclust codes machines --follow
      streamclust codes machines --since 1700000000000-0
      streamclust codes 'clicks-*' --last 100        the newest codes of many models
    """
    from streamclust.runtime.discovery import selects_several

    if last is not None and since is not None:
        raise click.UsageError("--last and --since both set the start; give only one")
    try:
        with opened_server(settings) as server:
            client = server.client()
            if selects_several(model, settings):
                keys = _keys_of_many(client, settings, model, stream, server.label, follow=follow)
            else:
                keys = _keys(client, settings, model, stream, server.label, follow=follow)
            last = _LAST if last is None else last
            found = _find_codes(client, keys, last, since, model=model, follow=follow)
            terminal = None if as_json else stdout_terminal()
            if terminal is not None:
                head = _format(terminal, "ID", "#", "CODE", "DISTANCE", "VERSION", "")
                click.echo("\n".join(head))
            single = len(keys) == 1
            lines = (line for shown in found for line in _lines(shown, terminal, single=single))
            for line in islice(lines, count):
                click.echo(line)
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None


def _keys(
    client: redis.Redis,
    settings: Settings,
    model: str,
    stream: str | None,
    label: str,
    *,
    follow: bool,
) -> dict[str, str]:
    """Return the keys of the codes, and the stream of points of each.

    Raises
    ------
    UnknownModelError
        If the model, or its codes, don't exist.
    """
    from streamclust.errors import UnknownModelError
    from streamclust.store.model.keys import Keys
    from streamclust.store.model.read_codes import code_keys

    keys = Keys(settings.namespace, model)
    known = settings.models.get(model)
    streams: list[str] = []
    if known is not None:
        streams = [*(known.encode.streams or known.streams)]
    found = {key: _stream(key, keys, streams) for key in code_keys(client, keys, streams)}
    if stream is not None:
        found = {key: name for key, name in found.items() if name == stream}
    if found:
        return found
    refuse_unknown(client, settings, model, label)
    names = [stream] if stream else streams
    hint = f"write them with `streamclust encode {model}`, or set models.{model}.encode.worker"
    where = f" of stream {stream!r}" if stream else ""
    if not (follow and names):
        raise UnknownModelError(f"model {model!r} has no codes{where} on {label}; {hint}")
    say(printable(f"model {model!r} has no codes{where} on {label} yet; waiting"))
    one = len(streams) == 1
    return {keys.codes(None if one else name): name for name in names}


def _keys_of_many(
    client: redis.Redis,
    settings: Settings,
    pattern: str,
    stream: str | None,
    label: str,
    *,
    follow: bool,
) -> dict[str, str]:
    """Return the keys of the codes of all models that match a pattern; see `_keys`."""
    from streamclust.errors import UnknownModelError
    from streamclust.store.model.keys import Keys
    from streamclust.store.model.read_codes import code_keys

    found: dict[str, str] = {}
    names = select_models(client, settings, [pattern], label)
    if follow and len(names) > _MAX_FOLLOWED:
        raise click.UsageError(
            f"--follow reads at most {_MAX_FOLLOWED} models; {pattern!r} matches {len(names):,}"
        )
    for name in names:
        keys, known = Keys(settings.namespace, name), settings.models.get(name)
        streams = [] if known is None else [*(known.encode.streams or known.streams)]
        if known is None and not client.exists(keys.codes()):
            continue  # a search of all keys of the server, for each model, would take too long
        found |= {key: _stream(key, keys, streams) for key in code_keys(client, keys, streams)}
    if stream is not None:
        found = {key: name for key, name in found.items() if name == stream}
    if not found:
        where = f" of stream {stream!r}" if stream else ""
        raise UnknownModelError(f"no model that matches {pattern!r} has codes{where} on {label}")
    return found


def _stream(key: str, keys: Keys, streams: list[str]) -> str:
    """Return the stream of points of a key of codes."""
    prefix = f"{keys.codes()}:"
    if key.startswith(prefix):
        return key.removeprefix(prefix)
    return streams[0] if len(streams) == 1 else ""


class _Shown(NamedTuple):
    """An entry of codes to show.

    Attributes
    ----------
    stream : str
        Its stream of points.
    coded : StoredCodes
    first : int
        Place of the first point to show.
    """

    stream: str
    coded: StoredCodes
    first: int = 0


def _find_codes(
    client: redis.Redis,
    keys: dict[str, str],
    last: int,
    since: str | None,
    *,
    follow: bool,
    model: str,
) -> Iterator[_Shown]:
    """Yield the stored codes, and with `follow` the new ones; report that it waits for them."""
    from streamclust.store.ids import order
    from streamclust.store.model.read_codes import codes_after, n_points, newest_codes
    from streamclust.store.stream.info import newest_up_to

    exist = bool(client.exists(*keys))
    position = dict.fromkeys(keys, since or "0-0")
    if since is None:
        position = {key: newest_up_to(client, key, "+") for key in keys}
        every = (
            each for key, end in position.items() for each in newest_codes(client, key, last, end)
        )
        newest = nlargest(last, every, key=lambda each: order(each[1]))
        newest.reverse()
        extra = sum(map(n_points, newest)) - last
        for each in newest:
            n = n_points(each)
            if extra < n:
                yield _Shown(keys[each[0]], each, max(extra, 0))
            extra -= n
    else:
        for batch in codes_after(client, position, None):
            for each in batch:
                yield _Shown(keys[each[0]], each)
                position[each[0]] = each[1]
    if not follow:
        return
    if exist:  # else `_keys` has reported it
        say(printable(f"{model}: waiting for new codes"))
    for batch in codes_after(client, position, _BLOCK_MS):
        for each in batch:
            yield _Shown(keys[each[0]], each)


def _lines(shown: _Shown, terminal: Terminal | None, *, single: bool) -> Iterator[str]:
    """Yield a row per point of an entry of codes; JSON without a terminal."""
    stream, (key, entry_id, entry), first = shown
    model = key.partition("}:")[0].rpartition(":")[2]
    if isinstance(entry, Exception):
        if terminal is None:
            found = {"model": model, "id": entry_id, "stream": stream, "error": str(entry)}
            yield exact_json(found)
        else:
            yield f"{entry_id:<20}  can't be read: {printable(str(entry))}"
        return
    for index in range(first, len(entry.code)):
        yield (
            exact_json({"model": model, **_as_dict(stream, entry, index)})
            if terminal is None
            else _row(terminal, stream or model, entry, index, single=single)
        )


def _as_dict(stream: str, entry: CodedEntry, index: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": entry.entry_id,
        "index": index,
        "code": int(entry.code[index]),
        "distance": float(entry.distance[index]),
        **({} if entry.similarity is None else {"similarity": float(entry.similarity[index])}),
        **{name: float(scores[index]) for name, scores in entry.scores.items()},
        "version": entry.version,
        "stream": stream,
    }
    if entry.top is not None and entry.top_values is not None:
        found["top"] = entry.top[index].tolist()
        found[entry.top_name] = entry.top_values[index].tolist()
    if entry.model_id:
        found["model_id"] = entry.model_id
    if entry.reason is not None and entry.code[index] < 0:
        found["reason"] = entry.reason
    if entry.labels:
        found["labels"] = {
            name.decode(errors="backslashreplace"): value.decode(errors="backslashreplace")
            for name, value in entry.labels.items()
        }
    return found


def _row(terminal: Terminal, stream: str, entry: CodedEntry, index: int, *, single: bool) -> str:
    notes = [] if single else [printable(stream, _WIDEST)]
    if entry.top is not None and entry.top_values is not None:
        pairs = zip(entry.top[index].tolist(), entry.top_values[index].tolist(), strict=True)
        notes.append(" ".join(f"{code}:{number(value)}" for code, value in pairs))
    notes += [
        f"{name}={number(float(scores[index]), 6)}"
        for name, scores in entry.scores.items()
        if entry.code[index] >= 0
    ]
    notes += [
        f"{printable(name, _WIDEST)}={printable(value, _WIDEST)}"
        for name, value in entry.labels.items()
    ]
    if entry.reason is not None and entry.code[index] < 0:
        notes.append(printable(entry.reason))
    code, distance = int(entry.code[index]), number(float(entry.distance[index]), 5)
    return "\n".join(
        _format(terminal, entry.entry_id, index, code, distance, entry.version, "  ".join(notes))
    )


def _format(
    terminal: Terminal,
    entry_id: str,
    index: int | str,
    code: int | str,
    distance: str,
    version: int | str,
    notes: str,
) -> list[str]:
    """Return the lines of a row."""
    if terminal.width is None or terminal.width >= _NARROW:
        return [_ROW.format(entry_id, index, code, distance, version, notes).rstrip()]
    short = "VER" if version == "VERSION" else version
    row = _NARROW_ROW.format(entry_id, index, code, distance, short)
    return [row, *(terminal.wrap(notes) if notes else [])]
