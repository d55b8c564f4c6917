"""A cluster whose nodes share the slots: streams in other slots than the model's keys."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamclust.client.ingest import ingest
from streamclust.errors import BusyError, ServerError, ServerUnreachableError
from streamclust.formats.model import encode_model
from streamclust.refit.command import Selection
from streamclust.refit.span import Span
from streamclust.store.model.code_writer import Written
from streamclust.store.model.inventory import take_inventory
from streamclust.store.model.keys import Keys
from streamclust.store.model.lease import Lease
from streamclust.store.model.rename import rename
from streamclust.store.server.connect import Address, Server, open_server, translate
from streamclust.tables import Chunk
from tests.support.acl import RULES
from tests.support.code_writer_fixture import CodeWriterFixture, RoundTrip
from tests.support.commits import take
from tests.support.encoder_fixture import model_of
from tests.support.fleet import Cluster, Node
from tests.support.fleet_workspace import FleetWorkspace, eager, feeding, learned_once
from tests.support.model_settings import kmeans
from tests.support.points import add_blocks, add_points, blobs
from tests.support.refit_helpers import EAGER, reasons, refit
from tests.support.servers import free_port
from tests.support.workers import WorkerProcess, WorkerThread, drain
from tests.support.workspace import run


@pytest.fixture
def server(cluster: Cluster) -> Iterator[Server]:
    with open_server(Address(cluster.url)) as found:
        yield found


@pytest.fixture
def workspace(tmp_path: Path, cluster: Cluster, namespace: str) -> FleetWorkspace:
    return FleetWorkspace(tmp_path, cluster.url, namespace)


@pytest.fixture
def streams(cluster: Cluster, workspace: FleetWorkspace) -> tuple[str, str]:
    """Two streams on the nodes where the model isn't."""
    elsewhere: dict[int, str] = {}
    for number in range(1000):
        stream = workspace.stream(str(number))
        elsewhere.setdefault(cluster.owner(stream), stream)
        if len(elsewhere) == 3:
            break
    del elsewhere[cluster.owner(workspace.keys("m").state)]
    return elsewhere[min(elsewhere)], elsewhere[max(elsewhere)]


# ---- the store


def test_streams_of_several_slots_are_read_at_once(
    server: Server, streams: tuple[str, str]
) -> None:
    client = server.client()
    for stream in streams:
        client.xadd(stream, {"x": 1}, id="5-1")
    reply: Any = client.xread(dict.fromkeys(streams, "0-0"), count=10, block=1000)
    assert {name.decode() for name, _ in reply} == set(streams)
    assert not client.xread(dict.fromkeys(streams, "5-1"), block=60)


@pytest.mark.parametrize("late", [0, 1])
def test_a_read_wakes_up_for_each_of_its_slots(
    server: Server, streams: tuple[str, str], late: int
) -> None:
    reader, writer = server.client(timeout=60.0), server.client()
    adds = threading.Timer(0.1, writer.xadd, (streams[late], {"x": "1"}))
    adds.start()
    began = time.monotonic()
    reply: Any = reader.xread(dict.fromkeys(streams, "0-0"), block=50_000)
    assert [name.decode() for name, _ in reply] == [streams[late]]
    assert time.monotonic() - began < 40.0  # it didn't sit out its time
    adds.join()


def test_replies_of_nodes_are_bounded_too(
    workspace: FleetWorkspace, streams: tuple[str, str]
) -> None:
    # Given two streams with an entry each that is larger than is read
    settings = {**eager(*streams), "encode": True}
    settings["batch"] = {**settings["batch"], "max_entry_bytes": 1 << 20}
    workspace.write({"m": settings})
    with workspace.client as client:
        for stream in streams:
            for n in (60, 30_000, 100_000, 60):
                add_blocks(client, stream, blobs(n), block=n)
    # When they are learned Then these are refused, unread, and all else is learned and encoded
    workspace.learn()
    assert workspace.newest("m").points == 2 * 30_120
    assert [letter[b"data"] for letter in workspace.dead("m")] == [b"", b""]
    with workspace.client as client:
        assert [client.xlen(workspace.keys("m").codes(stream)) for stream in streams] == [4, 4]


