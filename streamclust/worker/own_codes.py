"""The worker's own codes: of the entries it has learned, in the transaction that commits them.

When a commit is due, the worker reads the entries between the newest codes and the position again.
So one method covers the steady feed, the warm-up (which has no model yet), and the entries before
the setting was switched on. A refused commit writes no codes; of a long range, everything but the
end may have been written before the commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamclust.encoder.coding import Coder, too_large
from streamclust.runtime.assemble import points_format
from streamclust.store.ids import order
from streamclust.store.model.code_stream import codes_call, last_code
from streamclust.store.model.versions import newer
from streamclust.store.reply.limits import ReplyTooLargeError
from streamclust.store.reply.packed_codes import ids_of
from streamclust.store.stream.info import next_size
from streamclust.store.stream.ranges import read_up_to
from streamclust.store.stream.read_size import READ_BYTES, READ_ENTRIES, ReadSize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import redis

    from streamclust.config.model import ModelSettings
    from streamclust.formats.model import Model
    from streamclust.store.model.code_stream import CodesCall
    from streamclust.store.model.keys import Keys
    from streamclust.store.reply.raw_entries import RawEntries
    from streamclust.store.stream.read_size import OnLess

_FEW = 16
"""Minimum entries that a read asks for, unless the entries are large."""

_TEMPORARY = "streamclust"
"""Group that is created and deleted, to create a stream without an entry."""


class OwnCodes:
    """Writes the codes of the entries of a model's streams.

    Parameters
    ----------
    client : redis.Redis
    keys : Keys
    settings : KMeansSettings or GaussianMixtureSettings
    reader : redis.Redis
        A raw client that reads the points; its limit is `batch.max_entry_bytes`.
    on_less : callable, optional
        Given a sentence, whenever reads ask for less because a reply was lost.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        settings: ModelSettings,
        reader: redis.Redis,
        on_less: OnLess = lambda _: None,
    ) -> None:
        self._client = client
        self._reader = reader
        self._keys = keys
        self._settings = settings
        spec, encode = points_format(settings), settings.encode
        one = len(settings.streams) == 1
        self._key = {stream: keys.codes(None if one else stream) for stream in settings.streams}
        self._coder = {
            stream: Coder(spec, encode.top, encode.labels, stream, settings.scale)
            for stream in self._key
        }
        self._done = {stream: last_code(client, key) for stream, key in self._key.items()}
        self._model = newer(client, keys, 0)
        self._size = ReadSize(READ_BYTES, READ_ENTRIES, on_less)

    def begin(self, position: Mapping[str, str]) -> None:
        """Record where new streams start: the entries before have no codes."""
        for stream, start in position.items():
            key = self._key[stream]
            if order(start) > order(self._done[stream]):
                self._client.xgroup_create(key, _TEMPORARY, "$", mkstream=True)
                self._client.xgroup_destroy(key, _TEMPORARY)
                self._client.execute_command("XSETID", key, start)  # type: ignore[no-untyped-call]
                self._done[stream] = start

    def up_to(self, position: Mapping[str, str]) -> list[CodesCall]:
        """Return the codes that a commit at `position` writes, under the newest version.

        Of a long range, everything but the end is written at once.
        """
        if self._model is None:
            return []
        ends = [self._last_piece(stream, end, self._model) for stream, end in position.items()]
        return [call for call in ends if call is not None]

    def landed(self, position: Mapping[str, str], model: Model | None) -> None:
        """Record a commit; after the first version, write the codes of the warm-up."""
        if self._model is not None:
            self._done.update(position)
        first = self._model is None
        self._model = model or self._model
        if first and model is not None:
            self.catch_up(position)

    def catch_up(self, position: Mapping[str, str]) -> None:
        """Write all codes up to a committed position."""
        for call in self.up_to(position):
            self._client.eval(*call)
        if self._model is not None:
            self._done.update(position)

    def _last_piece(self, stream: str, end: str, model: Model) -> CodesCall | None:
        """Return the codes up to `end`; of many codes, write all but the last part."""
        held: CodesCall | None = None
        while coded := self._next(stream, end, model):
            if held is not None:
                self._client.eval(*held)
            held = codes_call(self._key[stream], coded, self._settings.encode.keep)
            self._done[stream] = ids_of(coded)[-1].decode()
        return held

    def _next(self, stream: str, end: str, model: Model) -> Sequence[tuple[bytes, list[bytes]]]:
        """Return the codes of the next entries up to `end`; none if there are no more."""
        coder = self._coder[stream]
        if order(end) <= order(self._done[stream]):
            return []
        try:
            entries = self._read(stream, end)
        except ReplyTooLargeError:
            entry_id, _ = next_size(self._client, stream, self._done[stream])
            if not entry_id or order(entry_id) > order(end):
                return []  # it was trimmed, and the large entry comes later
            most = self._settings.batch.max_entry_bytes
            return coder.refuse(entry_id, too_large(most), model).entries
        return coder(entries, model).entries if entries else []

    def _read(self, stream: str, end: str) -> RawEntries:
        """Return the next entries up to `end`."""
        after = self._done[stream]
        entries = self._size.read(
            self._reader,
            lambda count: read_up_to(self._reader, stream, after, end, count),
            self._size.next_count,
            stream,
            after,
        )
        if entries:
            self._size.took(entries)
        # A read also returns entries after `end`, which are discarded: after short commits, it asks
        # for few entries.
        self._size.most = max(_FEW, min(READ_ENTRIES, 4 * len(entries)))
        return entries
