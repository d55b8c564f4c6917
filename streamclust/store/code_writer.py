"""An encoder's dealings with the server: codes out, entries and versions in, in one round trip.

Where one server has all keys, a script looks whose turn it is, writes the codes and acknowledges
their entries at once; what is read next, and a newer version of the model, come with its answer.
While that waits for entries, it is known already how the writing went.
In a cluster the points, their group and the codes may be at different nodes: there the same is
done step by step. A turn that has come stays, and no ID is written twice, so that the steps can't
do more than the script does; what a crash leaves between them is found done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, cast

import redis

from streamclust.store.cluster import ClusterClient
from streamclust.store.codes import WRITER, how_many, last_code, write_codes
from streamclust.store.group import FIND_GAP, Delivery
from streamclust.store.limits import ReplyTooLargeError
from streamclust.store.packed_codes import as_rows, ids_of
from streamclust.store.subscription import newer, newer_call, newest_of
from streamclust.store.wrong_type import is_wrong_type, with_key

if TYPE_CHECKING:
    from streamclust.store.gaps import Gap
    from streamclust.store.group import GroupMember
    from streamclust.store.keys import Keys
    from streamclust.store.published import Model

CodeBatch: TypeAlias = Sequence[tuple[bytes, list[bytes]]]
"""IDs of entries in order, with the fields and values of their codes; none for an entry that is
gone, which is only acknowledged."""

_ROUND = (
    WRITER
    + FIND_GAP
    + """
local codes, stream = KEYS[1], KEYS[2]
local group, keep, newest = ARGV[1], ARGV[2], ARGV[3]
local gap, last, written = {}, '', 0
if newest ~= '' then gap = find_gap(stream, group, newest) end
if #ARGV > 3 then
  local rows, other, pending = cmsgpack.unpack(ARGV[4]), nil, nil
  last, other = last_code(codes)
  if other then return {other, '', gap} end
  pending = redis.pcall('XPENDING', stream, group, '(' .. last, '(' .. first_id(rows), 1)
  if pending.err then return pending end
  if #pending > 0 then
    written = -1
  else
    local ids
    written, ids = write(codes, last, keep, rows)
    redis.call('XACK', stream, group, unpack(ids))
  end
