"""A server, or the way to it, that fails in the middle of things: nothing lost, nothing twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from redis._parsers.base import BaseParser
from redis.sentinel import MasterNotFoundError

from streamclust.store.server.faults import passes
from tests.support.exhaustive import combinations
from tests.support.model_settings import kmeans
from tests.support.points import Points, add_blocks, add_entry, add_points, blobs
from tests.support.proxy import Deed, Proxy, proxy_before
from tests.support.servers import limited_replies, own_server
from tests.support.waiting import LIMIT, wait_until
from tests.support.workers import WorkerThread, drain
from tests.support.workspace import Workspace

N = 1500
COMMIT = b"newest ~= own_token"
"""Words of the commit's script, and of no other request."""
READ = b"XREAD"

STEADY: dict[str, Any] = {  # nothing depends on how long things take
    "batch": {"size": 60, "linger": "30s"},
    "commit": {"points": 120, "every": "1h"},
    "publish": {"points": 600, "every": "1h"},
}
FILL = "for i = 1, 40000 do redis.call('SET', KEYS[1] .. i, 'x') end"
LOST, BACK = "server_lost", "server_back"
LESS = "read_size_reduced"


BACKLOG = "the backlog of test_server_faults"
_UNDISTURBED: dict[str, Any] = {}
"""What an undisturbed worker makes of the backlog, by server."""


def undisturbed(workspace: Workspace) -> Any:
    """Fill the stream and learn it under another name, once per server; return the state."""
    if workspace.url not in _UNDISTURBED:
        workspace.write({"quiet": kmeans(BACKLOG, **STEADY)})
        with workspace.client as client:
            add_blocks(client, BACKLOG, blobs(N))
        drain(workspace, "quiet")
        _UNDISTURBED[workspace.url] = workspace.state("quiet")
    return _UNDISTURBED[workspace.url]


def through(workspace: Workspace, proxy: Proxy) -> Workspace:
    """Return the workspace as its worker sees it, behind the proxy."""
    behind = Workspace(workspace.folder, proxy.url, workspace.namespace)
    return behind.write({"m": kmeans(BACKLOG, **STEADY)})


@pytest.mark.parametrize(
    ("words", "deed", "after"),
    [
        (COMMIT, "lose the reply", 0),
        (COMMIT, "cut the reply", 1),
        (COMMIT, "cut the request", 60),
        (COMMIT, "cut the request", 2000),
        (READ, "lose the reply", 0),
        (READ, "cut the reply", 900),
    ],
)
def test_a_connection_cut_in_the_middle_changes_nothing(
    any_workspace: Workspace, words: bytes, deed: Deed, after: int
) -> None:
    # Given what an undisturbed worker makes of a backlog
    expected = undisturbed(any_workspace)
    with proxy_before(any_workspace.url) as proxy:
        behind = through(any_workspace, proxy)
        # When another one's commits, or reads, are cut off again and again
        proxy.set_trap(words, deed, after=after, times=3)
        worker = drain(behind)
    # Then it ends with the same, to the last bit, and has said so: reads are tried again at once
    assert proxy.sprung == 3
    assert any_workspace.state("m") == expected
    assert [model.version for model in any_workspace.versions("m")] == list(
        range(1, any_workspace.newest("m").version + 1)
    )
    assert any_workspace.newest("m").mass.sum() == pytest.approx(N, abs=1e-6)
    said = len(worker.events(LOST)) + len(worker.events(LESS))
    assert 1 <= said <= 3


def test_whether_a_commit_without_a_reply_has_landed_is_found_out(workspace: Workspace) -> None:
    undisturbed(workspace)
    with proxy_before(workspace.url) as proxy:
        behind = through(workspace, proxy)
        # Given a commit that landed, though its reply was lost
        proxy.set_trap(COMMIT, "lose the reply")
        worker = drain(behind)
        landed = [entry["points"] for entry in worker.events("model_resumed")]
        # and, for another model, one that did not
        proxy.set_trap(COMMIT, "cut the request", after=60)
        behind.write({"other": kmeans(BACKLOG, **STEADY)})
        other = drain(behind, "other")
    # Then the first worker went on from that commit, and the second began anew
    assert landed == [0]
    assert len(worker.events("model_created")) == 1
    assert len(other.events("model_created")) == 2
    assert workspace.committed("m") == workspace.committed("other") == N


