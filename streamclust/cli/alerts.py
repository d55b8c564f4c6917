"""``streamclust alerts``."""

from __future__ import annotations

import math
import time
from heapq import merge
from itertools import chain, islice
from typing import TYPE_CHECKING

import click

from streamclust.cli._options import Duration, server_options
from streamclust.cli._render import number, say
from streamclust.cli._server import opened_server, refuse_unknown, select_models
from streamclust.cli._terminal import HEADER, MUTED, print_lines, stdout_terminal
from streamclust.cli.exit_codes import EXIT_INTERRUPTED
from streamclust.text import exact_json, printable
from streamclust.times import local_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from streamclust.cli._terminal import Terminal
    from streamclust.config import Settings
    from streamclust.formats.alerts import Alert
    from streamclust.store.model.read_alerts import StoredAlert

    Shown = tuple[str, StoredAlert]
    """Name of a model, and an alert of it."""

_LAST = 10
_BLOCK_MS = 500
_WIDEST = 60
_MAX_FOLLOWED = 100
"""Maximum number of models whose new alerts are followed: each read names all their keys."""

_ROW = "{:<19}  {:<17} {:>3} {:>6} {:>10}  {:>15}  {}"
_NARROW = 78
"""Width of a terminal below which the figures of an alert have their own lines."""

_INDENT = "    "

_FIRST_TIME_MS = 10**11
"""Entry IDs below this number of milliseconds, which is in 1973, are counters and not times."""

_RAREST = 1e9
"""Quantiles beyond 1 in this many points are extrapolated too far to be shown as a number."""


@click.command()
@click.argument("model")
@server_options
@click.option(
    "--last",
    "-n",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"Start with this many newest alerts.  [default: {_LAST}; all with --since]",
)
@click.option(
    "--since",
    type=Duration(),
    metavar="DURATION",
    help="Only alerts that were written in this time: 90s, 5m, 6h, 1d.",
)
@click.option("--follow", "-f", is_flag=True, help="Show new alerts until Ctrl-C.")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    metavar="N",
    help="Exit after this many alerts.  [default: no limit]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON per alert.")
def alerts(
    settings: Settings,
    model: str,
    last: int | None,
    since: float | None,
    follow: bool,
    count: int | None,
    as_json: bool,
) -> None:
    """Show the alerts of MODEL, oldest first: the points that were flagged as anomalies, and why.

    MODEL may be a pattern in quotes: 'clicks-*' shows the alerts of all models that match.

    A model flags points if `anomaly.rate` is set: with 0.001, the points whose score is among the
    0.1 % most unusual ones.

    ENTRY is the ID of the entry, and TIME is the time in this ID. # is the place of the point in
    the entry. CODE is the number of its component or centroid. SCORE is higher for a more unusual
    point. RARITY says how rare such a score is: `1 in 1,000` means that one point in 1,000 has a
    score of at least this size.

    The next line has the features that explain most of the score: the value, the value that the
    model expects (for a mixture, given the other features), and the share of the score. Labels
    (`encode.labels`) follow.

    \b
    Examples:
      streamclust alerts machines
      streamclust alerts machines --follow
      streamclust alerts machines --since 1h
      streamclust alerts machines --last 100 --json | jq '.top[0].feature'
      streamclust alerts 'clicks-*' --follow         the alerts of many models
    """
    from streamclust.runtime.discovery import selects_several

    try:
        with opened_server(settings) as server:
            client = server.client()
            names = [model]
            if selects_several(model, settings):
                names = select_models(client, settings, [model], server.label)
            if follow and len(names) > _MAX_FOLLOWED:
                raise click.UsageError(
                    f"--follow reads at most {_MAX_FOLLOWED} models; {model!r} matches "
                    f"{len(names):,}"
                )
            newest = _positions(client, settings, names)
            exist = any(newest.values())
            if not exist:
                _say_none(client, settings, model, server.label, follow=follow)
            if last is None and since is None:
                last = _LAST
            found = _find_alerts(client, settings, newest, last, since)
            if exist:
                found = _with_notes(found, model, since, follow=follow)
            if follow:
                found = chain(found, _follow_new(client, settings, newest))
            _print(islice(found, count), as_json, single=len(names) == 1)
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None


def _positions(client: redis.Redis, settings: Settings, names: list[str]) -> dict[str, int]:
    """Return the number of the newest alert of each model; 0 for none."""
    from streamclust.store.model.keys import Keys
    from streamclust.store.model.read_alerts import newest_alert

    return {name: newest_alert(client, Keys(settings.namespace, name)) for name in names}


def _say_none(
    client: redis.Redis, settings: Settings, model: str, label: str, *, follow: bool
) -> None:
    """Report that there are no alerts yet; refuse a model that doesn't exist."""
    from streamclust.runtime.discovery import selects_several

    several = selects_several(model, settings)
    if not several:
        refuse_unknown(client, settings, model, label)
    known = None if several else settings.models.get(model)
    hint = ""
    if known is not None and known.anomaly.rate is None:
        hint = f"; set models.{model}.anomaly.rate, such as 0.001, to flag points"
    say(printable(f"{model}: no alerts{' yet; waiting for new alerts' if follow else ''}{hint}"))