end
return {written, last, gap}
"""
)


class Written(NamedTuple):
    """How the writing of a share went.

    Parameters
    ----------
    entries : int or None
        How many of its codes were new; None if entries of others come first, so that nothing was
        written.
    last : str
        Newest codes before it.
    """

    entries: int | None
    last: str


Settle: TypeAlias = Callable[[Written], bool]


@dataclass(frozen=True)
class Answer:
    """What a round has brought.

    Parameters
    ----------
    gap : Gap or None
        What was trimmed before any member was given it.
    delivery : Delivery or None
        New entries; None if there are some, of which the reply was too large: they are this
        member's own.
    model : Model or None
        The newest version, if it is a newer one.
    """

    gap: Gap | None
    delivery: Delivery | None
    model: Model | None


class CodeWriter(Protocol):
    """What an encoder asks of the server."""

    def write(self, share: CodeBatch) -> Written:
        """Write the codes of entries and acknowledge these, if all before them is done."""

    def write_and_read(
        self, share: CodeBatch, settle: Settle, version: int, block_ms: int | None
    ) -> Answer:
        """Write a share, if it isn't empty, and read what comes next.

        Parameters
        ----------
        share : CodeBatch
        settle : callable
            Is told at once how the writing went; says whether the share is written by now.
        version : int
            Of the model that is known.
        block_ms : int or None
            How long to wait for new entries.
        """


def open_code_writer(
    client: redis.Redis, member: GroupMember, keys: Keys, codes: str, keep: int
) -> CodeWriter:
    """Return the way that the server allows.

    Parameters
    ----------
    client : redis.Redis
        For all that isn't read from the points' stream.
    member : GroupMember
    keys : Keys
        Of the model.
    codes : str
        The stream of codes, and
    keep : int
        about how many entries it keeps.
    """
    kind: type[_Cluster | _OneServer] = _Cluster if _in_cluster(client) else _OneServer
    return kind(client, member, keys, codes, keep)


def _in_cluster(client: redis.Redis) -> bool:
    """Say whether a script may have keys of one slot only; also a node by itself wants that."""
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
    """One script and one round trip; for one server."""

    def write(self, share: CodeBatch) -> Written:
        reply: Any = self._client.eval(*self._round(share, b"")[1:])
        return self._written(reply)

    def write_and_read(
        self, share: CodeBatch, settle: Settle, version: int, block_ms: int | None
    ) -> Answer:
        member = self._member
        calls = (
            self._round(share, member.newest),
            member.new_call(block_ms),
            newer_call(self._keys, version),
        )
        with _sent_together(member.client, calls) as replies:
            first = _fine(next(replies))
            if share:
                settle(self._written(first))  # while the server waits for entries
            read, model = replies
        return Answer(
            member.as_gap(first[2]),
            None if isinstance(read, ReplyTooLargeError) else member.delivered(_fine(read)),
            self._newer(model, version),
        )

    def _round(self, share: CodeBatch, newest: bytes) -> tuple[Any, ...]:
        member = self._member
        call = ("EVAL", _ROUND, 2, self._codes, member.stream, member.group, self._keep, newest)
        return (*call, as_rows(share)) if share else call

    def _written(self, reply: Any) -> Written:
        written, last, _ = reply
        if written == -1:
            return Written(None, last.decode())
        return Written(how_many(written, self._codes), last.decode())

    def _newer(self, reply: Any, version: int) -> Model | None:
        """Return the version that came; a model may be larger than a reply is allowed to be."""
        if isinstance(reply, ReplyTooLargeError):
            return newer(self._client, self._keys, version)
        raw = _fine(reply)
        entries = [
            (entry_id, dict(zip(flat[::2], flat[1::2], strict=True))) for entry_id, flat in raw
        ]
        return newest_of(entries, self._keys)


@contextmanager
def _sent_together(
    client: redis.Redis, commands: Sequence[tuple[Any, ...]]
) -> Iterator[Iterator[Any]]:
    """Send commands at once, and give their replies as they come."""
    pool = client.connection_pool
    connection = pool.get_connection()
    try:
        packed = connection.pack_commands(commands)  # type: ignore[no-untyped-call]
        connection.send_packed_command(packed)  # type: ignore[no-untyped-call]
        yield _replies(client, connection, commands)
    except BaseException:  # some replies are still to come
        connection.disconnect()  # type: ignore[no-untyped-call]
        raise
    finally:
        pool.release(connection)


def _replies(
    client: redis.Redis, connection: Any, commands: Sequence[tuple[Any, ...]]
) -> Iterator[Any]:
    """Yield the replies to commands; an error stands for itself.

    One that is too large ends the connection, and stands for those after it too.
    """
    too_large = None
    for command in commands:
        if too_large is not None:
            yield too_large
            continue
        try:
            yield client.parse_response(connection, command[0])  # type: ignore[no-untyped-call]
        except redis.ResponseError as error:
            yield with_key(error, command, client.type) if is_wrong_type(error) else error
        except ReplyTooLargeError as error:
            too_large = error
            yield error


def _fine(reply: Any) -> Any:
    if isinstance(reply, redis.RedisError):
        raise reply
    return reply


class _Cluster(_Writer):
    """A command after the other, each to the node of its key."""

    _last = "0-0"  # all up to here have codes; maybe later ones too

    def write(self, share: CodeBatch) -> Written:
        member, ids = self._member, ids_of(share)
        if member.before(ids[0], self._last):
            self._last = last_code(self._client, self._codes)
            if member.before(ids[0], self._last):
                return Written(None, self._last)
        written = write_codes(self._client, self._codes, share, self._keep)
        member.done(ids)
        return Written(written, self._last)

    def write_and_read(
        self, share: CodeBatch, settle: Settle, version: int, block_ms: int | None
    ) -> Answer:
        if share and not settle(self.write(share)):
            return Answer(None, Delivery(), None)
        gap, delivery = self._member.missing(), None
        with suppress(ReplyTooLargeError):
            delivery = self._member.read_new(block_ms)
        return Answer(gap, delivery, newer(self._client, self._keys, version))
