"""The embedded server comes with its first user and goes with its last, whatever happens to them.

Users are real processes, and what is killed is killed by SIGKILL.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from streamclust.errors import (
    ConfigError,
    ServerError,
    ServerUnreachableError,
    StreamclustError,
)
from streamclust.store.server.connect import Address, open_server, translate
from streamclust.store.server.embedded import EmbeddedServer
from streamclust.store.server.supervisor import (
    ENDPOINT_FILE,
    LOG_FILE,
    SERVER_LOCK,
    SUPERVISOR_LOCK,
    USERS_LOCK,
    answers,
    is_held,
    open_lock,
    read_endpoint,
    try_lock,
)
from tests.support.embedded_user import User
from tests.support.waiting import wait_until


def locked(data_dir: Path, name: str) -> bool:
    lock = open_lock(data_dir / name)
    try:
        return is_held(lock)
    finally:
        os.close(lock)


def stopped(data_dir: Path) -> bool:
    """Both processes are gone, as the kernel knows, and so is the note of where they were."""
    processes = locked(data_dir, SUPERVISOR_LOCK) or locked(data_dir, SERVER_LOCK)
    return not processes and not (data_dir / ENDPOINT_FILE).exists()


def client(server: EmbeddedServer) -> redis.Redis:
    return redis.Redis(server.host, server.port, password=server.password)


def server_pid(server: EmbeddedServer) -> int:
    with client(server) as connection:
        return int(connection.info("server")["process_id"])


def supervisor_pid(data_dir: Path) -> int:
    endpoint = read_endpoint(data_dir)
    assert endpoint is not None
    return endpoint.supervisor


def kill_supervisor(data_dir: Path) -> None:
    os.kill(supervisor_pid(data_dir), signal.SIGKILL)
    wait_until(lambda: not locked(data_dir, SUPERVISOR_LOCK))


def kill_server(server: EmbeddedServer) -> int:
    """Return the number of the process that was."""
    pid = server_pid(server)
    os.kill(pid, signal.SIGKILL)
    return pid


def is_back(server: EmbeddedServer, dead: int) -> bool:
    try:
        return server_pid(server) != dead
    except redis.ConnectionError:
        return False


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "data"
    yield folder
    if folder.is_dir():
        if locked(folder, SERVER_LOCK) and not locked(folder, SUPERVISOR_LOCK):
            EmbeddedServer.acquire(folder).close()  # a failed test has left it alone
        wait_until(lambda: stopped(folder))


@pytest.fixture
def user(data_dir: Path) -> Iterator[Callable[[], User]]:
    users: list[User] = []

    def start() -> User:
        users.append(User(data_dir))
        return users[-1]

    yield start
    for each in users:
        each.kill()


def test_commands_share_one_server_until_the_last_has_left(
    data_dir: Path, user: Callable[[], User]
) -> None:
    first = user()
    port = first.port()
    second = user()
    assert second.port() == port
    first.leave()
    endpoint = read_endpoint(data_dir)
    assert endpoint is not None
    assert answers(endpoint)
    second.leave()
    wait_until(lambda: stopped(data_dir))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_first_users_at_once_start_one_server(data_dir: Path, user: Callable[[], User]) -> None:
    users = [user() for _ in range(3)]
    assert len({each.port() for each in users}) == 1
    assert (data_dir / LOG_FILE).read_text().count("Ready to accept connections") == 1


def test_data_are_there_at_the_next_start(data_dir: Path) -> None:
    with EmbeddedServer.acquire(data_dir) as server, client(server) as connection:
        connection.xadd("points", {"x": "1.5"}, id="7-0")
    wait_until(lambda: stopped(data_dir))
    with EmbeddedServer.acquire(data_dir) as server, client(server) as connection:
        assert connection.xrange("points") == [(b"7-0", {b"x": b"1.5"})]


def test_newcomer_during_the_stop_gets_a_new_server(data_dir: Path) -> None:
    for expected in range(1, 6):
        with EmbeddedServer.acquire(data_dir) as server, client(server) as connection:
            assert connection.incr("starts") == expected


def test_server_stops_when_its_user_is_killed(data_dir: Path, user: Callable[[], User]) -> None:
    only = user()
    only.port()
    only.kill()
    wait_until(lambda: stopped(data_dir))


def test_newcomer_mends_a_killed_supervisor(data_dir: Path, user: Callable[[], User]) -> None:
    first = user()
    port = first.port()
    dead = supervisor_pid(data_dir)
    kill_supervisor(data_dir)
    first.kill()
    with EmbeddedServer.acquire(data_dir) as server:
        assert server.port == port
        assert supervisor_pid(data_dir) != dead
        assert (data_dir / LOG_FILE).read_text().count("Ready to accept connections") == 1
    wait_until(lambda: stopped(data_dir))


def test_last_user_mends_a_killed_supervisor(data_dir: Path) -> None:
    with EmbeddedServer.acquire(data_dir):
        kill_supervisor(data_dir)
    wait_until(lambda: stopped(data_dir))


def test_killed_server_comes_back_where_it_was(data_dir: Path) -> None:
    with EmbeddedServer.acquire(data_dir) as server, client(server) as connection:
        connection.set("seen", 1)
        dead = kill_server(server)
        wait_until(lambda: is_back(server, dead))
        assert connection.get("seen") == b"1"


def test_newcomer_mends_a_killed_supervisor_and_server(data_dir: Path) -> None:
    with EmbeddedServer.acquire(data_dir) as first, client(first) as connection:
        connection.set("seen", 1)
        kill_supervisor(data_dir)
        kill_server(first)
        with EmbeddedServer.acquire(data_dir) as second:
            assert second.port == first.port
            assert connection.get("seen") == b"1"


def test_a_user_that_stays_starts_a_killed_supervisor_and_server_again(data_dir: Path) -> None:
    with open_server(Address("embedded", data_dir)) as server, server.session() as session:
        live, other = server.client(), session.client()
        live.set("seen", 1)
        other.ping()
        kill_both(data_dir)
        # Then its next command does, by any of its clients
        assert live.get("seen") == b"1"
        # and a session doesn't take the server of now for that of before
        with pytest.raises(redis.ConnectionError):
            other.set("seen", 2)
        with server.session() as after:
            assert after.client().get("seen") == b"1"
        # and of several clients at once, and of several threads, one does
        kill_both(data_dir)
        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(lambda _: server.client().get("seen"), range(6))) == [b"1"] * 6
        assert (data_dir / LOG_FILE).read_text().count("Ready to accept connections") == 3
    wait_until(lambda: stopped(data_dir))


def test_a_user_that_stays_finds_the_server_on_another_port(data_dir: Path) -> None:
    with open_server(Address("embedded", data_dir)) as server:
        client = server.client()
        client.set("seen", 1)
        before = read_endpoint(data_dir)
        assert before is not None
        kill_both(data_dir)
        with socket.create_server(("127.0.0.1", before.port)) as other:
            closing = threading.Thread(target=close_all, args=(other,), daemon=True)
            closing.start()
            assert client.get("seen") == b"1"
            after = read_endpoint(data_dir)
            assert after is not None
            assert after.port != before.port
            other.shutdown(socket.SHUT_RDWR)
            closing.join()


def close_all(listener: socket.socket) -> None:
    """Hang up on everybody, until the socket is closed."""
    with suppress(OSError):
        while True:
            listener.accept()[0].close()


def test_a_user_that_stays_says_that_its_folder_is_gone(data_dir: Path) -> None:
    with open_server(Address("embedded", data_dir)) as server:
        client = server.client()
        client.ping()
        kill_both(data_dir)
        shutil.rmtree(data_dir)
        words = rf"can't start the embedded server in {data_dir}: .*No such file or directory"
        with pytest.raises(ServerUnreachableError, match=words), translate(server.label):
            client.ping()
        # and when the folder is there again, it uses it as every user does
        data_dir.mkdir()
        assert client.ping()
        newcomer = open_lock(data_dir / USERS_LOCK)
        assert not try_lock(newcomer, fcntl.LOCK_EX)
        os.close(newcomer)


def test_who_has_left_starts_nothing(data_dir: Path) -> None:
    server = open_server(Address("embedded", data_dir))
    client = server.client()
    client.ping()
    server.close()
    wait_until(lambda: stopped(data_dir))
    with pytest.raises(redis.ConnectionError):
        client.ping()
    assert stopped(data_dir)


def kill_both(data_dir: Path) -> None:
    """Kill the supervisor, so that it can't start the server again, and then the server."""
    endpoint = read_endpoint(data_dir)
    assert endpoint is not None
    with redis.Redis(endpoint.host, endpoint.port, password=endpoint.password) as connection:
        pid = int(connection.info("server")["process_id"])
    kill_supervisor(data_dir)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not locked(data_dir, SERVER_LOCK))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "none", str(folder)]
    if not sys.platform.startswith("linux") or subprocess.run(mount, check=False).returncode:
        pytest.skip("a small disk can be mounted by root on Linux alone")
    yield folder
    wait_until(lambda: stopped(folder / "data"))
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no room on the folder's disk; return the file that takes it."""
    file = folder / "rest"
    with suppress(OSError), file.open("ab", buffering=0) as rest:
        while True:
            rest.write(bytes(4096))
    return file


