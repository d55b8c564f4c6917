"""Writes an encoder's codes, and reads the next entries and model version in the same round trip.

If one server has all keys, a script checks the encoder's turn, writes the codes and acknowledges
their entries. The next entries and a newer version of the model follow in the same round trip. The
result of the script arrives before the read of entries blocks.
In a cluster the points, their group and the codes can be on different nodes. There the same is done
in separate steps. This is safe: an encoder whose turn has come keeps it, and no ID is written
twice. After a crash between two steps, the finished steps are detected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, cast

import redis

from streamclust.store.model.alert_stream import ALERTS
from streamclust.store.model.code_stream import (
    WRITER,
    Alerts,
    last_code,
    write_codes,
    written_count,
)
from streamclust.store.model.versions import newer_command, newest_in_reply, read_newer
from streamclust.store.reply.limits import ReplyTooLargeError
from streamclust.store.reply.packed_codes import alert_rows, as_rows, ids_of
from streamclust.store.server.cluster import ClusterClient
from streamclust.store.server.wrong_type import is_wrong_type, with_key
from streamclust.store.stream.group import FIND_GAP, Delivery

if TYPE_CHECKING:
    from streamclust.formats.lost import Gap
    from streamclust.formats.model import Model
    from streamclust.store.model.keys import Keys
    from streamclust.store.stream.group import GroupMember

CodeBatch: TypeAlias = Sequence[tuple[bytes, list[bytes]]]
"""IDs of entries in order, with the fields and values of their codes. An entry that was deleted has
no fields; it is only acknowledged."""


def _round_script(*, alerts: bool) -> str:
    """Return the script of a round trip.

    Each call sends the text, and the server hashes it. So a call without alerts sends a shorter
    text.
    """
    number, write_alerts = "", ""
    if alerts:
        number = "local number = last_alert(KEYS[3])"
        write_alerts = "write_alerts(KEYS[3], number, last, ARGV[5], cmsgpack.unpack(ARGV[6]))"
    return (
        WRITER
        + (ALERTS if alerts else "")
        + FIND_GAP
        + f"""
local codes, stream = KEYS[1], KEYS[2]
local group, keep, newest = ARGV[1], ARGV[2], ARGV[3]
local gap, last, written = {{}}, '', 0
if newest ~= '' then gap = find_gap(stream, group, newest) end
if #ARGV > 3 then
  local rows, other, pending = cmsgpack.unpack(ARGV[4]), nil, nil
  last, other = last_code(codes)
  if other then return {{other, '', gap}} end
  pending = redis.pcall('XPENDING', stream, group, '(' .. last, '(' .. first_id(rows), 1)
  if pending.err then return pending end
  if #pending > 0 then
    written = -1
  else
    local ids
    {number}
    written, ids = write(codes, last, keep, rows)
    {write_alerts}
    redis.call('XACK', stream, group, unpack(ids))
  end
