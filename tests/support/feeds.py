"""Streams to read from, and points that say which they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import redis

from streamclust.formats.layout import Layout, PointsFormat
from streamclust.formats.points import encode
from streamclust.store.server.connect import Server
from streamclust.store.stream import read_size
from streamclust.store.stream.batches import Batch, Batcher, batches
from streamclust.store.stream.reader import StreamReader

ANY = PointsFormat()
LAYOUTS = {
    "fields": Layout("fields", None, None, ("x", "y"), 2, strict=True),
    "json": Layout("json", "json", None, ("x", "y"), 2, strict=False),
    "float32": Layout("float32", "f4", None, (), 2, strict=False),
    "float64": Layout("float64", "f8", None, (), 2, strict=False),
    "weighted": Layout("float64", "f8", "w", (), 2, strict=False),
}
SPECS = {"weighted": PointsFormat(weight_field="w")}


@contextmanager
def read_sizes(entries: int, *, first: int = 16) -> Iterator[None]:
    """Let reads ask for at most so many entries."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read_size, "READ_ENTRIES", entries)
        patch.setattr(read_size, "FIRST_READ", first)
        yield


@dataclass
class Feed:
    """Streams of one test, and what reads them."""

    server: Server
    client: redis.Redis
    streams: tuple[str, ...]
    spec: PointsFormat = ANY
    seq: int = 0
    added: list[tuple[str, str]] = field(default_factory=list)

    @property
    def start(self) -> dict[str, str]:
        return dict.fromkeys(self.streams, "0-0")

    def add(
        self,
        stream: int,
        flat: Sequence[bytes],
        entry_id: str = "",
        client: redis.Redis | None = None,
    ) -> str:
        """Add an entry, by default under an ID after all others; return the ID."""
        self.seq += 1
        entry_id = entry_id or f"{1000 + self.seq}-{self.seq % 3}"
        raw: Any = self.client if client is None else client
        raw.execute_command("XADD", self.streams[stream], entry_id, *flat)
        self.added.append((self.streams[stream], entry_id))
        return entry_id

    def add_points(
        self, X: np.ndarray[Any, Any], kind: str = "float64", block: int = 1, stream: int = 0
    ) -> None:
        w = np.ones(len(X)) / 2 if LAYOUTS[kind].weight_field else None
        with self.client.pipeline(transaction=False) as together:
            for flat in encode(X, LAYOUTS[kind], w, block):
                self.add(stream, flat, client=together)
            together.execute()

    def batches(
        self,
        size: int,
        position: dict[str, str] | None = None,
        layout: Layout | None = None,
        grown: tuple[int, int] = (0, 0),
        **more: Any,
    ) -> Iterator[Batch]:
        position = position or self.start
        reader = StreamReader(self.server.raw_client(1 << 30), position)
        most, learned = grown
        batcher = Batcher(self.spec, layout, position, size, most=most, learned=learned)
        return batches(reader, batcher, **{"linger": 0.0, **more})

    def drain(self, size: int, *where: Any) -> list[Batch]:
        return list(self.batches(size, *where, until_idle=True))


def a_feed(server: Server, client: redis.Redis, streams: int = 1, **more: Any) -> Feed:
    name = f"test-{uuid4().hex}"
    return Feed(server, client, tuple(f"{name}-{number}" for number in range(streams)), **more)


def grid(n: int, start: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Points that each say which they are; float32 holds them exactly."""
    first = np.arange(start, start + n, dtype=np.float64)
    return np.column_stack([first, -first])


def numbers(found: Sequence[Batch]) -> list[list[int]]:
    return [batch.X[:, 0].astype(int).tolist() for batch in found]


def bits(batch: Batch) -> tuple[Any, ...]:
    """All of a batch, for comparing to the last bit."""
    w = None if batch.w is None else (batch.w.shape, batch.w.tobytes())
    X = (batch.X.dtype, batch.X.shape, batch.X.tobytes())
    return X, w, batch.position, batch.layout, batch.dead, batch.time_ms