def test_a_pipeline_follows_its_slot(
    server: Server, cluster: Cluster, streams: tuple[str, str]
) -> None:
    # Given a client that knows where a stream is
    client, (stream, _) = server.client(), streams
    client.xadd(stream, {"x": 0})
    # When the stream moves to another node
    cluster.move(stream, (cluster.owner(stream) + 1) % 3)
    # Then commands of a pipeline arrive there, once and in order
    with translate(server.label):
        pipeline = client.pipeline(transaction=False)
        for number in (1, 2, 3):
            pipeline.execute_command("XADD", stream, "*", "x", number)  # type: ignore[no-untyped-call]
        pipeline.execute()
    entries: Any = client.xrange(stream)
    assert [fields[b"x"] for _, fields in entries] == [b"0", b"1", b"2", b"3"]


def test_a_node_taken_for_a_server_says_so(cluster: Cluster, streams: tuple[str, str]) -> None:
    other = cluster.nodes[(cluster.owner(streams[0]) + 1) % 3]
    with (
        open_server(Address(other.url)) as server,
        pytest.raises(ServerError, match=r"node of a cluster; give redis\.url as redis\+cluster"),
        translate(server.label),
    ):
        server.client().xadd(streams[0], {"x": 1})


def test_a_cluster_that_is_not_there() -> None:
    with pytest.raises(ServerUnreachableError, match=r"can't reach redis\+cluster://127"):
        open_server(Address(f"redis+cluster://127.0.0.1:{free_port()}"))


def test_a_server_taken_for_a_cluster_says_so(valkey_url: str) -> None:
    with pytest.raises(ServerError, match=r"[Cc]luster"):
        open_server(Address(valkey_url.replace("redis://", "redis+cluster://").rstrip("/0")))


# ---- the commands


def test_a_cluster_learns_what_one_server_learns(
    tmp_path: Path, workspace: FleetWorkspace, streams: tuple[str, str], valkey_url: str
) -> None:
    # Given the same two streams on a cluster and on one server
    single = FleetWorkspace(tmp_path / "single", valkey_url, workspace.namespace)
    single.folder.mkdir()
    for place in (workspace, single):
        place.write({"m": eager(*streams)})
        with place.client as client:
            for number, stream in enumerate(streams):
                add_points(client, stream, blobs(150, seed=number), first_id=1_000_000 + number)
        # When both are learned
        place.learn()
    # Then they leave the same, bit for bit: batches are cut by IDs, wherever the streams are
    assert workspace.state("m") == single.state("m")
    assert workspace.newest("m").points == 300


def test_ingest_status_watch_and_encode(
    workspace: FleetWorkspace, streams: tuple[str, str]
) -> None:
    stream = streams[0]
    workspace.write({"m": eager(stream)})
    points = workspace.folder / "points.csv"
    points.write_text("x,y\n" + "1,2\n3,4\n5,6\n" * 30)
    assert "90 points" in workspace.shows("ingest", str(points), "--stream", stream)
    workspace.learn()
    assert "kmeans 3x2" in workspace.shows("status")
    assert '"points": 90' in workspace.shows("watch", "m", "--json", "--count", "1")
    done = run(workspace.folder, "encode", "m", "--until-idle")
    assert done.returncode == 0, done.stderr
    with workspace.client as client:
        assert client.xlen(Keys(workspace.namespace, "m").codes()) == 90