def _find_alerts(
    client: redis.Redis,
    settings: Settings,
    newest: dict[str, int],
    last: int | None,
    since: float | None,
) -> Iterator[Shown]:
    """Yield the stored alerts; `newest` is then the number of the newest alert of each model."""
    from streamclust.formats.alerts import Alert
    from streamclust.store.model.keys import Keys
    from streamclust.store.model.read_alerts import read_alerts

    oldest = 0.0 if since is None else (time.time() - since) * 1000.0

    def newest_of(name: str) -> Iterator[Shown]:
        for alert in read_alerts(client, Keys(settings.namespace, name), newest_first=True):
            if isinstance(alert, Alert) and alert.time_ms < oldest:
                return
            yield name, alert

    shown = list(islice(merge(*map(newest_of, newest), key=_written, reverse=True), last))
    for name, alert in reversed(shown):
        newest[name] = max(newest[name], getattr(alert, "number", 0))
        yield name, alert


def _with_notes(
    found: Iterator[Shown], model: str, since: float | None, *, follow: bool
) -> Iterator[Shown]:
    """Yield the stored alerts; then report on stderr that none are new enough, and the wait."""
    oldest, nothing = time.time() - (since or 0.0), True
    for shown in found:
        nothing = False
        yield shown
    notes = []
    if nothing and since is not None:
        notes.append(f"no alerts since {local_time(oldest * 1000.0)}")
    if follow:
        notes.append("waiting for new alerts")
    if notes:
        say(printable(f"{model}: {'; '.join(notes)}"))


def _follow_new(client: redis.Redis, settings: Settings, newest: dict[str, int]) -> Iterator[Shown]:
    """Yield the alerts after the numbers `newest`, and wait for new alerts."""
    from streamclust.store.model.keys import Keys
    from streamclust.store.model.read_alerts import new_alerts

    names = {Keys(settings.namespace, name).alerts: name for name in newest}
    position = {key: newest[name] for key, name in names.items()}
    while True:
        fresh = new_alerts(client, position, _BLOCK_MS)
        for key, alert_number, alert in fresh:
            position[key] = alert_number
            yield names[key], alert
        if not fresh:
            written = _positions(client, settings, list(newest))
            for key, name in names.items():
                if written[name] < position[key]:  # a model that was created again counts from 1
                    position[key] = 0


def _written(shown: Shown) -> float:
    return float(getattr(shown[1], "time_ms", 0.0))


def _print(found: Iterator[Shown], as_json: bool, *, single: bool) -> None:
    terminal = None if as_json else stdout_terminal()
    has_header = False
    for name, alert in found:
        if terminal is None:
            facts = {"error": str(alert)} if isinstance(alert, Exception) else alert.to_dict()
            click.echo(exact_json({"model": name, **facts}))
            continue
        if not has_header and not _is_narrow(terminal):
            model = "" if single else "MODEL"
            header = _ROW.format("TIME", "ENTRY", "#", "CODE", "SCORE", "RARITY", model).rstrip()
            print_lines([terminal.paint(header, HEADER)])
            has_header = True
        print_lines(_lines(terminal, name, alert, single=single))


def _lines(terminal: Terminal, name: str, alert: StoredAlert, *, single: bool) -> list[str]:
    """Return the lines of an alert: its figures, and why it was flagged."""
    from dataclasses import replace

    model = "" if single else printable(name, _WIDEST)
    if isinstance(alert, Exception):
        return terminal.wrap(f"{model}  can't be read: {printable(str(alert))}".strip())
    is_time = alert.event_time_ms >= _FIRST_TIME_MS
    when = local_time(alert.event_time_ms if is_time else alert.time_ms)[:19]
    entry_id, score = printable(alert.entry_id, _WIDEST), number(alert.score)
    cells = when, entry_id, alert.index, alert.code, score, rarity(alert), model
    figures, reasons = [_ROW.format(*cells).rstrip()], []
    if _is_narrow(terminal):
        figures = terminal.wrap(f"{when}  {entry_id}  # {alert.index}  {model}".rstrip())
        reasons = [f"code {alert.code}", f"score {score}", rarity(alert)]
    for part in alert.top:
        expected = f"{number(part.value)} (expected {number(part.expected)})"
        reasons.append(f"{printable(part.feature, _WIDEST)} {expected} {part.share:.0%}")
    reasons += [
        f"{printable(label, _WIDEST)}={printable(text, _WIDEST)}"
        for label, text in alert.labels.items()
    ]
    width = None if terminal.width is None else max(terminal.width - len(_INDENT), 20)
    why = replace(terminal, width=width).wrap(", ".join(reasons)) if reasons else []
    return [*figures, *(terminal.paint(_INDENT + line, MUTED) for line in why)]


def _is_narrow(terminal: Terminal) -> bool:
    return terminal.width is not None and terminal.width < _NARROW


def rarity(alert: Alert) -> str:
    """Return the share of points with a score of at least this size, as "1 in 12,000"."""
    one_in = alert.one_in
    if not one_in < _RAREST:
        return "-" if math.isnan(one_in) else f"1 in > {_RAREST:.0e}".replace("+0", "")
    digits = max(len(f"{one_in:.0f}") - 3, 0)
    return f"1 in {round(one_in, -digits):,.0f}"