def test_a_full_disk_is_said_with_its_path(small_disk: Path) -> None:
    data_dir = small_disk / "data"
    words = r"No space left on device\); free space on that disk, or set redis\.data_dir to"
    # Given a server that runs when its disk becomes full
    with open_server(Address("embedded", data_dir)) as server:
        client = server.client()
        client.set("seen", 1)
        rest = fill(small_disk)

        def refused() -> str:
            try:
                with translate(server.label):
                    client.set("more", bytes(8192))
            except StreamclustError as error:
                return str(error)
            return ""

        # Then what it refuses says so, with the folder, and passes when there is room
        wait_until(refused)
        assert refused().startswith(f"embedded ({data_dir}) can't save its data, so it accepts no")
        assert "No space left on device; free space on the disk of its data folder" in refused()
        rest.unlink()
        wait_until(lambda: not refused())
        fill(small_disk)
        # and a start that finds no room says so, again and again
        kill_both(data_dir)
        with pytest.raises(ServerUnreachableError, match=words), translate(server.label):
            client.get("seen")
        with pytest.raises(ServerError, match=rf"server in {data_dir}: nothing can be .*{words}"):
            EmbeddedServer.acquire(data_dir)
        # and it leaves no new folder behind
        with pytest.raises(ServerError, match=words):
            EmbeddedServer.acquire(small_disk / "new")
        assert not (small_disk / "new").exists()
        # until there is some
        rest.unlink()

        def is_back() -> bool:
            with suppress(redis.ConnectionError):  # the last try may still be ending
                return bool(client.get("seen") == b"1")
            return False

        wait_until(is_back)