def test_many_models_are_encoded_and_shown(
    workspace: FleetWorkspace, streams: tuple[str, str]
) -> None:
    # Given models whose keys and streams are in different slots
    names = [f"m-{number}" for number in range(12)]
    feeds = {name: streams[number % 2] + name for number, name in enumerate(names)}
    workspace.write({name: eager(stream) for name, stream in feeds.items()})
    with workspace.client as client:
        for name, stream in feeds.items():
            model = model_of(1)
            client.xadd(workspace.keys(name).models, {"payload": encode_model(model)}, id="1-0")
            add_points(client, stream, blobs(20))
        # When one process encodes all of them
        done = run(workspace.folder, "encode", "m-*", "--until-idle")
        assert done.returncode == 0, done.stderr
        for name in names:
            assert client.xlen(workspace.keys(name).codes()) == 20
    # Then `status` and `metrics` have all of them
    rows = json.loads(workspace.shows("status", "--json"))
    assert [row["model"] for row in rows] == sorted(names)
    assert {row["published"]["version"] for row in rows} == {1}
    assert workspace.shows("metrics").count("streamclust_version{") == 12


def test_encoders_take_turns_at_a_stream_of_another_slot(
    server: Server, namespace: str, streams: tuple[str, str]
) -> None:
    client, keys = server.client(), Keys(namespace, "m")
    works = CodeWriterFixture(server, client, keys, streams[0])
    works.add(1, 2, 3, 4, 5, 6)
    works.publish(take(client, keys), 1)
    one, two = works.encoder(), works.encoder()
    assert (one.takes().ids, two.takes().ids) == ([b"1-0", b"2-0"], [b"3-0", b"4-0"])
    # Who comes early writes nothing, and takes nothing more
    early = two.takes(b"3-0", b"4-0")
    assert (early.written, early.ids, works.codes) == ((None, "0-0"), [], [])
    in_turn = one.takes(b"1-0", b"2-0")
    assert in_turn == RoundTrip(Written(2, "0-0"), None, [b"5-0", b"6-0"], 1)
    assert two.writes(b"3-0", b"4-0") == 2
    # When entries were taken over and written since the read Then they are acknowledged, once more
    assert two.member.take_over(0)[0] == 2
    assert two.writes(b"5-0", b"6-0") == 2
    assert one.writes(b"5-0", b"6-0") == 0
    assert works.codes == [f"{number}-0" for number in range(1, 7)]
    assert works.pending == 0


def test_an_encoder_may_use_a_node_that_has_all_it_needs(cluster: Cluster, namespace: str) -> None:
    # Given the address of one node, as of a cluster that has no other
    keys = Keys(namespace, "m")
    node = cluster.owner(keys.codes())
    names = (f"{namespace}-{number}" for number in range(1000))
    stream = next(name for name in names if cluster.owner(name) == node)
    with open_server(Address(cluster.nodes[node].url)) as server:
        works = CodeWriterFixture(server, server.client(), keys, stream)
        works.add(1, 2, 3)
        one = works.encoder()
        one.takes()
        # Then slots are minded all the same
        assert one.takes(b"1-0", b"2-0") == RoundTrip(Written(2, "0-0"), None, [b"3-0"], None)
        assert works.codes == ["1-0", "2-0"]


def test_the_worker_encodes_streams_of_other_slots(
    workspace: FleetWorkspace, streams: tuple[str, str]
) -> None:
    workspace.write({"m": {**eager(*streams), "encode": True}})
    for seed in (0, 1):
        with workspace.client as client:
            for stream in streams:
                add_points(client, stream, blobs(90, seed=seed))
        drain(workspace)
    with workspace.client as client:
        for stream in streams:
            codes: Any = client.xrange(workspace.keys("m").codes(stream))
            points: Any = client.xrange(stream)
            assert [each for each, _ in codes] == [each for each, _ in points]


def test_what_a_user_needs_more_in_a_cluster(cluster: Cluster) -> None:
    user, extra = "streamclust-ingest", "+cluster|slots +cluster|myid +command"
    for node in cluster.nodes:
        with node.client as client:
            words = f"{RULES[user]} {extra}".split()
            client.execute_command("ACL", "SETUSER", user, "on", ">pw", *words)
    with open_server(Address(cluster.url, username=user, password="pw")) as server:
        points = Chunk(("x0", "x1"), blobs(9), None, 1)
        assert ingest(server.client(), "points", [points]).points == 9


