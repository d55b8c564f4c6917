"""``streamclust server run``: one process per data folder that keeps the embedded server running.

The process is a user of the server like any other command (see
``streamclust.store.server.supervisor``). It also holds an exclusive lock on ``keeper.lock``, which
contains its process ID. So `release` never sends a signal to a newer process that has the same ID.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from streamclust.errors import ServerError
from streamclust.store.server.embedded import EmbeddedServer
from streamclust.store.server.supervisor import (
    LIMIT,
    SUPERVISOR_LOCK,
    USERS_LOCK,
    Endpoint,
    answers,
    is_held,
    open_lock,
    read_endpoint,
    try_lock,
    within,
)

KEEPER_LOCK = "keeper.lock"

Released = Literal["stopped", "in use", "not running"]

_CHECK_SECONDS = 1.0
"""Time between two checks that the supervisor of the server runs."""

_LEAVE_SECONDS = 3.0
"""Time within which the supervisor notices that the last user has left."""


def running_endpoint(data_dir: Path) -> Endpoint | None:
    """Return the address of the folder's server, or None if no server answers there.

    This starts nothing, and creates no folder.

    Raises
    ------
    ServerError
        If the folder belongs to another user.
    """
    folder = data_dir.expanduser().resolve()
    try:
        endpoint = read_endpoint(folder)
    except NotADirectoryError:
        return None
    except OSError as error:
        raise ServerError(
            f"can't read the address of the server in {folder}: {error.strerror}; run the command "
            "as the user who started the server"
        ) from error
    return endpoint if endpoint is not None and answers(endpoint) else None


@contextmanager
def keep_up(data_dir: Path) -> Iterator[EmbeddedServer]:
    """Keep the folder's server running during the block.

    Raises
    ------
    ConfigError
        If the folder can't be created or written.
    ServerError
        If the server doesn't start, or another process keeps it running.
    """
    with EmbeddedServer.acquire(data_dir) as server:
        lock = open_lock(server.data_dir / KEEPER_LOCK)
        try:
            # A process that checks this lock holds it for a moment.
            if not within(0.5, lambda: try_lock(lock, fcntl.LOCK_EX)):
                raise ServerError(
                    f"process {keeper_of(server.data_dir)} already keeps the server in "
                    f"{server.data_dir} running; stop it with: streamclust server stop"
                )
            os.ftruncate(lock, 0)
            os.write(lock, f"{os.getpid()}\n".encode())
            yield server
        finally:
            os.close(lock)


def watch(server: EmbeddedServer, stop: threading.Event) -> None:
    """Start the server again whenever server and supervisor were killed, until `stop` is set.

    Raises
    ------
    ServerError
        If the server can't be started again.
    """
    while not stop.wait(_CHECK_SECONDS):
        server.revive()


def keeper_of(folder: Path) -> int | None:
    """Return the ID of the process that keeps the folder's server running; None without one."""
    path = folder / KEEPER_LOCK
    if not path.is_file() or not _is_locked(path):
        return None
    text = path.read_text(encoding="ascii", errors="replace").strip()
    return int(text) if text.isdecimal() else None


def release(folder: Path) -> Released:
    """Let the process that keeps the folder's server running end, and wait until the server stops.

    Returns
    -------
    'stopped', 'in use' or 'not running'
        'in use': other commands still use the server, which stops after the last of them.
    """
    if running_endpoint(folder) is None:
        return "not running"
    keeper = keeper_of(folder)
    if keeper is not None:
        os.kill(keeper, signal.SIGTERM)
        if not within(LIMIT, lambda: keeper_of(folder) is None):
            raise ServerError(f"process {keeper}, which keeps the server running, doesn't end")
    users, supervisor = folder / USERS_LOCK, folder / SUPERVISOR_LOCK
    # Wait until the supervisor has noticed that no user is left, or has ended.
    if not within(_LEAVE_SECONDS, lambda: _is_locked(users) or not _is_locked(supervisor)):
        return "in use"
    if not within(LIMIT, lambda: not _is_locked(supervisor)):
        raise ServerError(f"the server in {folder} doesn't stop; see its server.log")
    return "stopped"


def _is_locked(path: Path) -> bool:
    """Return whether a process holds the lock exclusively; no process holds a missing file."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return is_held(lock)
    finally:
        os.close(lock)
