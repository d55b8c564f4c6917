"""Reads the entries of several streams in the order of their IDs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamclust.formats.lost import Gap
from streamclust.store.reply.entries import NOTHING, from_reply, join
from streamclust.store.reply.limits import ReplyTooLargeError
from streamclust.store.reply.raw_entries import ListEntries, by_stream
from streamclust.store.stream.gaps import StreamWatch
from streamclust.store.stream.info import next_size
from streamclust.store.stream.prefetch import Prefetch
from streamclust.store.stream.read_size import READ_BYTES, ReadSize, read_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import redis

    from streamclust.store.reply.entries import Entries
    from streamclust.store.reply.raw_entries import RawEntries
    from streamclust.store.stream.gaps import OnReset
    from streamclust.store.stream.info import StreamInfo
    from streamclust.store.stream.read_size import OnLess

_LEARNED_BYTES = 8 << 20
"""Bytes per read of a worker: larger reads take less time per byte, in client and server."""

_AROUND = 1024
"""Maximum number of bytes of a reply that don't belong to its entry."""


class MergingReader:
    """Merges the entries of several streams by their IDs. A subclass reads them in `_fill`.

    Parameters
    ----------
    streams : iterable of str
    read_bytes : int
        Maximum number of bytes per read, estimated from earlier entries.
    on_less : callable, optional
        Called with a message whenever reads become smaller because a reply was lost.
    """

    def __init__(
        self,
        streams: Iterable[str],
        read_bytes: int = READ_BYTES,
        on_less: OnLess = lambda _: None,
    ) -> None:
        self._gaps: list[Gap] = []
        self._waiting = dict.fromkeys(streams, NOTHING)
        self._read_bytes = read_bytes
        self._size = ReadSize(read_bytes, on_less=on_less)
        self._behind: set[str] = set()
        self._bytes = 0

    def read(self, count: int, block_ms: int | None) -> Entries:
        """Return approximately `count` next entries; none if nothing arrives within `block_ms`.

        When the entries of one stream are used up, this stream is read again before a later entry
        of another stream is returned. So the order doesn't depend on the sizes of the reads.
        """
        parts: list[Entries] = []
        n = self._bytes = 0
        each = self._count_per_stream(count)
        while n < count and self._bytes < self._read_bytes and not self._gaps:
            dry = [stream for stream, waiting in self._waiting.items() if not waiting]
            if dry:
                nothing = len(dry) == len(self._waiting)
                self._fill(dry, each, block_ms if nothing and not parts else None)
            taken = self._merge()
            if not taken:
                break
            parts.append(taken)
            n += len(taken)
        return join(parts)

    @property
    def caught_up(self) -> bool:
        """Whether no entry is left to read: the last replies had fewer entries than requested."""
        return not self._behind and not any(self._waiting.values())

    @property
    def next_count(self) -> int:
        """Entries that the next read should ask for."""
        return self._size.next_count

    def entries_in(self, size: int) -> int:
        """Return how many entries have approximately `size` bytes, judged by earlier entries."""
        return max(1, int(size / max(self._size.entry_bytes, 1.0)))

    def take_gaps(self) -> list[Gap]:
        """Return, and forget, the gaps found after the entries read so far."""
        gaps, self._gaps = self._gaps, []
        return gaps

    def _fill(self, streams: Sequence[str], count: int, block_ms: int | None) -> None:
        """Add the next entries of these streams, approximately `count` per stream, to `_waiting`.

        Streams of `_low` can be read with them.
        """
        raise NotImplementedError

    def _low(self, count: int) -> list[str]:
        """Return the streams that have few waiting entries here, and more entries at the server.

        They are read together with a stream that has no waiting entry. Otherwise many streams would
        need one read and one merge each.
        """
        few, waiting = range(1, count // 2 + 1), self._waiting
        return [
            stream for stream in waiting if stream in self._behind and len(waiting[stream]) in few
        ]

    def _count_per_stream(self, count: int) -> int:
        """Return the number of entries per stream that gives `count` entries of all streams."""
        return -(-count // max(1, len(self._waiting)))

    def _add(self, stream: str, entries: Entries) -> None:
        """Add the next entries of a stream to those that wait."""
        self._waiting[stream] = join([self._waiting[stream], entries])

    def _merge(self) -> Entries:
        """Return entries in order, up to the last read entry of the first stream that ends."""
        waiting = {stream: entries for stream, entries in self._waiting.items() if entries}
        if len(waiting) < 2:
            self._waiting |= dict.fromkeys(waiting, NOTHING)
            return next(iter(waiting.values()), NOTHING)
        first_end = min(
            waiting, key=lambda stream: (*waiting[stream].id_parts[-1].tolist(), stream)
        )
        parts: list[Entries] = []
        for stream, entries in waiting.items():
            count = entries.count_up_to(waiting[first_end].id_parts[-1], stream <= first_end)
            parts.append(entries[:count])
            self._waiting[stream] = entries[count:].without_used_replies()
        together = join(parts)
        return together[together.order()]


class StreamReader(MergingReader):
    """Reads entries of several streams in the order of their IDs.

    Parameters
    ----------
    client : redis.Redis
        A raw client; see `Server.raw_client`.
    position : dict of str to str
        Stream -> ID of the last entry read before.
    entries_added : dict of str to (int or None), optional
        As in `batcher.Batch`.
    on_reset : str
        Action when a stream was deleted and created again: 'wait' for larger IDs, or 'restart'.
    largest : int
        Limit of the client's replies, in bytes. A larger entry is refused.
    on_less : callable, optional
        Called with a message whenever reads become smaller because a reply was lost.

    Attributes
    ----------
    prefetching : bool
        Whether the next read of a backlog may be sent early, which keeps a connection.

    Raises
    ------
    UnreadableError
        By `read`, if each read of one single entry loses the connection.
    """

    def __init__(
        self,
        client: redis.Redis,
        position: dict[str, str],
        entries_added: Mapping[str, int | None] | None = None,
        on_reset: OnReset = "wait",
        largest: int = 1 << 62,
        on_less: OnLess = lambda _: None,
    ) -> None:
        super().__init__(position, min(_LEARNED_BYTES, largest // 2), on_less)
        self._largest = largest
        self._client = client
        self._prefetch = Prefetch(client)
        self.prefetching = True
        known = entries_added or {}
        self._watches = {
            stream: StreamWatch(
                client, stream, at, known.get(stream), started=stream in known, on_reset=on_reset
            )
            for stream, at in position.items()
        }

    def close(self) -> None:
        """Return the connection of a read that was sent early to the pool."""
        self._prefetch.drop()

    def _fill(self, streams: Sequence[str], count: int, block_ms: int | None) -> None:
        if self._receive_early():
            streams, block_ms = [s for s in streams if not self._waiting[s]], None
        if streams:
            self._fill_now(streams, count, block_ms)
        self._send_early()

    def _fill_now(self, streams: Sequence[str], count: int, block_ms: int | None) -> None:
        low = self._low(count)
        try:
            found = read_whole(self._client, lambda: self._xread([*streams, *low], count, block_ms))
        except ReplyTooLargeError as error:
            fewer = self._size.less(
                count, error, ", ".join(streams), ", ".join(self._positions_of(streams).values())
            )
            for stream in streams:
                self._fill_less(stream, fewer)
            return
        for stream in [*streams, *low]:
            self._note_end(stream, len(found.get(stream, ())) >= count)
            if stream in found:
                self._arrived(stream, found[stream])
            elif stream in streams and (gap := self._watches[stream].find_gap_at_end()):
                self._gaps.append(gap)

    def _note_end(self, stream: str, full: bool) -> None:
        """Record whether a reply had as many entries as it could, so that more may follow."""
        (self._behind.add if full else self._behind.discard)(stream)

    def _send_early(self) -> None:
        """Send the next read of the streams with more entries at the server and few here."""
        count, waiting = self._count_per_stream(self.next_count), self._waiting
        few = count + count // 2  # else the entries of a stream that is ahead would pile up
        soon = [name for name in waiting if name in self._behind and len(waiting[name]) <= few]
        if self.prefetching and soon:
            self._prefetch.send(self._positions_of(soon), count)

    def _receive_early(self) -> bool:
        """Add the entries of the read that was sent early; return whether there were any.

        A stream without entries at that time can have some now. So it must be read again before a
        later entry of another stream is returned.
        """
        positions, count = self._prefetch.positions, self._prefetch.count
        try:
            reply, probes = self._prefetch.receive(self._positions_of(positions))
        except ReplyTooLargeError:  # the next read finds out
            return False
        found = by_stream(reply)
        for stream in probes:
            self._note_end(stream, len(found.get(stream, ())) >= count)
            if stream in found:
                self._arrived(stream, found[stream], probes[stream])
        return bool(found)

    def _xread(
        self, streams: Sequence[str], count: int, block_ms: int | None
    ) -> dict[str, RawEntries]:
        """Return the next entries of each stream that has any."""
        reply = self._client.xread(self._positions_of(streams), count=count, block=block_ms)  # type: ignore[arg-type]
        return by_stream(reply)

    def _positions_of(self, streams: Iterable[str]) -> dict[str, str]:
        return {stream: self._watches[stream].position for stream in streams}

    def _fill_less(self, stream: str, count: int) -> None:
        """Read fewer and fewer entries, until the reply fits; refuse an entry that doesn't fit."""
        self._behind.add(stream)
        position = self._watches[stream].position
        try:
            found = self._size.read(
                self._client,
                lambda count: self._xread([stream], count, None),
                count,
                stream,
                position,
            )
        except ReplyTooLargeError:
            self._refuse(stream)
            return
        if stream in found:
            self._arrived(stream, found[stream])

    def _refuse(self, stream: str) -> None:
        """Skip the next entry without reading it, and add a gap for it."""
        watch = self._watches[stream]
        entry_id, size = next_size(self._client, stream, watch.position)
        if size < self._largest - _AROUND - len(stream):
            if entry_id:  # the large entry was removed meanwhile
                self._fill_less(stream, 1)
            return
        if gap := watch.advance(ListEntries([(entry_id, [])])):
            self._gaps.append(gap)
        reason = f"{size} bytes; at most {self._largest} are read (batch.max_entry_bytes)"
        end = watch.position
        self._gaps.append(Gap(stream, end, "refused", None, end, watch.entries_added, reason))

    def _arrived(
        self, stream: str, entries: RawEntries, probed: StreamInfo | bool | None = None
    ) -> None:
        watch = self._watches[stream]
        gap = watch.advance(entries, probed)
        self._add(stream, from_reply(stream, entries, watch.entries_added, gap))
        self._size.record(entries)
        self._bytes += entries.size