# ---- faults


def test_keys_that_are_half_moved_are_waited_for(
    workspace: FleetWorkspace, cluster: Cluster, streams: tuple[str, str]
) -> None:
    # Given a model whose slot moves, and of whose keys only one has arrived
    stream, state = streams[0], workspace.keys("m").state
    workspace.write({"m": eager(stream)})
    with WorkerThread(workspace) as worker, workspace.client as client:
        add_blocks(client, stream, blobs(90))
        worker.wait(lambda: workspace.committed("m") == 90)
        with cluster.moving(state, (cluster.owner(state) + 1) % 3):
            # When there is something to commit Then it is tried again
            add_blocks(client, stream, blobs(90, seed=1))
            worker.wait_for("server_lost")
        # until all have
        worker.wait(lambda: workspace.committed("m") == 180)
    learned_once(workspace, stream)
    assert any(tried_again(node) for node in cluster.nodes)


def tried_again(node: Node) -> bool:
    with node.client as client:
        return "errorstat_TRYAGAIN" in client.info("errorstats")


def test_the_worker_follows_moved_slots_and_outlasts_a_cluster_that_is_down(
    workspace: FleetWorkspace, cluster: Cluster, streams: tuple[str, str]
) -> None:
    state = workspace.keys("m").state
    workspace.write({"m": eager(*streams)})
    with WorkerProcess(workspace) as worker:
        with feeding(workspace, *streams):
            worker.wait(lambda: workspace.committed("m") > 150)
            # When the slots of a stream and of the model move to other nodes
            for key in (streams[0], state):
                cluster.move(key, (cluster.owner(key) + 1) % 3)
                points = workspace.committed("m")
                # Then the worker finds them there
                worker.wait(lambda before=points: workspace.committed("m") > before + 150)
            assert not worker.events("server_lost")
        worker.wait(lambda: workspace.position("m") == workspace.last_ids(*streams))
        # When a node goes that has nothing of this, and takes the cluster down with it
        used = {cluster.owner(key) for key in (*streams, state)}
        bystander = next(node for n, node in enumerate(cluster.nodes) if n not in used)
        bystander.kill()
        worker.wait_for("server_lost")
        # Then the worker is back with the cluster
        bystander.start()
        worker.wait_for("server_back")
        cluster.wait_until_up()
        with feeding(workspace, *streams):
            points = workspace.committed("m")
            worker.wait(lambda: workspace.committed("m") > points + 150)
        worker.wait(lambda: workspace.position("m") == workspace.last_ids(*streams))
        assert worker.leave() == 0
    learned_once(workspace, *streams)


def test_a_refit_reads_streams_of_other_slots_and_goes_in(
    workspace: FleetWorkspace, streams: tuple[str, str]
) -> None:
    # Given a model of two streams, a refit that waits, and points that came since
    workspace.write({"m": kmeans(*streams, **EAGER)})
    with workspace.client as client:
        for stream in streams:
            add_points(client, stream, blobs(300))
        drain(workspace)
        client.set(workspace.keys("m").lease, "1:other", px=60_000)
        with pytest.raises(BusyError):
            refit(workspace, force=True, timeout=0.0)
        client.delete(workspace.keys("m").lease)
        for stream in streams:
            add_points(client, stream, blobs(90, seed=1))
        # When the next worker comes Then it takes the refit over and learns those on top
        drain(workspace)
        assert not client.exists(workspace.keys("m").proposal)
    assert reasons(workspace).count("refit") == 1
    assert workspace.newest("m").mass.sum() == pytest.approx(780, rel=1e-9)
    # and the next one is swapped in place, and leaves no lock
    report = refit(workspace, force=True, selection=Selection(Span(latest="100")))
    assert 100 <= report.points < 130
    assert report.delivered is not None
    assert workspace.newest("m").version == report.delivered.version
    with workspace.client as client:
        assert not client.exists(workspace.keys("m").refitting)


