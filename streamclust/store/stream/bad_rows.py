"""Reads and removes the rows of files that ``ingest --on-bad dead`` has stored for a stream."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from streamclust.store.stream.info import look
from streamclust.store.stream.keys import dead_key
from streamclust.store.stream.trimming import remove_up_to

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

_PAGE = 500


@dataclass(frozen=True)
class StoredRow:
    """A bad row of a file. Its texts come from the file; `text.printable` shows them.

    Parameters
    ----------
    row_id : str
        ID of the row in its stream.
    file, line, reason, data : str
    """

    row_id: str
    file: str
    line: str
    reason: str
    data: str

    @property
    def brief_reason(self) -> str:
        """The reason without the name of the file and the line."""
        place = f"{self.file} line {self.line}", f"{self.file} row {self.line}"
        found = next((text for text in place if self.reason.startswith(text)), "")
        return self.reason.removeprefix(found).lstrip(",: ")


def newest_bad_row(client: redis.Redis, stream: str) -> tuple[int, str]:
    """Return the number of stored bad rows of a stream's files, and the ID of the newest one."""
    info = look(client, dead_key(stream))
    return (0, "0-0") if info is None else (info.length, info.last)


def read_bad_rows(
    client: redis.Redis, stream: str, count: int, *, oldest: bool = False, reason: str | None = None
) -> list[StoredRow]:
    """Return up to `count` stored rows, the newest or the oldest ones; oldest first.

    With `reason`, return only rows whose reason contains this text.
    """
    rows = _rows(client, stream, reason, newest_first=not oldest)
    found = list(islice(rows, count))
    return found if oldest else found[::-1]


def purge_bad_rows(client: redis.Redis, stream: str, up_to: str, reason: str | None = None) -> int:
    """Remove the rows up to the ID `up_to` whose reason contains `reason`; return their number."""
    if reason is None:
        return remove_up_to(client, dead_key(stream), up_to)
    ids = (row.row_id for row in _rows(client, stream, reason, up_to=up_to))
    removed = 0
    while page := list(islice(ids, _PAGE)):
        removed += int(client.xdel(dead_key(stream), *page))
    return removed


def _rows(
    client: redis.Redis,
    stream: str,
    reason: str | None,
    *,
    newest_first: bool = False,
    up_to: str = "+",
) -> Iterator[StoredRow]:
    key, first, last = dead_key(stream), "-", up_to
    while True:
        page: Any = (
            client.xrevrange(key, last, first, count=_PAGE)
            if newest_first
            else client.xrange(key, first, last, count=_PAGE)
        )
        rows = (_row(row_id, fields) for row_id, fields in page)
        yield from (row for row in rows if reason is None or reason in row.reason)
        if len(page) < _PAGE:
            return
        end = f"({page[-1][0].decode()}"
        first, last = (first, end) if newest_first else (end, last)


def _row(row_id: bytes, fields: dict[bytes, bytes]) -> StoredRow:
    texts = (fields.get(name, b"") for name in (b"file", b"line", b"reason", b"data"))
    return StoredRow(row_id.decode(), *(text.decode(errors="backslashreplace") for text in texts))
