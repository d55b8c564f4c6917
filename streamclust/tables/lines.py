"""The lines of a text. For live input, a batch doesn't wait for more lines."""

from __future__ import annotations

import io
from collections.abc import Iterator

from streamclust.errors import DataError
from streamclust.tables.opening import READ_BYTES, Readable

LINE_BYTES = 1 << 24
BATCH_BYTES = 1 << 26


class Lines:
    """The lines of a UTF-8 text, with line ends. Bytes that aren't UTF-8 become lone surrogates.

    Attributes
    ----------
    ready
        Number of lines that were read from the file so far.
    bytes
        Number of bytes read so far.
    row_at
        Value of `bytes` at the end of the last row. None if each row is one line.
    live
        Whether the text can grow, so that a batch shouldn't wait for more lines.
    """

    def __init__(self, file: Readable, label: str, *, live: bool) -> None:
        self.ready = 0
        self.bytes = 0
        self.row_at: int | None = None
        self.live = live
        self._file = file
        self._label = label

    def __iter__(self) -> Iterator[str]:
        for lines in self.blocks():
            yield from lines

    def blocks(self) -> Iterator[list[str]]:
        """Yield the complete lines of each read."""
        tail: list[bytes] = []  # parts of an incomplete line
        size = 0
        while data := self._file.read1(READ_BYTES):
            self.bytes += len(data)
            if self.row_at is not None and self.bytes - self.row_at > LINE_BYTES + 2 * READ_BYTES:
                raise DataError(
                    f"{self._label} line {self.ready + 1} is in a row that is too long; close "
                    "the quotes"
                )
            end = data.rfind(b"\n") + 1
            if end:
                yield self._decoded(b"".join((*tail, data[:end])))
                tail, size, data = [], 0, data[end:]
            tail.append(data)
            size += len(data)
            if size > LINE_BYTES:
                raise DataError(f"{self._label} line {self.ready + 1} is too long; is it text?")
        if size:
            yield self._decoded(b"".join(tail))

    def _decoded(self, data: bytes) -> list[str]:
        if not self.ready and data.startswith(b"\xef\xbb\xbf"):
            data = data[3:]
        lines = list(io.StringIO(data.decode("utf-8", "surrogateescape"), newline="\n"))
        self.ready += len(lines)
        return lines

    def batches(self, size: int) -> Iterator[list[tuple[int, str]]]:
        """Yield batches of lines that aren't blank, with their numbers.

        A batch is shorter than `size` at the end, if a live text has no more lines ready, or if its
        lines have `BATCH_BYTES` of text.
        """
        batch: list[tuple[int, str]] = []
        most = self.bytes + BATCH_BYTES
        for lines in self.blocks():
            first = self.ready - len(lines) + 1
            for number, line in enumerate(lines, first):
                if not line.isspace() and line:
                    batch.append((number, line))
                if len(batch) == size:
                    yield batch
                    batch, most = [], self.bytes + BATCH_BYTES
            if batch and (self.live or self.bytes > most):
                yield batch
                batch, most = [], self.bytes + BATCH_BYTES
        if batch:
            yield batch
