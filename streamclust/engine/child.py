"""A process of the engine `processes`: it reads messages from its standard input, and answers.

The engine starts it. A message is its length in eight bytes, one byte for its kind, and its bytes.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from functools import partial
from pathlib import Path
from typing import IO, Any

from streamclust.system_limits import keep_memory_flat

HEAD = struct.Struct("<Qc")
"""The length of a message, and its kind."""

SERVER, TASK, PARTS, RESULTS = b"S", b"T", b"P", b"R"
"""Kinds of messages: the server of the streams, a task, a bundle of parts, and their results."""


def message(kind: bytes, data: bytes) -> bytes:
    """Return a message."""
    return HEAD.pack(len(data), kind) + data


def receive(pipe: IO[bytes]) -> tuple[bytes, bytes] | None:
    """Return the kind and the bytes of the next message; None if the other side has ended."""
    head = pipe.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    length, kind = HEAD.unpack(head)
    data = pipe.read(length)
    return None if len(data) < length else (kind, data)


def main() -> None:
    """Answer messages until the standard input ends."""
    source = os.fdopen(os.dup(0), "rb")
    target = os.fdopen(os.dup(1), "wb")
    keep_memory_flat()
    os.dup2(2, 1)  # what a library prints must not get between the messages
    try:
        serve(source, target)
    except OSError:  # the other side has ended
        sys.exit(1)


def serve(source: IO[bytes], target: IO[bytes]) -> None:
    """Answer the messages of a pipe until it ends."""
    from streamclust.engine.remote import run_task, use_server
    from streamclust.engine.wire import join_messages, split_messages

    task = b""
    while (received := receive(source)) is not None:
        kind, data = received
        if kind == SERVER:
            use_server(_server_of(json.loads(data)))
        elif kind == TASK:
            task = data
        else:
            results = [run_task(task, part) for part in split_messages(data)]
            target.write(message(RESULTS, join_messages(results)))
            target.flush()


def _server_of(stored: dict[str, Any]) -> Any:
    """Return a function that connects to the server in a message."""
    from streamclust.store.server.address import Address
    from streamclust.store.server.connect import find_server

    most = stored.pop("max_reply")
    address = Address(**{**stored, "data_dir": Path(stored["data_dir"])})
    return partial(lambda server: server.raw_client(most), find_server(address, start=False))


if __name__ == "__main__":
    main()
