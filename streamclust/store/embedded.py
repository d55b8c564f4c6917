"""The embedded server: one real Valkey for a data folder, shared by all commands that use it.

How it comes, stays and goes is told in ``streamclust.store.supervisor``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import subprocess
import sys
import tempfile
import threading
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
        self._reviving = threading.Lock()

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

    def revive(self) -> None:
        """See that the server runs, and where, after a connection to it was refused.

        The supervisor starts a server again that died. Where both were killed, the first of their
        users that notices starts a new supervisor; the server has another port if that of before
        was taken meanwhile.

        Raises
        ------
        ServerError
            If it can't be started.
        """
        with self._reviving:
            if self._users is None:  # this user has left
                return
            try:
                self._users = _same_lock(self.data_dir / USERS_LOCK, self._users)
                _ensure_supervisor(self.data_dir)
            except OSError as error:
                raise _failure(self.data_dir, _reason(error)) from error
            endpoint = read_endpoint(self.data_dir)
            if endpoint is not None:
                self.host, self.port, self.password = (
                    endpoint.host,
                    endpoint.port,
                    endpoint.password,
                )

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


_FULL = (errno.ENOSPC, errno.EDQUOT)
_MEND_FULL = "free space on that disk, or set redis.data_dir to a folder on another one"
_PROBE_BYTES = 1 << 16


def _enter(data_dir: Path) -> tuple[Path, int]:
    try:
        folder = data_dir.expanduser().resolve()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder, open_lock(folder / USERS_LOCK)
    except OSError as error:
        mend = _MEND_FULL if error.errno in _FULL else "name a folder that can be made and written"
        raise ConfigError(
            f"redis.data_dir: can't use {str(data_dir)!r} ({error.strerror}); {mend}"
        ) from error


def _same_lock(path: Path, users: int) -> int:
    """Return the lock of the file at `path`: the one that is held, if that is still the same file.

    Else the folder was deleted and made anew, and other users would not see this one.
    """
    found = open_lock(path)
    if os.path.samestat(os.fstat(found), os.fstat(users)):
        os.close(found)
        return users
    try_lock(found, fcntl.LOCK_SH)
    os.close(users)
    return found


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
    fault = _write_fault(folder)
    if fault:  # then neither the server nor its log could say what the matter was
        mend = _MEND_FULL if fault.errno in _FULL else "make the folder writable"
        return ServerError(
            f"can't start the embedded server in {folder}: nothing can be written there "
            f"({_reason(fault)}); {mend}"
        )
    return ServerError(
        f"can't start the embedded server in {folder}: {reason}; "
        f"see {folder / LOG_FILE}, or set redis.url to a server of your own"
    )


def _write_fault(folder: Path) -> OSError | None:
    """Return what prevents that a little is written to the folder, if anything does."""
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            written = file.write(bytes(_PROBE_BYTES))
            if written < _PROBE_BYTES:
                file.write(bytes(_PROBE_BYTES - written))  # raises what cut the first short
            os.fsync(file.fileno())
    except OSError as error:
        return error
    return None


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