def test_a_server_that_hangs_is_said_once_and_waited_for(any_workspace: Workspace) -> None:
    workspace = any_workspace
    with proxy_before(workspace.url) as proxy:
        behind = through(workspace, proxy).write(
            {"m": kmeans(workspace.stream(), commit={"every": "50ms"}, batch={"linger": "20ms"})}
        )
        with WorkerThread(behind, timeout=2.0) as worker, workspace.client as client:
            add_blocks(client, workspace.stream(), blobs(300))
            worker.wait(lambda: workspace.committed("m") == 300)
            # When the server takes requests, and answers none
            proxy.hang()
            worker.wait_for(LOST)
            add_blocks(client, workspace.stream(), blobs(300, seed=1))
            # and some time later answers all
            proxy.resume()
            # Then the worker goes on
            worker.wait(lambda: workspace.committed("m") == 600)
            worker.wait_for(BACK)
            assert len(worker.events(LOST)) == 1
    assert workspace.newest("m").mass.sum() == pytest.approx(600, abs=1e-6)


def test_a_read_that_blocks_for_ever_does_not_hold_up_the_end(workspace: Workspace) -> None:
    with proxy_before(workspace.url) as proxy:
        behind = through(workspace, proxy).write({"m": kmeans(workspace.stream())})
        with WorkerThread(behind, timeout=3600.0) as worker, workspace.client as client:
            add_points(client, workspace.stream(), blobs(90))
            worker.wait_for("model_published")
            proxy.set_trap(b"XREAD", "hold the reply")
            worker.wait(lambda: proxy.sprung)
            worker.leave()
        assert workspace.committed("m") == 90


# ---- a server that is killed


@pytest.mark.parametrize(
    ("appendfsync", "loses"),
    combinations(
        ("always", "everysec"),
        (False, True),
        always=lambda appendfsync, loses: loses == (appendfsync == "everysec"),
    ),
)
def test_a_server_that_is_killed_and_may_lose_writes(
    tmp_path: Path, namespace: str, appendfsync: str, loses: bool
) -> None:
    n = 480
    with own_server(tmp_path, appendfsync=appendfsync) as server:
        workspace = Workspace(tmp_path, server.url, namespace)
        each_batch = {**STEADY, "commit": {"points": 60, "every": "1h"}}
        workspace.write({name: kmeans(workspace.stream(), **each_batch) for name in ("m", "quiet")})
        with WorkerThread(workspace) as worker, workspace.client as client:
            # Given a worker that has committed what there was, and again after more came
            for seed in range(4):
                add_blocks(client, workspace.stream(), blobs(n, seed=seed))
                worker.wait(lambda seed=seed: workspace.committed("m") == n * (seed + 1))
            # and the server has written it: with everysec, a slow fsync may hold that up
            wait_until(lambda: client.info("persistence")["aof_buffer_length"] == 0)
            # When the server is killed, and comes back with or without its last writes
            server.kill()
            if loses:
                server.lose_writes(since=b"\r\nf8\r\n")  # in the middle of the last points
            server.start()
            worker.wait_for(BACK)
            points = 30 * int(str(client.xlen(workspace.stream())))
            assert points == 4 * n - (30 if loses else 0)
            # Then the worker learns what there is, and says what the server lost
            worker.wait(lambda: workspace.committed("m") == points // 60 * 60)
            lost = worker.events("commits_lost")
            assert [entry["confirmed_points"] for entry in lost] == ([4 * n] if loses else [])
        # and state and position fit each other: it is what the surviving stream gives, bit for bit
        drain(workspace, "m")
        drain(workspace, "quiet")
        assert workspace.state("m") == workspace.state("quiet")
        assert workspace.committed("m") == points


def test_a_server_that_loads_its_data_is_waited_for(tmp_path: Path, namespace: str) -> None:
    # Given a server that loads for half a minute, and tells its clients so after each 1,024 keys
    with own_server(tmp_path, "", "always", "--key-load-delay", "750") as server:
        workspace = Workspace(tmp_path, server.url, namespace)
        workspace.write({"m": kmeans(workspace.stream(), commit={"every": "50ms"})})
        with WorkerThread(workspace) as worker, workspace.client as client:
            client.eval(FILL, 1, namespace)
            add_blocks(client, workspace.stream(), blobs(300))
            worker.wait(lambda: workspace.committed("m") == 300)
            # When it is killed and started again
            server.kill()
            server.launch()
            # Then the worker hears that it loads, and goes on when it has loaded all
            wait_until(lambda: loading_told(client) > 0, LIMIT)
            client.config_set("key-load-delay", 0)
            worker.wait_for(BACK)
            add_blocks(client, workspace.stream(), blobs(300, seed=1))
            worker.wait(lambda: workspace.committed("m") == 600)
            assert len(worker.events(LOST)) == 1


def loading_told(client: redis.Redis) -> int:
    """Return how many requests were refused because the server loads; 0 if it doesn't say."""
    with suppress(redis.ConnectionError, redis.TimeoutError):
        refused: Any = client.info("errorstats")
        return int(refused.get("errorstat_LOADING", {"count": 0})["count"])
    return 0


# ---- errors that pass


SWITCHES: dict[str, tuple[str | int, ...]] = {
    "out of memory": ("CONFIG", "SET", "maxmemory", 1),
    "read-only": ("REPLICAOF", "127.0.0.1", 1),
    "no replicas": ("CONFIG", "SET", "min-replicas-to-write", 1),
    "can't save": ("CONFIG", "SET", "save", "3600 1000000"),
}


@contextmanager
def refusing_writes(workspace: Workspace, fault: str, X: Points) -> Iterator[None]:
    """Add points, in one step with the last moment at which writes are taken, before the block."""
    with workspace.client as client:
        if fault == "can't save":
            _dump(client).mkdir()  # so that it can't be written
            _save(client, "err")
        try:
            with client.pipeline(transaction=True) as pipe:
                pipe.xadd(workspace.stream(), {"f8": X.astype("<f8").tobytes(), "d": X.shape[1]})
                pipe.execute_command(*SWITCHES[fault])
                pipe.execute()
            yield
        finally:
            client.config_set("maxmemory", 0)
            client.execute_command("REPLICAOF", "NO", "ONE")
            client.config_set("min-replicas-to-write", 0)
            if fault == "can't save":
                _dump(client).rmdir()
                _save(client, "ok")
                client.config_set("save", "")


def _dump(client: redis.Redis) -> Path:
    settings: Any = {**client.config_get("dir"), **client.config_get("dbfilename")}
    return Path(settings["dir"], settings["dbfilename"])


def _save(client: redis.Redis, status: str) -> None:
    client.bgsave()
    wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == status, LIMIT)