def test_supervisor_asked_to_end_stops_the_server(data_dir: Path) -> None:
    with EmbeddedServer.acquire(data_dir):
        os.kill(supervisor_pid(data_dir), signal.SIGTERM)
        wait_until(lambda: stopped(data_dir))


@pytest.mark.parametrize("left", ["", "{", "[]", '{"port": 1}'])
def test_broken_note_of_a_power_loss_is_no_note(tmp_path: Path, left: str) -> None:
    (tmp_path / ENDPOINT_FILE).write_text(left)
    assert read_endpoint(tmp_path) is None


def test_broken_note_of_a_power_loss_is_no_hindrance(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / ENDPOINT_FILE).write_text('{"port": 1}')
    with EmbeddedServer.acquire(data_dir) as server, client(server) as connection:
        assert connection.ping()


def test_port_of_before_that_is_taken_is_replaced(data_dir: Path) -> None:
    data_dir.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        left = {"host": "127.0.0.1", "port": port, "password": "old", "supervisor": 1}
        (data_dir / ENDPOINT_FILE).write_text(json.dumps(left))
        with EmbeddedServer.acquire(data_dir) as server, client(server) as connection:
            assert server.port != port
            assert connection.ping()


def test_server_of_a_deleted_folder_stops(data_dir: Path) -> None:
    with EmbeddedServer.acquire(data_dir) as server:
        shutil.rmtree(data_dir)
    endpoint = (server.host, server.port)
    with socket.socket() as probe:
        wait_until(lambda: probe.connect_ex(endpoint) != 0)


