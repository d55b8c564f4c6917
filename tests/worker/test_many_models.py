"""Many models in one worker: few threads and connections, and each learned as if it were alone."""

from __future__ import annotations

import resource
import signal
from pathlib import Path
from typing import Any

import redis

from streamclust.system_limits import cores_of_process
from tests.support.model_settings import kmeans, mixture
from tests.support.points import add_blocks, blobs
from tests.support.proxy import proxy_before
from tests.support.waiting import wait_until
from tests.support.workers import WorkerProcess
from tests.support.workspace import Workspace

STEADY: dict[str, Any] = {  # nothing depends on how long things take
    "batch": {"size": 60, "linger": "1d"},
    "commit": {"points": 60, "every": "1d"},
    "publish": {"points": 120, "every": "1d"},
    "coreset": {"points": 60},
}


def names(count: int) -> list[str]:
    return [f"m{number}" for number in range(count)]


MIXTURES = ("m0", "m9")
"""Few: the fit of their warm-up takes long."""


def configured(workspace: Workspace, count: int, prefix: str = "", **worker: Any) -> Workspace:
    """Write the models, which read the same streams under any prefix."""
    models = {
        prefix + name: (mixture if name in MIXTURES else kmeans)(workspace.stream(name), **STEADY)
        for name in names(count)
    }
    return workspace.write(models, worker={"lease": "2s", "health_ttl": "2s", **worker})


def feed(client: redis.Redis, workspace: Workspace, count: int, seed: int) -> None:
    for number, name in enumerate(names(count)):
        add_blocks(client, workspace.stream(name), blobs(120, seed=1000 * seed + number))


def all_committed(client: redis.Redis, workspace: Workspace, count: int, points: int) -> bool:
    states: Any = client.mget([workspace.keys(name).state for name in names(count)])
    return all(state and b'\\"points\\":%d' % points in state for state in states)


