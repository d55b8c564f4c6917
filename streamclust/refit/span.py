"""The part of the streams that a refit uses: between two entries, or the latest points or time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from streamclust.config.values import parse_latest
from streamclust.errors import ConfigError
from streamclust.store.ids import BEGINNING, id_before, order
from streamclust.store.stream.ranges import before_last, end_of

if TYPE_CHECKING:
    import redis

    from streamclust.formats.checkpoint import Checkpoint

_ENTRY_OR_TIME = "an entry ID such as 1526919030474-0, or a time such as 2026-05-01T12:00"
_ENTRY_ID = re.compile(r"\d+(-\d+)?")


@dataclass(frozen=True)
class Span:
    """The requested part of the streams. At most one of `first` and `latest` is set.

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
    """A range of the model's streams.

    Parameters
    ----------
    after, until : dict of str to str
        Stream -> ID before the first entry, and stream -> ID of the last entry.
    at_position : bool
        Whether the range ends at the model's position, so that the worker can learn the later
        points after it has adopted a refit.
    """

    after: dict[str, str]
    until: dict[str, str]
    at_position: bool


def range_of(span: Span, checkpoint: Checkpoint, client: redis.Redis) -> Range:
    """Return the range of a span. It ends at the model's position, or earlier.

    Parameters
    ----------
    span : Span
    checkpoint : Checkpoint
        The checkpoint of the model.
    client : redis.Redis
        A client that no other object uses.

    Raises
    ------
    ConfigError
        If a text of the span isn't an ID, a time, a duration or a number.
    """
    end = None if span.last is None else end_of(entry_id(span.last, "--to"))
    until = {
        stream: learned if end is None or order(end) >= order(learned) else end
        for stream, learned in checkpoint.position.items()
    }
    after = _after(span, until, checkpoint, client)
    return Range(after, until, at_position=until == checkpoint.position)


def _after(
    span: Span, until: dict[str, str], checkpoint: Checkpoint, client: redis.Redis
) -> dict[str, str]:
    if span.first is not None:
        return dict.fromkeys(until, id_before(entry_id(span.first, "--from")))
    if span.latest is None:
        return dict.fromkeys(until, BEGINNING)
    try:
        n_points, seconds = parse_latest(span.latest)
    except ValueError as error:
        raise ConfigError(f"--last {span.latest!r}: {error}") from None
    if n_points is not None:
        if checkpoint.layout is None:
            return dict.fromkeys(until, BEGINNING)
        return before_last(client, until, n_points, checkpoint.layout)
    newest = max(order(end)[0] for end in until.values())
    return dict.fromkeys(until, id_before(f"{max(newest - int(1000 * seconds), 0)}-0"))


def entry_id(text: str, option: str) -> str:
    """Return `text` if it is an entry ID; if it is a time, return its milliseconds.

    A time without a zone is local.
    """
    if _ENTRY_ID.fullmatch(text):
        return text
    try:
        return str(int(datetime.fromisoformat(text).timestamp() * 1000))
    except (ValueError, OverflowError, OSError):
        raise ConfigError(f"{option} {text!r}: expected {_ENTRY_OR_TIME}") from None