end
return {{written, last, gap}}
"""
    )


_ROUND, _ROUND_WITH_ALERTS = _round_script(alerts=False), _round_script(alerts=True)


class Written(NamedTuple):
    """Result of writing a batch of codes.

    Parameters
    ----------
    entries : int or None
        Number of entries whose codes were new; None if entries of other encoders come first, so
        that nothing was written.
    last : str
        ID of the newest codes before the write.
    """

    entries: int | None
    last: str


OnWritten: TypeAlias = Callable[[Written], bool]


@dataclass(frozen=True)
class Answer:
    """Result of one round trip.

    Parameters
    ----------
    gap : Gap or None
        Entries that were trimmed before they were delivered to any member.
    delivery : Delivery or None
        New entries. None if the reply was too large; the entries then belong to this member.
    model : Model or None
        The newest version, if it is newer than the known version.
    """

    gap: Gap | None
    delivery: Delivery | None
    model: Model | None


class CodeWriter(Protocol):
    """The requests of an encoder to the server."""

    def write(self, batch: CodeBatch, alerts: Alerts | None = None) -> Written:
        """Write the codes of entries and acknowledge the entries, if it is this encoder's turn.

        The alerts of these entries are written with the codes.
        """

    def write_and_read(
        self,
        batch: CodeBatch,
        on_written: OnWritten,
        version: int,
        block_ms: int | None,
        alerts: Alerts | None = None,
    ) -> Answer:
        """Write a batch of codes, if it isn't empty, and read the next entries.

        Parameters
        ----------
        batch : CodeBatch
        on_written : callable
            Called with the result of the write, before the read blocks. Returns whether the batch
            is written.
        version : int
            Known version of the model.
        block_ms : int or None
            Maximum wait for new entries.
        alerts : Alerts, optional
            Alerts of the entries of the batch; written with the codes.
        """


def open_code_writer(
    client: redis.Redis, member: GroupMember, keys: Keys, codes: str, keep: int
) -> CodeWriter:
    """Return the writer for this kind of server.

    Parameters
    ----------
    client : redis.Redis
        Used for all commands except the reads of the points' stream.
    member : GroupMember
    keys : Keys
        Keys of the model.
    codes : str
        Key of the stream of codes.
    keep : int
        Approximate number of entries that this stream keeps.
    """
    kind: type[_Cluster | _OneServer] = _Cluster if _in_cluster(client) else _OneServer
    return kind(client, member, keys, codes, keep)


def _in_cluster(client: redis.Redis) -> bool:
    """Return whether the server is a cluster, or a node of one: scripts have keys of one slot."""
    if isinstance(cast("object", client), ClusterClient):
        return True
    info: Any = client.info("cluster")
    return bool(info.get("cluster_enabled"))


class _Writer:
    def __init__(
        self, client: redis.Redis, member: GroupMember, keys: Keys, codes: str, keep: int
    ) -> None:
        self._client = client
        self._member = member
        self._keys = keys
        self._codes = codes
        self._keep = keep


class _OneServer(_Writer):
    """Writes and reads in one round trip, with one script; for one server.

    An encoder that waits for entries in its reads has its own client. It keeps the connection
    while it gets entries, because taking a connection from the pool costs time.
    """

    _connection: Any = None
    _reads: Sequence[tuple[Any, ...]] = ()
    _packed_reads = b""

    def write(self, batch: CodeBatch, alerts: Alerts | None = None) -> Written:
        reply: Any = self._client.eval(*self._round(batch, b"", alerts)[1:])
        return self._written(reply)

    def write_and_read(
        self,
        batch: CodeBatch,
        on_written: OnWritten,
        version: int,
        block_ms: int | None,
        alerts: Alerts | None = None,
    ) -> Answer:
        member = self._member
        calls = (
            self._round(batch, member.newest, alerts),
            member.read_new_command(block_ms),
            newer_command(self._keys, version),
        )
        with self._sent(calls) as replies:
            first = _raised(next(replies))
            if batch:
                on_written(self._written(first))  # while the read blocks
            read, model = replies
        if block_ms is None or not read or isinstance(read, redis.RedisError):
            self._release()
        return Answer(
            member.gap_of(first[2]),
            None if isinstance(read, ReplyTooLargeError) else member.delivery_of(_raised(read)),
            self._newer(model, version),
        )

    @contextmanager
    def _sent(self, commands: Sequence[tuple[Any, ...]]) -> Iterator[Iterator[Any]]:
        """Send commands in one packet; return an iterator over their replies."""
        client = self._member.client
        if self._connection is None:
            self._connection = client.connection_pool.get_connection()
        connection = self._connection
        try:
            connection.send_packed_command([self._packed(*commands)])
            yield _replies(client, connection, commands)
        except BaseException:  # some replies weren't read
            connection.disconnect()
            self._release()
            raise

    def _packed(self, write: tuple[Any, ...], *reads: tuple[Any, ...]) -> bytes:
        """Return the bytes of commands; those of the reads are reused while the reads are equal."""
        connection = self._connection
        if reads != self._reads:
            self._reads, self._packed_reads = reads, b"".join(connection.pack_commands(reads))
        return b"".join([*connection.pack_command(*write), self._packed_reads])

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        self._member.client.connection_pool.release(connection)

    def _round(self, batch: CodeBatch, newest: bytes, alerts: Alerts | None) -> tuple[Any, ...]:
        member = self._member
        script, keys = _ROUND, [self._codes, member.stream]
        words = [member.group, self._keep, newest]
        if batch:
            words.append(as_rows(batch))
        if batch and alerts is not None and alerts.entries:
            script, keys = _ROUND_WITH_ALERTS, [*keys, alerts.key]
            words += [alerts.keep, alert_rows(alerts.entries)]
        return ("EVAL", script, len(keys), *keys, *words)

    def _written(self, reply: Any) -> Written:
        written, last, _ = reply
        if written == -1:
            return Written(None, last.decode())
        return Written(written_count(written, self._codes), last.decode())

    def _newer(self, reply: Any, version: int) -> Model | None:
        """Return the version in a reply; a version that is too large for it is read again."""
        if isinstance(reply, ReplyTooLargeError):
            return read_newer(self._client, self._keys, version)
        raw = _raised(reply)
        entries = [
            (entry_id, dict(zip(flat[::2], flat[1::2], strict=True))) for entry_id, flat in raw
        ]
        return newest_in_reply(entries, self._keys)


def _replies(
    client: redis.Redis, connection: Any, commands: Sequence[tuple[Any, ...]]
) -> Iterator[Any]:
    """Yield the replies to commands; an error is yielded, not raised.

    A reply that is too large closes the connection. Its error is also yielded for all commands
    after it.
    """
    too_large = None
    for command in commands:
        if too_large is not None:
            yield too_large
            continue
        try:
            yield connection.read_response()
        except redis.ResponseError as error:
            yield with_key(error, command, client.type) if is_wrong_type(error) else error
        except ReplyTooLargeError as error:
            too_large = error
            yield error


def _raised(reply: Any) -> Any:
    if isinstance(reply, redis.RedisError):
        raise reply
    return reply


class _Cluster(_Writer):
    """Sends each command to the node of its key; for a cluster."""

    _last = "0-0"  # all entries up to this ID have codes

    def write(self, batch: CodeBatch, alerts: Alerts | None = None) -> Written:
        member, ids = self._member, ids_of(batch)
        if member.has_pending_between(ids[0], self._last):
            self._last = last_code(self._client, self._codes)
            if member.has_pending_between(ids[0], self._last):
                return Written(None, self._last)
        written = write_codes(self._client, self._codes, batch, self._keep, alerts)
        member.acknowledge(ids)
        return Written(written, self._last)

    def write_and_read(
        self,
        batch: CodeBatch,
        on_written: OnWritten,
        version: int,
        block_ms: int | None,
        alerts: Alerts | None = None,
    ) -> Answer:
        if batch and not on_written(self.write(batch, alerts)):
            return Answer(None, Delivery(), None)
        gap, delivery = self._member.find_gap(), None
        with suppress(ReplyTooLargeError):
            delivery = self._member.read_new(block_ms)
        return Answer(gap, delivery, read_newer(self._client, self._keys, version))
