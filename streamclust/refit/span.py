"""The part of the streams that a refit uses: from, to, or the latest points or time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from streamclust.config.values import parse_latest
from streamclust.errors import ConfigError
from streamclust.store.ids import BEGINNING, before, order
from streamclust.store.stream.ranges import before_last, end_of

if TYPE_CHECKING:
    import redis

    from streamclust.formats.checkpoint import Checkpoint

WHEN = "an entry ID such as 1526919030474-0, or a time such as 2026-05-01T12:00"
_ENTRY_ID = re.compile(r"\d+(-\d+)?")


@dataclass(frozen=True)
class Span:
    """The requested part of the streams; at most one of `first` and `latest` is given.

    Parameters
    ----------
    first, last : str or None
        The first and the last entry: an ID, or a time. Default: all retained entries.
    latest : str or None
        A duration of event time, or a number of points, up to `last`.
    """

    first: str | None = None
    last: str | None = None
    latest: str | None = None


@dataclass(frozen=True)
class Range:
    """Positions on the model's streams.

    Parameters
    ----------
    after, until : dict of str to str
        Stream -> ID before the first entry, and of the last.
    whole : bool
        Whether the range ends at the model's own position, so that the worker can learn the later
        points on top of a refit.
    """

    after: dict[str, str]
    until: dict[str, str]
    whole: bool


def resolve(span: Span, at: Checkpoint, client: redis.Redis) -> Range:
    """Return the positions of a span; it ends at the model's own position, or earlier.

    Parameters
    ----------
    span : Span
    at : Checkpoint
        Of the model.
    client : redis.Redis
        No other object may use it.

    Raises
    ------
    ConfigError
        If a part of the span can't be read.
    """
    end = None if span.last is None else end_of(entry_id(span.last, "--to"))
    until = {
        stream: learned if end is None or order(end) >= order(learned) else end
        for stream, learned in at.position.items()
    }
    after = _after(span, until, at, client)
    return Range(after, until, whole=until == at.position)


def _after(
    span: Span, until: dict[str, str], at: Checkpoint, client: redis.Redis
) -> dict[str, str]:
    if span.first is not None:
        return dict.fromkeys(until, before(entry_id(span.first, "--from")))
    if span.latest is None:
        return dict.fromkeys(until, BEGINNING)
    try:
        n_points, seconds = parse_latest(span.latest)
    except ValueError as error:
        raise ConfigError(f"--last {span.latest!r}: {error}") from None
    if n_points is not None:
        if at.layout is None:
            return dict.fromkeys(until, BEGINNING)
        return before_last(client, until, n_points, at.layout)
    newest = max(order(end)[0] for end in until.values())
    return dict.fromkeys(until, before(f"{max(newest - int(1000 * seconds), 0)}-0"))


def entry_id(text: str, option: str) -> str:
    """Return `text` if it is an entry ID; if it is a time, return its milliseconds.

    A time without a zone is local.
    """
    if _ENTRY_ID.fullmatch(text):
        return text
    try:
        return str(int(datetime.fromisoformat(text).timestamp() * 1000))
    except (ValueError, OverflowError, OSError):
        raise ConfigError(f"{option} {text!r}: expected {WHEN}") from None