@contextmanager
def busy(workspace: Workspace) -> Iterator[None]:
    """Let the server run a script without end for the block."""

    def run() -> None:
        with workspace.client as client, suppress(redis.ResponseError):
            client.eval("while true do end", 0)

    with workspace.client as client:
        client.config_set("lua-time-limit", 10)
        script = threading.Thread(target=run)
        script.start()
        try:
            yield
        finally:
            client.script_kill()
            script.join()
            client.config_set("lua-time-limit", 5000)


FAULTS = {
    "out of memory": "is out of memory: raise its maxmemory",
    "read-only": "replica",
    "no replicas": "NOREPLICAS",
    "can't save": "MISCONF",
}


@pytest.mark.every_server
@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_refuses_for_a_while(
    any_workspace: Workspace, server_name: str, fault: str
) -> None:
    if (server_name, fault) == ("redis6.2", "no replicas"):
        pytest.skip("Redis 6.2 lets scripts write, however few replicas there are")
    # Given a worker that learns
    workspace = any_workspace
    eager: dict[str, Any] = {
        "commit": {"points": 60, "every": "50ms"},
        "batch": {"size": 60, "linger": "20ms"},
    }
    workspace.write({"m": kmeans(workspace.stream(), **eager)})
    with WorkerThread(workspace) as worker, workspace.client as client:
        add_blocks(client, workspace.stream(), blobs(600))
        worker.wait(lambda: workspace.committed("m") == 600)
        # When more comes, and the server refuses to write
        with refusing_writes(workspace, fault, blobs(300, seed=1)):
            # Then that is said once, in words
            assert FAULTS[fault] in worker.wait_for(LOST)["error"]
        # and when that is over, the rest is learned
        add_blocks(client, workspace.stream(), blobs(300, seed=2))
        worker.wait(lambda: workspace.committed("m") == 1200)
        worker.wait_for(BACK)
        assert len(worker.events(LOST)) == 1
    assert workspace.newest("m").mass.sum() == pytest.approx(1200, abs=1e-6)


def test_a_server_that_is_busy_with_a_script(any_workspace: Workspace) -> None:
    workspace = any_workspace
    eager: dict[str, Any] = {
        "commit": {"points": 60, "every": "50ms"},
        "batch": {"size": 60, "linger": "20ms"},
    }
    workspace.write({"m": kmeans(workspace.stream(), **eager)})
    with WorkerThread(workspace, timeout=1.0) as worker, workspace.client as client:
        add_blocks(client, workspace.stream(), blobs(300))
        worker.wait(lambda: workspace.committed("m") == 300)
        # When a script runs without end while the worker has a backlog, and so soon asks
        add_blocks(client, workspace.stream(), blobs(6000, seed=2))
        with busy(workspace):
            # Then it gets BUSY, or no answer to a read that waits
            said = worker.wait_for(LOST)["error"]
            assert "no answer in time" in said or "BUSY" in said
        # When the script is killed Then the worker learns again
        add_blocks(client, workspace.stream(), blobs(300, seed=1))
        worker.wait(lambda: workspace.committed("m") == 6600)
        worker.wait_for(BACK)
        assert len(worker.events(LOST)) == 1


