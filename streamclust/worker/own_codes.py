"""The worker's own codes and alerts: those of learned entries, written in their commit.

When a commit is due, the worker reads the entries between the newest codes and the position again.
So one method covers the steady feed, the warm-up (which has no model yet), and the entries before
the setting was switched on. A refused commit writes no codes. But codes of a long range are written
before the commit, except those of the end of the range.

All alerts are written by the commit itself: those of the entries between the committed position and
the new one. So a commit that is repeated after a crash writes each alert once. The points of the
warm-up raise no alerts, because the first version is fitted to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from streamclust.encoder.coding import Coded, Coder, too_large
from streamclust.encoder.flagging import NONE_FLAGGED, Flagged
from streamclust.store.ids import order
from streamclust.store.model.code_stream import codes_call, last_code
from streamclust.store.model.versions import read_newer
from streamclust.store.reply.limits import ReplyTooLargeError
from streamclust.store.reply.packed_codes import ids_of
from streamclust.store.stream.info import next_size
from streamclust.store.stream.ranges import read_up_to
from streamclust.store.stream.read_size import READ_BYTES, READ_ENTRIES, ReadSize

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis

    from streamclust.config.model import ModelSettings
    from streamclust.formats.model import Model
    from streamclust.store.model.code_stream import CodesCall
    from streamclust.store.model.keys import Keys
    from streamclust.store.reply.raw_entries import Entry, RawEntries
    from streamclust.store.stream.read_size import OnLess

_FEW = 16
"""Minimum entries that a read asks for, unless the entries are large."""

_TEMPORARY = "streamclust"
"""Group that is created and deleted, to create a stream without an entry."""


class Output(NamedTuple):
    """What a commit writes beside the state.

    Attributes
    ----------
    codes : list of tuple
    flagged : Flagged
        The alerts.
    """

    codes: list[CodesCall]
    flagged: Flagged


NO_OUTPUT = Output([], NONE_FLAGGED)


class OwnCodes:
    """Writes the codes and the alerts of the entries of a model's streams.

    Parameters
    ----------
    client : redis.Redis
    keys : Keys
    settings : KMeansSettings or GaussianMixtureSettings
    reader : redis.Redis
        A raw client that reads the points; its limit is `batch.max_entry_bytes`.
    committed : mapping of str to str
        The committed position.
    on_less : callable, optional
        Called with a message whenever reads become smaller because a reply was lost.
    """

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        settings: ModelSettings,
        reader: redis.Redis,
        committed: Mapping[str, str],
        on_less: OnLess = lambda _: None,
    ) -> None:
        self._client = client
        self._reader = reader
        self._keys = keys
        self._settings = settings
        one = len(settings.streams) == 1
        self._key = {stream: keys.codes(None if one else stream) for stream in settings.streams}
        self._coder = {
            stream: Coder.of(settings, stream, alerts=settings.worker_alerts)
            for stream in self._key
        }
        self._writes_codes = settings.encode.worker
        self._done = dict(committed)
        if self._writes_codes:
            self._done = {stream: last_code(client, key) for stream, key in self._key.items()}
        self._flagged = NONE_FLAGGED
        self._model = read_newer(client, keys, 0)
        self._size = ReadSize(READ_BYTES, READ_ENTRIES, on_less)

    def begin(self, position: Mapping[str, str]) -> None:
        """Record where new streams start: earlier entries get no codes."""
        for stream, start in position.items() if self._writes_codes else ():
            key = self._key[stream]
            if order(start) > order(self._done[stream]):
                self._client.xgroup_create(key, _TEMPORARY, "$", mkstream=True)
                self._client.xgroup_destroy(key, _TEMPORARY)
                self._client.execute_command("XSETID", key, start)  # type: ignore[no-untyped-call]
                self._done[stream] = start

    def up_to(self, position: Mapping[str, str]) -> Output:
        """Return the codes and alerts that a commit at `position` writes, by the newest version.

        The codes of a long range are written immediately, except those of its end.
        """
        model = self._model
        if model is None:
            return NO_OUTPUT
        self._flagged = NONE_FLAGGED
        ends = [self._last_piece(stream, end, model) for stream, end in position.items()]
        return Output([call for call in ends if call is not None], self._flagged)

    def record_commit(self, position: Mapping[str, str], model: Model | None) -> None:
        """Record a commit; after the first version, write the codes of the warm-up."""
        if self._model is not None or not self._writes_codes:
            self._done.update(position)
        first = self._model is None
        self._model = model or self._model
        if first and model is not None:
            self.catch_up(position)

    def catch_up(self, position: Mapping[str, str]) -> None:
        """Write all codes up to a committed position; the alerts were written by its commit."""
        if not self._writes_codes:
            return
        for call in self.up_to(position).codes:
            self._client.eval(*call)
        if self._model is not None:
            self._done.update(position)

    def _last_piece(self, stream: str, end: str, model: Model) -> CodesCall | None:
        """Return the last codes up to `end`; write the earlier ones immediately.

        The alerts are added to `_flagged`.
        """
        last: CodesCall | None = None
        while coded := self._next(stream, end, model):
            if last is not None:
                self._client.eval(*last)
            if self._writes_codes:
                last = codes_call(self._key[stream], coded.entries, self._settings.encode.keep)
            self._flagged = self._flagged.followed_by(coded.flagged)
            self._done[stream] = ids_of(coded.entries)[-1].decode()
        return last

    def _next(self, stream: str, end: str, model: Model) -> Coded | None:
        """Return the codes of the next entries up to `end`; None if there are no more."""
        coder = self._coder[stream]
        if order(end) <= order(self._done[stream]):
            return None
        try:
            entries = self._read(stream, end)
        except ReplyTooLargeError:
            entry_id, _ = next_size(self._client, stream, self._done[stream])
            if not entry_id or order(entry_id) > order(end):
                return None  # the entry was trimmed, or the large one comes after `end`
            most = self._settings.batch.max_entry_bytes
            return coder.refuse(entry_id, too_large(most), model)
        if not entries:
            return None
        if self._writes_codes:
            return coder(entries, model)
        last: list[Entry] = [(entries[-1:].ids()[0], [])]  # only its ID is needed
        return Coded(last, 0, 0, coder.flag(entries, model))

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
            self._size.record(entries)
        # Entries after `end` are read and discarded. So the next read isn't much larger than this.
        self._size.most = max(_FEW, min(READ_ENTRIES, 4 * len(entries)))
        return entries
