"""The functions that a Dask worker executes; they take and return bytes.

A worker reads points by itself. The address of the server and the password are in the settings of
the worker (its environment, or the file that STREAMCLUST_CONFIG names), and never in a task.
"""

from __future__ import annotations

import struct
import time
from functools import cache
from typing import TYPE_CHECKING

from streamclust.version import __version__

if TYPE_CHECKING:
    import redis

_SECONDS = struct.Struct("<d")

# Modules are imported when a function is called: the scheduler imports this module too.


def identity() -> str:
    """Return the version and the kernels of this process; only equal ones are combined."""
    from streamclust.engine import remote  # noqa: F401  (the first part needn't wait for it)
    from streamclust.engine.identity import kernels_identity

    return f"streamclust {__version__} with kernels {kernels_identity()}"


def carry(task: bytes) -> bytes:
    """Return a task. So one worker has it, and the others copy it from there."""
    return task


def compute(task: bytes, parts: list[bytes]) -> bytes:
    """Return the results of a task on some parts; see `remote.run_task`, and `unbundle`.

    Each thread of a worker computes one part at a time, so the kernels use one thread.
    """
    from streamclust.engine.remote import run_task
    from streamclust.engine.wire import join_messages
    from streamclust.kernels.threads import limit_threads

    use_own_server()
    started = time.thread_time()
    with limit_threads(1):
        results = [run_task(task, part) for part in parts]
    return _SECONDS.pack(time.thread_time() - started) + join_messages(results)


def unbundle(data: bytes) -> tuple[float, list[bytes]]:
    """Return the processor seconds of the computation, and the results of all parts."""
    from streamclust.engine.wire import split_messages

    (seconds,) = _SECONDS.unpack_from(data)
    return seconds, split_messages(data[_SECONDS.size :])


@cache
def use_own_server() -> None:
    """Read parts of streams from the server in the settings of this worker."""
    from streamclust.engine.remote import use_server

    use_server(_connect)


def _connect() -> redis.Redis:
    from streamclust.config.load import load_settings
    from streamclust.store.server.address import Address
    from streamclust.store.server.connect import find_server

    settings = load_settings().redis
    address = Address(
        settings.url,
        settings.data_dir.expanduser(),
        settings.username,
        settings.read_password(),
        settings.sentinel_username,
        settings.read_sentinel_password(),
    )
    return find_server(address, start=False).raw_client()
