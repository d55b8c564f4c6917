"""A stream of points, encoders at it, and what they write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from streamclust.formats.lost import Gap
from streamclust.formats.model import encode_model
from streamclust.store.model.code_writer import CodeBatch, CodeWriter, Written, open_code_writer
from streamclust.store.model.commit import Commit, commit
from streamclust.store.model.keys import Keys
from streamclust.store.server.connect import Server
from streamclust.store.stream.group import GroupMember
from streamclust.store.stream.read_size import ReadSize
from tests.support.commits import a_model, ids


def batch_of(entry_ids: Sequence[bytes], code: bytes = b"1") -> CodeBatch:
    """Codes of entries."""
    return [(entry_id, [b"code", code]) for entry_id in entry_ids]


@dataclass
class RoundTrip:
    """What a round has brought: how the writing went, and IDs of new entries."""

    written: Written | None
    gap: Gap | None
    ids: list[bytes] | None
    version: int | None


@dataclass
class Encoder:
    """One of several, which takes two entries at a time."""

    member: GroupMember
    writer: CodeWriter

    def takes(self, *codes: bytes, version: int = 0, block_ms: int | None = None) -> RoundTrip:
        """Write the codes of these entries, and read on."""
        told: list[Written] = []

        def on_written(written: Written) -> bool:
            told.append(written)
            return written.entries is not None

        found = self.writer.write_and_read(batch_of(codes), on_written, version, block_ms)
        ids = None if found.delivery is None else found.delivery.ids
        newest = None if found.model is None else found.model.version
        return RoundTrip(told[0] if told else None, found.gap, ids, newest)

    def writes(self, *codes: bytes) -> int | None:
        """Write the codes of these entries; say how many were new."""
        return self.writer.write(batch_of(codes)).entries


@dataclass
class CodeWriterFixture:
    """A feed and its encoders."""

    server: Server
    client: redis.Redis
    keys: Keys
    stream: str

    def encoder(self, max_reply: int | None = None) -> Encoder:
        reader = self.server.raw_client(max_reply)
        member = GroupMember(reader, self.stream, self.keys.encoders, ReadSize(most=2))
        member.join("0")
        client = self.server.client()
        writer = open_code_writer(client, member, self.keys, self.keys.codes(), 1000)
        return Encoder(member, writer)

    def add(self, *entry_ids: int, x: str = "1") -> None:
        for entry_id in entry_ids:
            self.client.xadd(self.stream, {"x": x}, id=f"{entry_id}-0")

    def publish(self, token: int, version: int, K: int = 2) -> None:
        model = a_model(version, K)
        commit(self.client, self.keys, Commit(token, b"state", model, encode_model(model)))

    @property
    def codes(self) -> list[str]:
        return ids(self.client, self.keys.codes())

    @property
    def pending(self) -> int:
        summary: Any = self.client.xpending(self.stream, self.keys.encoders)
        return int(summary["pending"])