def test_children_of_a_user_are_no_users(data_dir: Path) -> None:
    with EmbeddedServer.acquire(data_dir):
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False)
    with child:
        wait_until(lambda: stopped(data_dir))
        assert child.poll() is None


def test_ctrl_c_in_the_terminal_reaches_neither_process(data_dir: Path) -> None:
    with EmbeddedServer.acquire(data_dir) as server:
        for pid in (supervisor_pid(data_dir), server_pid(server)):
            assert os.getsid(pid) != os.getsid(0)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server that no test stops."""
    with EmbeddedServer.acquire(tmp_path_factory.mktemp("embedded") / "data") as server:
        yield server


def test_password_is_in_one_private_file(shared: EmbeddedServer) -> None:
    password, folder = shared.password.encode(), shared.data_dir
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert [path.name for path in files if password in path.read_bytes()] == [ENDPOINT_FILE]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    endpoint = read_endpoint(folder)
    assert endpoint is not None
    assert shared.password not in repr(endpoint)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
def test_password_is_in_no_list_of_processes(shared: EmbeddedServer) -> None:
    for pid in (supervisor_pid(shared.data_dir), server_pid(shared)):
        command = Path(f"/proc/{pid}/cmdline").read_text()
        assert command
        assert shared.password not in command


def test_server_asks_for_the_password(shared: EmbeddedServer) -> None:
    with (
        redis.Redis(shared.host, shared.port, retry=Retry(NoBackoff(), 0)) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()


def test_closing_twice_leaves_other_users_alone(shared: EmbeddedServer) -> None:
    leaves = EmbeddedServer.acquire(shared.data_dir)
    leaves.close()
    leaves.close()
    with client(shared) as connection:
        assert connection.ping()


def test_file_in_place_of_the_folder_is_said(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigError, match=rf"^redis\.data_dir: can't use '{file}' \(File exists\)"):
        EmbeddedServer.acquire(file)
    with pytest.raises(
        ConfigError, match=r"^redis\.data_dir: .*\(Not a directory\); name a folder"
    ):
        EmbeddedServer.acquire(file / "below")


def test_data_that_the_server_refuses_are_said(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(ServerError) as failure:
        EmbeddedServer.acquire(tmp_path)
    message = str(failure.value)
    assert message.startswith(f"can't start the embedded server in {tmp_path}: ")
    assert message.endswith(f"see {tmp_path / LOG_FILE}, or set redis.url to your own server")
    assert "AOF manifest" in message
    assert "\n" not in message
    wait_until(lambda: stopped(tmp_path))


def test_machine_without_a_server_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "sitecustomize.py").write_text("import platform; platform.machine = lambda: 'vax'")
    # No client library is imported, which would take longer than the rest of the start.
    (workspace / "valkey.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(workspace))
    with pytest.raises(ServerError, match=r"no server for this machine \(.*vax.*set redis\.url to"):
        EmbeddedServer.acquire(tmp_path / "data")