# ---- changes by hand


def test_a_model_is_renamed_to_a_name_on_another_node(
    workspace: FleetWorkspace, cluster: Cluster, streams: tuple[str, str]
) -> None:
    # Given a model with codes of two streams
    settings = kmeans(*streams, **EAGER, encode={"worker": True})
    workspace.write({"m": settings})
    with workspace.client as client:
        for stream in streams:
            add_points(client, stream, blobs(90))
    workspace.learn()
    here = cluster.owner(workspace.keys("m").state)
    names = (f"n{number}" for number in range(1000))
    name = next(each for each in names if cluster.owner(workspace.keys(each).state) != here)
    old, new = workspace.keys("m"), workspace.keys(name)

    def stored(keys: Keys) -> list[bytes | None]:
        with workspace.client as client:
            return [
                client.dump(key)
                for key in (*keys.learned, *(keys.codes(stream) for stream in streams))
            ]

    before = stored(old)
    # When it is renamed Then each byte is on the other node, and learning continues there
    workspace.shows("models", "rename", "m", name, "--yes")
    assert stored(new) == before
    with workspace.client as client:
        assert not client.exists(*old.fixed)
        assert not client.exists(new.lease)
        add_points(client, streams[0], blobs(30, seed=1))
    workspace.write({name: settings})
    workspace.learn()
    assert workspace.committed(name) == 210
    # and deleted there, with the groups on the nodes of its streams
    workspace.shows("models", "delete", name, "--yes")
    with workspace.client as client:
        assert not client.exists(*new.fixed)
        assert all(client.xinfo_groups(stream) == [] for stream in streams)


def test_a_copy_that_a_worker_or_an_encoder_outruns_is_taken_back(
    workspace: FleetWorkspace,
    server: Server,
    cluster: Cluster,
    streams: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workspace.write({"m": kmeans(streams[0], encode={"worker": True})})
    with workspace.client as client:
        add_points(client, streams[0], blobs(90))
    workspace.learn()
    old = workspace.keys("m")
    here = cluster.owner(old.state)
    names = (f"n{number}" for number in range(1000))
    name = next(each for each in names if cluster.owner(workspace.keys(each).state) != here)
    new, client = workspace.keys(name), server.client()
    found = take_inventory(client, old, [streams[0]])
    copy = type(client).restore

    def codes(*arguments: Any, **more: Any) -> Any:
        client.xadd(old.codes(), {"code": "1"})
        return copy(*arguments, **more)

    def lease(*arguments: Any, **more: Any) -> Any:
        client.delete(old.lease)
        assert Lease(client, old, 1.0).take()
        return copy(*arguments, **more)

    for interrupt in (codes, lease):
        state = client.get(old.state)
        monkeypatch.setattr(type(client), "restore", interrupt)
        with pytest.raises(BusyError, match="nothing was changed"):
            rename(client, old, new, found)
        monkeypatch.setattr(type(client), "restore", copy)
        assert client.get(old.state) == state
        assert not client.exists(*new.fixed)
        client.delete(old.lease)
    rename(client, old, new, take_inventory(client, old))
    assert client.get(new.state) == state


def test_a_dead_letter_is_requeued_to_another_node(
    workspace: FleetWorkspace, streams: tuple[str, str]
) -> None:
    workspace.write({"m": kmeans(streams[0])})
    with workspace.client as client:
        add_points(client, streams[0], blobs(90))
        client.xadd(streams[0], {"x0": "1"})
        workspace.learn()
        shown = workspace.shows("dead", "requeue", "m", "--yes")
        assert shown == "m: requeued 1 entry (1 dead letter)\n"
        found: Any = client.xrange(streams[0])
        assert [fields for _, fields in found[-2:]] == [{b"x0": b"1"}] * 2
        assert client.xlen(workspace.keys("m").dead) == 0
    assert "92 entries" in workspace.shows("peek", streams[0])
