"""``streamclust dead``: the dead letters of a model."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from streamclust.cli._confirm import confirm, yes_option
from streamclust.cli._dead_output import (
    bad_rows_note,
    count_bad_rows,
    list_bad_rows,
    print_letters,
    purge_bad_rows,
)
from streamclust.cli._options import server_options
from streamclust.cli._render import plural, say
from streamclust.cli._server import opened_server, refuse_unknown
from streamclust.text import exact_json, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from streamclust.config import Settings
    from streamclust.store.model.dead_letters import Requeue, StoredLetter
    from streamclust.store.model.keys import Keys
    from streamclust.store.server.connect import Server

reason_option = click.option(
    "--reason", metavar="TEXT", help="Only letters whose reason contains TEXT."
)


class _ListByDefault(click.Group):
    """`dead MODEL` is `dead list MODEL`; `dead MODEL purge` is `dead purge MODEL`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if len(args) > 1 and args[0] not in self.commands and args[1] in self.commands:
            args[:2] = args[1], args[0]
        elif args and args[0] not in (*self.commands, *ctx.help_option_names):
            args.insert(0, "list")
        return super().parse_args(ctx, args)


@click.group(cls=_ListByDefault)
def dead() -> None:
    """Show, requeue or remove the dead letters of a model: the points that it refused.

    `streamclust dead MODEL` is short for `streamclust dead list MODEL`. `ingest --on-bad dead`
    stores bad rows of files elsewhere; `streamclust dead MODEL --ingest` shows them.

    \b
    Examples:
      streamclust dead machines
      streamclust dead requeue machines --reason "missing field"
      streamclust dead purge machines
    """


@dataclass(frozen=True)
class _Place:
    """One model on an opened server."""

    name: str
    keys: Keys
    server: Server
    client: redis.Redis


@contextmanager
def _opened(settings: Settings, model: str) -> Iterator[_Place]:
    from streamclust.store.model.dead_letters import newest_letter
    from streamclust.store.model.keys import Keys

    with opened_server(settings) as server:
        place = _Place(model, Keys(settings.namespace, model), server, server.client())
        if not newest_letter(place.client, place.keys)[0]:
            refuse_unknown(place.client, settings, model, server.label)
        yield place


def _with_reason(reason: str | None) -> Callable[[StoredLetter], bool]:
    return lambda letter: reason is None or reason in letter.reason


@dead.command(name="list", short_help="Show the dead letters and count their reasons.")
@click.argument("model")
@server_options
@click.option(
    "-n",
    "--number",
    type=click.IntRange(min=0),
    metavar="N",
    default=10,
    show_default=True,
    help="Number of letters to show.",
)
@click.option("--oldest", is_flag=True, help="Show the oldest letters instead of the newest.")
@reason_option
@click.option(
    "--ingest",
    "ingested",
    is_flag=True,
    help="Show instead the bad rows of files that `ingest --on-bad dead` has stored.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_letters(
    settings: Settings,
    model: str,
    number: int,
    oldest: bool,
    reason: str | None,
    ingested: bool,
    as_json: bool,
) -> None:
    """Show the dead letters of MODEL, oldest first, and count the reasons of all of them.

    Equal reasons with other values are counted together, as in `x=* is not a number`. ENTRY is the
    ID of the entry in the stream of points. # is the place of the point in the entry, or "-" if the
    whole entry was refused. DATA is the beginning of the point.

    \b
    Examples:
      streamclust dead list machines
      streamclust dead machines -n 100 --oldest
      streamclust dead machines --reason "not finite" --json | jq .letters
      streamclust dead machines --ingest             bad rows of files (`ingest --on-bad dead`)
    """
    from streamclust.store.model.dead_letters import count_reasons, newest_letter, read_letters

    if ingested:
        list_bad_rows(settings, model, number, oldest=oldest, reason=reason, as_json=as_json)
        return
    wanted = _with_reason(reason)
    with _opened(settings, model) as place:
        bad_rows = count_bad_rows(settings, place.client, model)
        stored, newest = newest_letter(place.client, place.keys)
        letters = read_letters(place.client, place.keys, newest_first=not oldest, up_to=newest)
        shown: list[StoredLetter] = []

        def kept() -> Iterator[StoredLetter]:
            for letter in filter(wanted, letters):
                if len(shown) < number:
                    shown.append(letter)
                yield letter

        reasons = count_reasons(kept())
    if not oldest:
        shown.reverse()
    refused = int(newest.partition("-")[0])
    if as_json:
        counts = [{"reason": text, "count": n} for text, n in reasons.most_common()]
        document = {"model": model, "stored": stored, "refused": refused, "reasons": counts}
        more = {"letters": list(map(_as_dict, shown)), "bad_rows": bad_rows}
        click.echo(exact_json({**document, **more}))
        return
    if stored:
        print_letters(model, stored, refused, reasons, shown)
    else:
        say(printable(f"{model}: no dead letters"))
    for note in bad_rows_note(model, bad_rows):
        say(note)


