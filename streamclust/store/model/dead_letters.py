"""Reads, counts, removes and requeues the dead letters of a model.

A requeue adds an entry of the points' stream again, with the same fields, under a new ID at the end
of the stream, and removes the entry's dead letters. If one node has both streams, one script does
both, so the entry is added once, also after a crash and with several users at the same time. In a
cluster with two nodes, the dead letters are removed first: a crash between the two steps loses the
requeue, but adds no entry twice. The original entry stays where it was.

Only entries of which no point was learned are requeued. Otherwise the good points of a block would
be learned twice.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import redis

from streamclust.errors import StreamclustError
from streamclust.formats.checkpoint import decode_layout
from streamclust.formats.points import decode
from streamclust.store.ids import order
from streamclust.store.server.cluster import ClusterClient
from streamclust.store.stream.info import look
from streamclust.store.stream.trimming import remove_up_to

if TYPE_CHECKING:
    from streamclust.formats.layout import Layout
    from streamclust.store.model.keys import Keys

_PAGE = 500

_MAX_ENTRIES = 100_000
"""Maximum entries of a rejected batch that one script requeues."""

_MAX_KINDS = 1000
"""Maximum number of kinds of reasons; rarer ones are counted together."""

OTHER_REASONS = "other reasons"

# Both texts are those of `worker.rejected_batches`. A letter of an entry has data, so that no
# producer can write a reason that looks like this one.
_BATCH = re.compile(r"batch of \d+ points, the entries after (\d+-\d+) up to (\d+-\d+): ")

# Lua passes at most about 8,000 values to a command.
_REQUEUE = """
local dead, stream = KEYS[1], KEYS[2]
local found = false
for i = 4, #ARGV do
  found = found or #redis.call('XRANGE', dead, ARGV[i], ARGV[i]) > 0
end
if not found then return 'DONE' end
local entries = redis.call('XRANGE', stream, ARGV[1], ARGV[2], 'COUNT', ARGV[3] + 1)
if #entries == 0 then return 'GONE' end
if #entries > tonumber(ARGV[3]) then return 'MANY' end
for _, entry in ipairs(entries) do
  if #entry[2] > 7000 then return 'WIDE' end
end
for _, entry in ipairs(entries) do redis.call('XADD', stream, '*', unpack(entry[2])) end
for i = 4, #ARGV do redis.call('XDEL', dead, ARGV[i]) end
return #entries
"""


@dataclass(frozen=True)
class StoredLetter:
    """A dead letter as it is stored. Its texts come from producers; `text.printable` shows them.

    Parameters
    ----------
    letter_id : str
        ID of the letter in `:dead`.
    stream : bytes
    entry_id : str
        ID of the point's entry.
    index : int
        Place of the point in the entry; -1 for the whole entry.
    reason : str
    data : bytes
        Bytes of the point, cut.
    """

    letter_id: str
    stream: bytes
    entry_id: str
    index: int
    reason: str
    data: bytes


def read_letters(
    client: redis.Redis, keys: Keys, *, newest_first: bool = False, up_to: str = "+"
) -> Iterator[StoredLetter]:
    """Yield the stored letters, oldest first or newest first, up to the ID `up_to`."""
    first, last = "-", up_to
    while True:
        page: Any = (
            client.xrevrange(keys.dead, last, first, count=_PAGE)
            if newest_first
            else client.xrange(keys.dead, first, last, count=_PAGE)
        )
        for letter_id, fields in page:
            yield _letter(letter_id.decode(), fields)
        if len(page) < _PAGE:
            return
        end = f"({page[-1][0].decode()}"
        first, last = (first, end) if newest_first else (end, last)


def _letter(letter_id: str, fields: dict[bytes, bytes]) -> StoredLetter:
    index = fields.get(b"index", b"-1")
    return StoredLetter(
        letter_id,
        fields.get(b"stream", b""),
        fields.get(b"id", b"").decode(errors="backslashreplace"),
        int(index) if re.fullmatch(rb"-1|\d{1,18}", index) else -1,
        fields.get(b"reason", b"").decode(errors="backslashreplace"),
        fields.get(b"data", b""),
    )


def newest_letter(client: redis.Redis, keys: Keys) -> tuple[int, str]:
    """Return the number of stored letters, and the ID of the newest one ever written."""
    info = look(client, keys.dead)
    return (0, "0-0") if info is None else (info.length, info.last)


def reason_kind(reason: str) -> str:
    r"""Return a reason without the values in it, so that reasons of one kind are counted together.

    Examples
    --------
    >>> reason_kind("x='abc' is not a number"), reason_kind("too large: 1e+300 at feature 'x0'")
    ("x=* is not a number", "too large: # at feature 'x0'")
    """
    quoted = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(?:\.\.\.)?"""
    text = re.sub(rf"(^|=|holds |from ){quoted}", r"\1*", reason)
    return re.sub(r"(?<![\w'.])[-+]?\d[\d.,]*(?:e[-+]?\d+)?(?:-\d+)?(?![\w'])", "#", text)


