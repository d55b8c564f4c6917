"""The chunks of a batch. The sums of a batch are the sums of its chunks, added in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 8192
"""Number of points per chunk, as in src/threads.hpp; it determines the bits of sums."""


def chunks(n: int) -> Iterator[slice]:
    """Yield the chunks of `n` points."""
    for start in range(0, n, CHUNK):
        yield slice(start, start + CHUNK)