def _as_dict(letter: StoredLetter) -> dict[str, Any]:
    return {
        "id": letter.letter_id,
        "stream": letter.stream.decode(errors="backslashreplace"),
        "entry": letter.entry_id,
        "index": letter.index,
        "reason": letter.reason,
        "data": letter.data.decode(errors="backslashreplace"),
    }


@dead.command(short_help="Add refused entries to their stream again.")
@click.argument("model")
@server_options
@reason_option
@yes_option
@click.option(
    "--force",
    is_flag=True,
    help="Requeue even if other consumer groups read the stream; they read the entries again.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def requeue(
    settings: Settings, model: str, reason: str | None, yes: bool, force: bool, as_json: bool
) -> None:
    """Add the entries of dead letters to their stream again, and remove these letters.

    Use this after you have corrected the settings. An entry is added with the same fields and
    values, under a new ID at the end of the stream; the original entry stays. A point that is still
    bad is refused again, as a new letter.

    Each entry is added once, even if the command is killed. A letter stays if the stream no longer
    has its entry. It also stays if other points of its entry were learned, because these points
    would be learned twice.

    \b
    Examples:
      streamclust dead requeue machines
      streamclust dead requeue machines --reason "missing field" --yes
    """
    from streamclust.store.model.dead_letters import newest_letter, plan_requeue, requeue_all

    with _opened(settings, model) as place:
        client, keys = place.client, place.keys
        parts = plan_requeue(client, keys, newest_letter(client, keys)[1], _with_reason(reason))
        letters = sum(len(part.letters) for part in parts)
        if parts:
            _check_readers(place, parts, force)
            names = sorted({part.stream.decode(errors="backslashreplace") for part in parts})
            confirm(
                f"requeue {plural(letters, 'dead letter')} of model {model!r} to "
                f"{', '.join(names)}? Their entries are added at its end, with new IDs.",
                yes,
            )
        done = requeue_all(client, place.server.raw_client(), keys, parts)
    if as_json:
        counts = {"entries": done.entries, "letters": done.letters, "skipped": dict(done.skipped)}
        click.echo(exact_json({"model": model, **counts}))
        return
    click.echo(
        printable(
            f"{model}: requeued {plural(done.entries, 'entry')} "
            f"({plural(done.letters, 'dead letter')})"
        )
    )
    for text, count in done.skipped.most_common():
        click.echo(f"not requeued: {count:,} {text}")


def _check_readers(place: _Place, parts: list[Requeue], force: bool) -> None:
    """Refuse if other consumer groups would read the entries again."""
    from streamclust.errors import BusyError
    from streamclust.store.model.dead_letters import other_readers

    for stream in sorted({part.stream for part in parts}):
        others = other_readers(place.client, place.keys, stream)
        if others and not force:
            raise BusyError(
                f"stream {stream.decode(errors='backslashreplace')!r} has other readers, which "
                f"would read the entries twice (consumer groups {', '.join(others)}); add --force "
                "to requeue them anyway"
            )


@dead.command(short_help="Remove dead letters.")
@click.argument("model")
@server_options
@reason_option
@click.option(
    "--ingest",
    "ingested",
    is_flag=True,
    help="Remove instead the bad rows of files that `ingest --on-bad dead` has stored.",
)
@yes_option
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def purge(
    settings: Settings, model: str, reason: str | None, ingested: bool, yes: bool, as_json: bool
) -> None:
    """Remove the dead letters of MODEL. The entries in the stream of points stay.

    Letters that arrive while the command asks for confirmation are kept.

    \b
    Examples:
      streamclust dead purge machines
      streamclust dead purge machines --reason "not finite" --yes
      streamclust dead purge machines --ingest       bad rows of files (`ingest --on-bad dead`)
    """
    from streamclust.store.model.dead_letters import newest_letter, read_letters
    from streamclust.store.model.dead_letters import purge as run

    if ingested:
        purge_bad_rows(settings, model, reason=reason, yes=yes, as_json=as_json)
        return
    with _opened(settings, model) as place:
        client, keys = place.client, place.keys
        stored, newest = newest_letter(client, keys)
        wanted = None if reason is None else _with_reason(reason)
        if wanted is not None:
            stored = sum(map(wanted, read_letters(client, keys, up_to=newest)))
        removed = 0
        if stored:
            confirm(f"remove {plural(stored, 'dead letter')} of model {model!r}?", yes)
            removed = run(client, keys, newest, wanted)
    if as_json:
        click.echo(exact_json({"model": model, "removed": removed}))
    else:
        click.echo(printable(f"{model}: removed {plural(removed, 'dead letter')}"))
