"""The embedded server: one Valkey server per data folder, shared by all commands that use it.

``streamclust.store.server.supervisor`` describes how the server is started and stopped.
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
from typing import Self

from streamclust.errors import ConfigError, ServerError, ServerUnreachableError
from streamclust.store.server.supervisor import (
    ENDPOINT_FILE,
    LIMIT,
    LOG_FILE,
    SERVER_LOCK,
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
    """One user of a data folder's server; a context manager.

    The use ends when the process ends, or earlier. A forked child process shares the use of its
    parent: the server runs until both have ended.

    Attributes
    ----------
    data_dir : Path
        The folder, as an absolute path.
    host, port, password
        Address and password of the server.
    """

    def __init__(
        self, data_dir: Path, endpoint: Endpoint, users: int, *, starts: bool = True
    ) -> None:
        self.data_dir = data_dir
        self.host = endpoint.host
        self.port = endpoint.port
        self.password = endpoint.password
        self._users: int | None = users
        self._starts = starts
        self._reviving = threading.Lock()

    @classmethod
    def acquire(cls, data_dir: Path) -> Self:
        """Use the folder's server; start it if it doesn't run.

        Raises
        ------
        ConfigError
            If the folder can't be created or written.
        ServerError
            If the server doesn't start.
        """
        folder, users, is_new = _enter(data_dir)
        try:
            if not within(LIMIT, lambda: try_lock(users, fcntl.LOCK_SH)):
                raise _failure(folder, "the previous server doesn't stop")
            return cls(folder, _running(folder), users)
        except BaseException:
            if is_new:
                _remove_empty(folder, users)
            os.close(users)
            raise

    @classmethod
    def join(cls, data_dir: Path) -> Self:
        """Use the folder's server if it runs. This starts no process and creates no file.

        Raises
        ------
        ServerUnreachableError
            If the server doesn't run.
        """
        folder = data_dir.expanduser().resolve()
        try:
            users = os.open(folder / USERS_LOCK, os.O_RDWR | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise ServerUnreachableError(_not_running(folder, has_data=False)) from None
        except OSError as error:
            raise ServerError(
                f"can't use the embedded server in {folder}: {_reason(error)}; run the command as "
                "the user that started the server"
            ) from error
        try:
            endpoint = _answering(folder) if try_lock(users, fcntl.LOCK_SH) else None
            if endpoint is None:
                raise ServerUnreachableError(_not_running(folder, has_data=True))
            return cls(folder, endpoint, users, starts=False)
        except BaseException:
            os.close(users)
            raise

    def revive(self) -> None:
        """Make sure that the server runs, after a connection was refused; update its address.

        A user that only joined the server starts nothing: it waits until another user does.

        The supervisor restarts a server that died. If both were killed, the first user that notices
        starts a new supervisor. The server gets another port if another program uses its port.

        Raises
        ------
        ServerError
            If the server can't be started.
        """
        with self._reviving:
            if self._users is None:  # this user has left
                return
            if self._starts:
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
        """End the use. The server stops without users. A second call does nothing."""
        users, self._users = self._users, None
        if users is None:
            return
        if self._starts:
            with contextlib.suppress(OSError, ServerError):
                _ensure_supervisor(self.data_dir)
        os.close(users)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_FULL = (errno.ENOSPC, errno.EDQUOT)
_FREE_SPACE = "free space on that disk, or set redis.data_dir to a folder on another one"
_PROBE_BYTES = 1 << 16


def _enter(data_dir: Path) -> tuple[Path, int, bool]:
    """Return the folder, its open ``users.lock``, and whether this call created the folder."""
    is_new = False
    try:
        folder = data_dir.expanduser().resolve()
        is_new = not folder.exists()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder, open_lock(folder / USERS_LOCK), is_new
    except OSError as error:
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        action = (
            _FREE_SPACE if error.errno in _FULL else "name a folder that can be created and written"
        )
        raise ConfigError(
            f"redis.data_dir: can't use {str(data_dir)!r} ({error.strerror}); {action}"
        ) from error


_EMPTY_FILES = (USERS_LOCK, SUPERVISOR_LOCK, SERVER_LOCK, LOG_FILE, f"{ENDPOINT_FILE}.new")
"""The files in which a start that could write nothing leaves no content."""


def _remove_empty(folder: Path, users: int) -> None:
    """Remove a new folder in which nothing could be written, if nobody else uses it."""
    with contextlib.suppress(OSError):
        files = list(folder.iterdir())
        if any(file.name not in _EMPTY_FILES or file.stat().st_size for file in files):
            return
        if within(1.0, lambda: not _is_supervised(folder)) and try_lock(users, fcntl.LOCK_EX):
            for file in files:
                file.unlink(missing_ok=True)
            folder.rmdir()


def _same_lock(path: Path, users: int) -> int:
    """Return the lock of the file at `path`: the held lock if the file is still the same.

    If the folder was deleted and created again, other users see only a lock on the new file.
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


def _answering(folder: Path) -> Endpoint | None:
    """Return the address of the folder's server; None if it doesn't run and isn't being started."""
    found: list[Endpoint] = []

    def is_known() -> bool:
        endpoint = read_endpoint(folder)
        if endpoint is not None and answers(endpoint):
            found.append(endpoint)
        return bool(found) or not _is_supervised(folder)

    within(LIMIT, is_known)
    return found[0] if found else None


def _not_running(folder: Path, *, has_data: bool) -> str:
    data = "its data are stored there; " if has_data else ""
    return (
        f"no server runs in {folder}: {data}start it with `streamclust server run --detach` or "
        "`streamclust worker`, or name your own server with --redis-url"
    )


def _ensure_supervisor(folder: Path) -> None:
    if _is_supervised(folder):
        return
    starter = subprocess.run(  # noqa: S603 -- an own module and a path
        [sys.executable, "-m", "streamclust.store.server.supervisor", str(folder)],
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
    if fault:  # the server couldn't write its log either
        action = _FREE_SPACE if fault.errno in _FULL else "make the folder writable"
        return ServerError(
            f"can't start the embedded server in {folder}: nothing can be written there "
            f"({_reason(fault)}); {action}"
        )
    return ServerError(
        f"can't start the embedded server in {folder}: {reason}; "
        f"see {folder / LOG_FILE}, or set redis.url to your own server"
    )


def _write_fault(folder: Path) -> OSError | None:
    """Return the error of writing a small file to the folder; None if there is none."""
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            written = file.write(bytes(_PROBE_BYTES))
            if written < _PROBE_BYTES:
                # This write raises the error that cut the first one short.
                file.write(bytes(_PROBE_BYTES - written))
            os.fsync(file.fileno())
    except OSError as error:
        return error
    return None


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