def count_reasons(letters: Iterable[StoredLetter]) -> Counter[str]:
    """Return how many letters have each kind of reason."""
    counts: Counter[str] = Counter()
    for letter in letters:
        kind = reason_kind(letter.reason)
        counts[kind if kind in counts or len(counts) < _MAX_KINDS else OTHER_REASONS] += 1
    return counts


def purge(
    client: redis.Redis,
    keys: Keys,
    up_to: str,
    wanted: Callable[[StoredLetter], bool] | None = None,
) -> int:
    """Remove the letters up to the ID `up_to`; return how many were removed.

    The stream remembers its newest ID, so the worker continues to number its letters.

    Parameters
    ----------
    client : redis.Redis
    keys : Keys
    up_to : str
    wanted : callable, optional
        Chooses the letters. Default: all.
    """
    if wanted is None:
        return remove_up_to(client, keys.dead, up_to)
    letters = filter(wanted, read_letters(client, keys, up_to=up_to))
    ids = (letter.letter_id for letter in letters)
    removed = 0
    while page := list(islice(ids, _PAGE)):
        removed += int(client.xdel(keys.dead, *page))
    return removed


@dataclass
class Requeue:
    """Entries to add to their stream again, and the letters that this removes.

    Parameters
    ----------
    stream : bytes
    first, last : str
        IDs of the entries. `first` has the syntax of XRANGE.
    letters : list of str
        IDs of the dead letters.
    is_batch : bool
        Whether these are the entries of a batch that could not be learned.
    points : set of int
        Places of the refused points in the entry. Empty if the entry was refused as a whole.
    """

    stream: bytes
    first: str
    last: str
    letters: list[str] = field(default_factory=list)
    is_batch: bool = False
    points: set[int] = field(default_factory=set)


def plan_requeue(
    client: redis.Redis, keys: Keys, up_to: str, wanted: Callable[[StoredLetter], bool]
) -> list[Requeue]:
    """Return the requeues of all entries that have a wanted letter.

    A requeue has all letters of its entries: if one of them stayed, the entries could be requeued
    twice.
    """
    found: dict[tuple[bytes, str], Requeue] = {}
    batches: list[Requeue] = []
    chosen: set[tuple[bytes, str]] = set()
    for letter in read_letters(client, keys, up_to=up_to):
        place = letter.stream, letter.entry_id
        span = _BATCH.match(letter.reason) if letter.index < 0 and not letter.data else None
        if span is not None:
            if wanted(letter):
                begin, end = f"({span[1]}", span[2]
                batches.append(Requeue(letter.stream, begin, end, [letter.letter_id], True))
            continue
        part = found.setdefault(place, Requeue(*place, letter.entry_id))
        part.letters.append(letter.letter_id)
        if letter.index >= 0:
            part.points.add(letter.index)
        if wanted(letter):
            chosen.add(place)
    for batch in batches:
        for place in [place for place in found if _is_within(place, batch)]:
            batch.letters += found.pop(place).letters
            chosen.discard(place)
    return [*batches, *(part for place, part in found.items() if place in chosen)]


def _is_within(place: tuple[bytes, str], batch: Requeue) -> bool:
    stream, entry_id = place
    if stream != batch.stream or not re.fullmatch(r"\d+-\d+", entry_id):
        return False
    return order(batch.first[1:]) < order(entry_id) <= order(batch.last)