def parsed(text: str) -> redis.RedisError:
    """Return what redis-py makes of an error of the server."""
    error: redis.RedisError = BaseParser.parse_error(text)  # type: ignore[no-untyped-call]
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (redis.ConnectionError("refused"), True),
        (redis.TimeoutError("no answer"), True),
        (redis.BusyLoadingError("loading the dataset in memory"), True),
        (redis.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), True),
        (redis.ReadOnlyError("You can't write against a read only replica."), True),
        *(
            (redis.ResponseError(text), True)
            for text in (
                "BUSY Redis is busy running a script.",
                "MISCONF Redis is configured to save RDB snapshots, but it can't persist on disk.",
                "CLUSTERDOWN The cluster is down",
                "TRYAGAIN Multiple keys request during rehashing of slot",
                "MASTERDOWN Link with MASTER is down",
                "NOREPLICAS Not enough good replicas to write.",
                "Error running script (call to f_0123): @user_script:7: @user_script: 7: -OOM "
                "command not allowed when used memory > 'maxmemory'.",
                "Error running script (call to f_0123): @user_script:7: -READONLY You can't write",
            )
        ),
        *(
            (redis.ResponseError(text), False)
            for text in (
                "WRONGTYPE Operation against a key holding the wrong kind of value",
                "BUSYGROUP Consumer Group name already exists",
                "NOGROUP No such key 'x' or consumer group 'y'",
                "unknown command 'XREAD'",
                "Protocol error: LOADING is no command",
            )
        ),
        *(
            (parsed(text), True)  # redis-py may remove the code
            for text in (
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
                "CLUSTERDOWN Hash slot not served",
                "TRYAGAIN Multiple keys request during rehashing of slot",
                "UNBLOCKED client unblocked via CLIENT UNBLOCK",
                "LOADING Valkey is loading the dataset in memory",
                "BUSY Valkey is busy running a script.",
                "READONLY You can't write against a read only replica.",
                "OOM command not allowed when used memory > 'maxmemory'.",
                "MISCONF Errors writing to the AOF file: No space left on device",
                "NOREPLICAS Not enough good replicas to write.",
                "ERR max number of clients reached",
            )
        ),
        *(
            (parsed(text), False)
            for text in (
                "WRONGPASS invalid username-password pair or user is disabled.",
                "NOAUTH Authentication required.",
                "NOPERM this user has no permissions to run the 'get' command",
                "ERR invalid password",
                "ERR value is not an integer or out of range",
            )
        ),
        (
            redis.ResponseError(
                "Command # 2 (XADD s * x 1) of pipeline caused error: BUSY Redis is busy"
            ),
            True,
        ),
        (MasterNotFoundError("no master: AuthenticationError('WRONGPASS')"), False),
        (MasterNotFoundError("no master found for 'm'"), True),
    ],
)
def test_which_faults_pass(error: redis.RedisError, expected: bool) -> None:
    assert passes(error) == expected


# ---- replies that the server, or a proxy, cuts off


def test_large_replies_that_are_cut_off_are_read_in_parts(any_workspace: Workspace) -> None:
    workspace = any_workspace
    model = {"encode": True, "init": {"kind": "warm_up", "points": 60}}
    workspace.write(
        {name: kmeans(workspace.stream(), **{**STEADY, **model}) for name in ("m", "quiet")}
    )
    with workspace.client as client:
        for seed in range(8):
            add_blocks(client, workspace.stream(), blobs(6000, seed=seed), block=2000)  # 32 kB each
        drain(workspace, "quiet")
        # Given a server that closes each connection with more than 64 KiB to be sent
        with limited_replies(client, 1 << 16):
            worker = drain(workspace)
        codes = [client.xlen(workspace.keys(name).codes()) for name in ("m", "quiet")]
    # Then the same is learned, bit for bit, and encoded, and what was asked is said
    assert workspace.state("m") == workspace.state("quiet")
    assert codes == [24, 24]
    assert "entries of " + workspace.stream() in worker.wait_for(LESS)["reason"]
    assert worker.events(LOST) == []


def test_an_entry_that_is_always_cut_off_is_named_until_it_can_be_read(
    workspace: Workspace,
) -> None:
    workspace.write(
        {"m": kmeans(workspace.stream(), commit={"every": "20ms"}, batch={"linger": "20ms"})}
    )
    with workspace.client as client:
        add_blocks(client, workspace.stream(), blobs(300), block=30)
        large = add_entry(client, workspace.stream(), f8=blobs(30_000).tobytes(), d="2")  # 480 kB
        with limited_replies(client), WorkerThread(workspace) as worker:
            line = worker.wait_for("entry_unreadable")["error"]
            assert f"can't read entry {large} of {workspace.stream()} (480,0" in line
            assert "raise the server's client-output-buffer-limit" in line
            # When the limit is raised Then it is learned
            client.config_set("client-output-buffer-limit", "normal 0 0 0")
            worker.wait(lambda: workspace.committed("m") == 30_300)
    assert workspace.dead("m") == []
