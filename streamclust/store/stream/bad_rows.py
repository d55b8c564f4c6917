"""Reads the rows of files that ``ingest --on-bad dead`` has stored for a stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamclust.store.stream.info import look
from streamclust.store.stream.keys import dead_key

if TYPE_CHECKING:
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


def count_bad_rows(client: redis.Redis, stream: str) -> int:
    """Return the number of stored bad rows of files that were sent to a stream."""
    info = look(client, dead_key(stream))
    return 0 if info is None else info.length


def read_bad_rows(
    client: redis.Redis, stream: str, count: int, *, oldest: bool = False, reason: str | None = None
) -> list[StoredRow]:
    """Return up to `count` of these rows, the newest or the oldest ones, oldest first.

    With `reason`, return only rows whose reason contains this text.
    """
    key, found = dead_key(stream), list[StoredRow]()
    first, last = "-", "+"
    while len(found) < count:
        page: Any = (
            client.xrange(key, first, last, count=_PAGE)
            if oldest
            else client.xrevrange(key, last, first, count=_PAGE)
        )
        rows = [_row(row_id, fields) for row_id, fields in page]
        found += [row for row in rows if reason is None or reason in row.reason]
        if len(page) < _PAGE:
            break
        end = f"({page[-1][0].decode()}"
        first, last = (end, last) if oldest else (first, end)
    found = found[:count]
    return found if oldest else found[::-1]


def _row(row_id: bytes, fields: dict[bytes, bytes]) -> StoredRow:
    texts = (fields.get(name, b"") for name in (b"file", b"line", b"reason", b"data"))
    return StoredRow(row_id.decode(), *(text.decode(errors="backslashreplace") for text in texts))