def requeue(client: redis.Redis, keys: Keys, part: Requeue, layout: Layout | None) -> int | str:
    """Add the entries of `part` again; return how many, or why they can't be requeued.

    Parameters
    ----------
    client : redis.Redis
        A raw client; see `Server.raw_client`.
    keys : Keys
    part : Requeue
    layout : Layout or None
        Layout that the model has learned; None if it has learned nothing.

    Raises
    ------
    StreamclustError
        If the dead letters were removed, but the entries could not be added. The message has the
        IDs of the entries.
    """
    if not part.is_batch and not re.fullmatch(r"\d+-\d+", part.first):
        return "the dead letter names no entry"
    if part.points and layout is not None and _has_learned(client, part, layout):
        return "in a block whose other points were learned"
    if not _in_one_slot(client, keys.dead, part.stream):
        answer = _requeue_in_steps(client, keys, part)
    else:
        words = part.first, part.last, _MAX_ENTRIES, *part.letters
        answer = client.eval(_REQUEUE, 2, keys.dead, part.stream, *words)  # type: ignore[arg-type]
    if isinstance(answer, int):
        return answer
    return {
        b"DONE": "requeued or removed meanwhile",
        b"GONE": "no longer in the stream",
        b"MANY": f"in a batch of more than {_MAX_ENTRIES:,} entries",
        b"WIDE": "with more than 3,500 fields",
    }[answer]


@dataclass(frozen=True)
class Requeued:
    """The result of several requeues.

    Parameters
    ----------
    entries, letters : int
        Entries that were added, and letters that were removed.
    skipped : Counter
        Why letters stay, and their numbers.
    """

    entries: int
    letters: int
    skipped: Counter[str]


def requeue_all(
    client: redis.Redis, raw: redis.Redis, keys: Keys, parts: Iterable[Requeue]
) -> Requeued:
    """Do each of the requeues that is possible.

    Parameters
    ----------
    client : redis.Redis
    raw : redis.Redis
        A raw client; see `Server.raw_client`.
    keys : Keys
    parts : iterable of Requeue

    Raises
    ------
    FormatError
        If the state of the model is damaged.
    StreamclustError
        See `requeue`.
    """
    state: Any = client.get(keys.state)
    layout = None if state is None else decode_layout(state, f"key {keys.state}")
    entries = letters = 0
    skipped: Counter[str] = Counter()
    for part in parts:
        answer = requeue(raw, keys, part, layout)
        if isinstance(answer, int):
            entries, letters = entries + answer, letters + len(part.letters)
        else:
            skipped[answer] += len(part.letters)
    return Requeued(entries, letters, skipped)


def _has_learned(client: redis.Redis, part: Requeue, layout: Layout) -> bool:
    """Return whether the entry has a good point besides the refused ones.

    A refused point can be good now, if the settings accept missing values by now.
    """
    entries: Any = client.xrange(part.stream, part.first, part.last)
    for entry_id, flat in entries:
        decoded = decode([(entry_id, flat)], layout)
        bad = {point.index for point in decoded.dead}
        good = set(range(len(decoded.X) + len(bad))) - bad
        if -1 not in bad and good - part.points:
            return True
    return False


def _in_one_slot(client: Any, *keys: str | bytes) -> bool:
    if not isinstance(client, ClusterClient):
        return True
    return len({client.keyslot(key) for key in keys}) == 1  # type: ignore[no-untyped-call]


def _requeue_in_steps(client: redis.Redis, keys: Keys, part: Requeue) -> Any:
    entries: Any = client.xrange(part.stream, part.first, part.last, count=_MAX_ENTRIES + 1)
    if not entries:
        return b"GONE"
    if len(entries) > _MAX_ENTRIES:
        return b"MANY"
    if not client.xdel(keys.dead, *part.letters):
        return b"DONE"
    for number, (_, flat) in enumerate(entries):
        try:
            client.execute_command("XADD", part.stream, "*", *flat)  # type: ignore[no-untyped-call]
        except redis.RedisError as error:
            rest = ", ".join(entry_id.decode() for entry_id, _ in entries[number:][:10])
            raise StreamclustError(
                f"the dead letters were removed, but the entries could not be added again: {error}."
                f" They are still in stream {part.stream.decode(errors='backslashreplace')!r} "
                f"under their IDs: {rest}"
            ) from error
    return len(entries)


def other_readers(client: redis.Redis, keys: Keys, stream: bytes) -> list[str]:
    """Return the names of the consumer groups of a stream that don't belong to the model."""
    try:
        groups: Any = client.xinfo_groups(stream)
    except redis.ResponseError as error:
        if "no such key" not in str(error):
            raise
        return []
    names = [group["name"].decode(errors="surrogateescape") for group in groups]
    return [name for name in names if name not in (keys.group, keys.encoders)]
