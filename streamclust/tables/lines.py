"""The lines of a text, with line numbers; for live input, also whether more lines are ready."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from streamclust.errors import DataError

LINE_BYTES = 1 << 24
BATCH_BYTES = 1 << 26
READ_BYTES = 1 << 16

T = TypeVar("T")


class Readable(Protocol):
    """A binary file whose reads return the available bytes."""

    def read1(self, size: int, /) -> bytes:
        """Return up to `size` bytes; no bytes at the end."""


class Lines:
    """The lines of a UTF-8 text, without line ends.

    Attributes
    ----------
    number
        Number of the line that was read last, from 1.
    bytes
        Number of bytes read so far.
    row_at
        Value of `bytes` at the end of the last row, if a row can have several lines; else None.
    drained
        Whether the text is live and no more lines are ready, so that a batch shouldn't wait.
    """

    def __init__(self, file: Readable, label: str, *, live: bool) -> None:
        self.number = 0
        self.bytes = 0
        self.row_at: int | None = None
        self.drained = False
        self._file = file
        self._label = label
        self._live = live

    def __iter__(self) -> Iterator[str]:
        for lines in self._ready():
            for left in range(len(lines) - 1, -1, -1):
                self.number += 1
                self.drained = self._live and left == 0
                yield self._decode(lines[-1 - left])

    def _ready(self) -> Iterator[list[bytes]]:
        """Yield the complete lines of each read."""
        tail: list[bytes] = []  # parts of a line of many reads, joined once
        size = 0
        while data := self._file.read1(READ_BYTES):
            self.bytes += len(data)
            if self.row_at is not None and self.bytes - self.row_at > LINE_BYTES + 2 * READ_BYTES:
                raise DataError(
                    f"{self._label} line {self.number + 1} is in a row that is too long; close "
                    "the quotes"
                )
            lines = data.split(b"\n")
            if len(lines) > 1:
                lines[0] = b"".join((*tail, lines[0]))
                tail, size = [], 0
            tail.append(lines.pop())
            size += len(tail[-1])
            yield lines
            if size > LINE_BYTES:
                raise DataError(f"{self._label} line {self.number + 1} is too long; is it text?")
        if size:
            yield [b"".join(tail)]

    def _decode(self, line: bytes) -> str:
        try:
            return line.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise DataError(
                f"{self._label} line {self.number} is not UTF-8; convert the file"
            ) from None

    def batches(self, rows: Iterable[T | None], size: int) -> Iterator[list[T]]:
        """Yield batches of rows from these lines; None stands for a blank line.

        A batch is shorter than `size` at the end, if a live text has no more lines ready, and if
        its rows have `BATCH_BYTES` of text.
        """
        batch: list[T] = []
        most = self.bytes + BATCH_BYTES
        for row in rows:
            if row is not None:
                batch.append(row)
            if len(batch) == size or (batch and (self.drained or self.bytes > most)):
                yield batch
                batch = []
                most = self.bytes + BATCH_BYTES
        if batch:
            yield batch