def proc(worker: WorkerProcess, key: str) -> int:
    status = Path("/proc", str(worker.process.pid), "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith(f"{key}:"))


def own_connections(client: redis.Redis, worker: WorkerProcess) -> int:
    """Return how many sockets the worker has."""
    files = Path("/proc", str(worker.process.pid), "fd").iterdir()
    return sum("socket:" in str(file.readlink()) for file in files)


def test_many_models_share_threads_and_connections_through_kills(workspace: Workspace) -> None:
    count = 20  # more than the threads and the connections that a worker may have
    configured(workspace, count, idle_after="200ms")
    with workspace.client as client:
        # Given many models with a backlog
        feed(client, workspace, count, 1)
        with WorkerProcess(workspace) as worker:
            worker.wait(lambda: all_committed(client, workspace, count, 120))
            # Then they share threads and connections
            assert proc(worker, "Threads") <= cores_of_process() + 8
            assert own_connections(client, worker) <= 16
            # and news reaches each of them
            feed(client, workspace, count, 2)
            worker.wait(lambda: all_committed(client, workspace, count, 240))
            # When the worker is killed in the middle of its work
            feed(client, workspace, count, 3)
            worker.wait(lambda: workspace.committed("m7") > 240)
            worker.send(signal.SIGKILL)
        with WorkerProcess(workspace) as worker:
            worker.wait_for("model_resumed", count)
            worker.wait(lambda: all_committed(client, workspace, count, 360))
            assert worker.leave() == 0
            assert not worker.events("lease_lost")
    # Then each model is the same as one that was learned in peace, bit for bit
    configured(workspace, count, prefix="quiet-").drain()
    for name in names(count):
        assert workspace.state(name) == workspace.state(f"quiet-{name}"), name


def test_forty_open_files_are_enough(workspace: Workspace) -> None:
    count = 48  # more than the files
    configured(workspace, count)
    with workspace.client as client, WorkerProcess(workspace) as worker:
        worker.wait_for("model_created", count)
        resource.prlimit(worker.process.pid, resource.RLIMIT_NOFILE, (40, 40))
        feed(client, workspace, count, 1)
        worker.wait(lambda: all_committed(client, workspace, count, 120))
        assert worker.leave() == 0
        assert not worker.events("model_failed")


def test_a_flood_does_not_delay_the_others(workspace: Workspace) -> None:
    # Given models with a backlog that takes long, and one that gets a point now and then
    prompt: dict[str, Any] = {"batch": {"linger": "10ms"}, "commit": {"every": "10ms"}}
    floods = [f"flood-{number}" for number in range(cores_of_process() + 2)]
    flood, light = workspace.stream("flood"), workspace.stream("light")
    models = {name: kmeans(flood, K=24) for name in floods}
    workspace.write({**models, "light": kmeans(light, **prompt)})
    backlog = blobs(20_000, D=8)
    with workspace.client as client:
        add_blocks(client, flood, backlog, block=1000)
        add_blocks(client, light, blobs(90))
        with WorkerProcess(workspace) as worker:
            worker.wait(lambda: workspace.committed("light") == 90)
            learned = 90
            while not all(workspace.committed(name) == len(backlog) for name in floods):
                # When a point comes Then it is learned before the backlogs are
                add_blocks(client, light, blobs(3, seed=learned))
                learned += 3
                worker.wait(lambda learned=learned: workspace.committed("light") == learned)
            assert learned >= 90 + 3 * 3


def test_a_worker_without_the_right_to_watch_streams_asks_again(workspace: Workspace) -> None:
    # Given a server that knows no CLIENT TRACKING, and more models than reader threads
    models = {name: kmeans(workspace.stream(name)) for name in names(8)}
    workspace.write(models)
    with workspace.client as client:
        client.execute_command("ACL", "SETUSER", "default", "-client|tracking")
        try:
            with WorkerProcess(workspace) as worker:
                for points in (90, 180):
                    for name in models:
                        add_blocks(client, workspace.stream(name), blobs(90, seed=points))
                    worker.wait(
                        lambda points=points: all(
                            workspace.committed(name) == points for name in models
                        )
                    )
                assert worker.leave() == 0
        finally:
            client.execute_command("ACL", "SETUSER", "default", "+client|tracking")


def test_models_with_a_fault_of_the_server_all_return(workspace: Workspace) -> None:
    models = {name: kmeans(workspace.stream(name)) for name in names(12)}
    workspace.write(models)
    with workspace.client as client, WorkerProcess(workspace) as worker:
        for name in models:
            add_blocks(client, workspace.stream(name), blobs(90))
        worker.wait(lambda: all(workspace.committed(name) == 90 for name in models))
        # When all connections of the worker are cut
        own = client.client_id()
        for each in client.client_list():
            if each["name"] == "streamclust" and int(each["id"]) != own:
                client.client_kill_filter(_id=each["id"])
        # Then each model learns what comes next
        for name in models:
            add_blocks(client, workspace.stream(name), blobs(90, seed=1))
        worker.wait(lambda: all(workspace.committed(name) == 180 for name in models))
        wait_until(lambda: not worker.events("server_lost") or worker.events("server_back"))
        assert worker.leave() == 0


def test_a_server_that_hangs_delays_the_end_once_and_not_once_per_model(
    workspace: Workspace,
) -> None:
    # Given a worker with many models that have something to commit
    names_ = names(12)
    late: dict[str, Any] = {"commit": {"every": "1d"}, "publish": {"every": "1d"}}
    with proxy_before(workspace.url) as proxy:
        behind = Workspace(workspace.folder, proxy.url, workspace.namespace)
        behind.write({name: kmeans(workspace.stream(name), **late) for name in names_})
        with workspace.client as client, WorkerProcess(behind) as worker:
            for name in names_:
                add_blocks(client, workspace.stream(name), blobs(90))
            worker.wait_for("model_published", len(names_))
            for name in names_:
                add_blocks(client, workspace.stream(name), blobs(90, seed=1))
            # When the server takes requests and answers none, and the worker is asked to leave
            proxy.hang()
            worker.send(signal.SIGTERM)
            assert worker.process.wait(60.0) == 0  # 12 models times 10 s would be more
