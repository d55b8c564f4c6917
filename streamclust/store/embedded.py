"""The embedded server: one real Valkey for a data folder, shared by all commands that use it.

How it comes, stays and goes is told in ``streamclust.store.supervisor``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from streamclust.errors import ConfigError, ServerError
from streamclust.store.supervisor import (
    LIMIT,
    LOG_FILE,
    SUPERVISOR_LOCK,
    USERS_LOCK,
    Endpoint,
    answers,
    is_held,
    last_line,
    open_lock,
    read_endpoint,
    try_lock,
    within,
)


class EmbeddedServer:
    """One user's share of a data folder's server; a context manager.

    The share ends with the process, however that ends. A forked child has the same share: the
    server runs until both have left.

    Attributes
    ----------
    data_dir : Path
        The folder, as an absolute path.
    host, port, password
        Where the server listens and what it asks for.
    """

    def __init__(self, data_dir: Path, endpoint: Endpoint, users: int) -> None:
        self.data_dir = data_dir
        self.host = endpoint.host
        self.port = endpoint.port
        self.password = endpoint.password
        self._users: int | None = users

    @classmethod
    def acquire(cls, data_dir: Path) -> Self:
        """Share the folder's server; start it if it doesn't run.

        Raises
        ------
        ConfigError
            If the folder can't be made or written.
        ServerError
            If the server doesn't start.
        """
        folder, users = _enter(data_dir)
        try:
            if not within(LIMIT, lambda: try_lock(users, fcntl.LOCK_SH)):
                raise _failure(folder, "the last one doesn't stop")
            return cls(folder, _running(folder), users)
        except BaseException:
            os.close(users)
            raise

    def close(self) -> None:
        """Leave the server, which stops when no user is left. Closing twice is harmless."""
        users, self._users = self._users, None
        if users is None:
            return
        with contextlib.suppress(OSError, ServerError):
            _ensure_supervisor(self.data_dir)
        os.close(users)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _enter(data_dir: Path) -> tuple[Path, int]:
    try:
        folder = data_dir.expanduser().resolve()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder, open_lock(folder / USERS_LOCK)
    except OSError as error:
        raise ConfigError(
            f"redis.data_dir: can't use {str(data_dir)!r} ({error.strerror}); "
            "name a folder that can be made and written"
        ) from error


def _running(folder: Path) -> Endpoint:
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        _ensure_supervisor(folder)
        endpoint = read_endpoint(folder)
        if endpoint is not None and answers(endpoint):
            return endpoint
        time.sleep(0.02)
    raise _failure(folder, "it doesn't answer")


def _ensure_supervisor(folder: Path) -> None:
    if _is_supervised(folder):
        return
    starter = subprocess.run(  # noqa: S603 -- a module of ours and a path
        [sys.executable, "-m", "streamclust.store.supervisor", str(folder)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C in the user's terminal doesn't reach it
        check=False,
    )
    if starter.returncode != 0:
        raise _failure(folder, last_line(starter.stderr) or f"exit code {starter.returncode}")


def _is_supervised(folder: Path) -> bool:
    lock = open_lock(folder / SUPERVISOR_LOCK)
    try:
        return is_held(lock)
    finally:
        os.close(lock)


def _failure(folder: Path, reason: str) -> ServerError:
    return ServerError(
        f"can't start the embedded server in {folder}: {reason}; "
        f"see {folder / LOG_FILE}, or set redis.url to a server of your own"
    )
