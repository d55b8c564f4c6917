"""Folds on a Dask cluster whose network is cut for some seconds, in network namespaces.

    unshare --net python -m tests.support.cut_network FOLDER

This process and the coordinator are in one namespace, the scheduler is in a second one, and the
workers are in a third one. Two pairs of virtual devices connect them in a row. The process prints
what happened as JSON, for `tests/engine/test_cut_network.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from streamclust.engine import EStep, Inline, Part, Reader
from streamclust.engine.cut import cut_array
from streamclust.engine.dask import Dask
from tests.support.dask_cluster import DaskCluster
from tests.support.engines import bits, some_points, step_of
from tests.support.waiting import wait_until

NEAR, SCHEDULER_NEAR = "10.77.1.1", "10.77.1.2"
SCHEDULER_FAR, FAR = "10.77.2.1", "10.77.2.2"
PARTS, CUT_AT = 40, 20
"""More than an engine looks ahead, so that workers have answered before the cut."""


def unshared() -> list[str]:
    """Return the words that execute a command in a new network namespace."""
    users = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *users, "--net"]


def why_not() -> str:
    """Return why this machine can't make namespaces and virtual devices; empty if it can."""
    if missing := [name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None]:
        return f"{missing[0]} isn't installed (util-linux, iproute2)"
    make = ["ip", "link", "add", "veth-a", "type", "veth", "peer", "name", "veth-b"]
    tried = subprocess.run([*unshared(), *make], capture_output=True, text=True, check=False)
    return f"no network namespace: {tried.stderr.strip()}" if tried.returncode else ""


class Namespace:
    """A network namespace, which a process that sleeps keeps open."""

    def __init__(self, stack: ExitStack) -> None:
        own = Path("/proc/self/ns/net").readlink()
        words = ["unshare", "--net", "sleep", "600"]
        self._holder = stack.enter_context(subprocess.Popen(words, stdin=subprocess.DEVNULL))
        stack.callback(self._holder.kill)
        self.pid = str(self._holder.pid)
        wait_until(lambda: self.file.readlink() != own)
        self.run("link", "set", "lo", "up")

    @property
    def file(self) -> Path:
        """The file that stands for this namespace."""
        return Path(f"/proc/{self.pid}/ns/net")

    def run(self, *words: str) -> None:
        """Run `ip` in this namespace."""
        subprocess.run(["nsenter", f"--net={self.file}", "ip", *words], check=True)


@dataclass(frozen=True)
class Link:
    """A pair of virtual devices; the second one is in another namespace."""

    name: str
    other: Namespace

    def cut(self) -> None:
        """Lose all packets. No connection is closed."""
        self.other.run("link", "set", self.name, "down")

    def join(self) -> None:
        self.other.run("link", "set", self.name, "up")


def linked(name: str, one: Namespace | None, other: Namespace, addresses: tuple[str, str]) -> Link:
    """Connect two namespaces; None is the one of this process."""
    near, far = f"{name}-near", f"{name}-far"
    pair = ["link", "add", near, "type", "veth", "peer", "name", far, "netns", other.pid]
    for namespace, device, address in ((one, near, addresses[0]), (other, far, addresses[1])):
        run = namespace.run if namespace is not None else own
        if namespace is one:
            run(*pair)
        run("addr", "add", f"{address}/24", "dev", device)
        run("link", "set", device, "up")
    return Link(far, other)


def own(*words: str) -> None:
    """Run `ip` in the namespace of this process."""
    subprocess.run(["ip", *words], check=True)


@dataclass(frozen=True)
class Happened:
    """What happened around one cut.

    Parameters
    ----------
    same_bits : bool
        Whether the fold during the cut had the bits of `inline`.
    workers, here : int
        Parts of this fold by who computed them.
    used_again : bool
        Whether workers computed parts of a fold after the cut, with the same bits.
    """

    same_bits: bool
    workers: int
    here: int
    used_again: bool


def fold_and_cut(dask: Dask, link: Link, step: EStep, parts: list[Part]) -> Happened:
    """Cut a link during a fold, and join it after the fold."""
    expected = bits(Inline().fold(step, Reader(), parts))
    before = dask.counts.workers, dask.counts.here

    def disturbed() -> Iterator[tuple[int, Part]]:
        for number, part in enumerate(parts):
            if number == CUT_AT:
                link.cut()
            yield number, part

    whole = None
    for done in dask.map(step, Reader(), disturbed()):
        whole = done.value if whole is None else step.merge(whole, done.value)
    same = whole is not None and bits(whole) == expected
    counts = dask.counts.workers - before[0], dask.counts.here - before[1]
    link.join()
    used = 0

    def used_again() -> bool:
        nonlocal used
        at = dask.counts.workers
        assert bits(dask.fold(step, Reader(), parts)) == expected
        used = dask.counts.workers - at
        return used > 0

    wait_until(used_again)
    return Happened(same, *counts, used > 0)


def main(folder: Path) -> None:
    import distributed  # noqa: F401  (before the fork)

    with ExitStack() as stack:
        own("link", "set", "lo", "up")
        middle, far = Namespace(stack), Namespace(stack)
        links: list[Link] = [
            linked("client", None, middle, (NEAR, SCHEDULER_NEAR)),
            linked("worker", middle, far, (SCHEDULER_FAR, FAR)),
        ]
        anywhere = "0.0.0.0"  # noqa: S104  (nobody else is in there)
        cluster = DaskCluster(folder, host=anywhere, method="fork")
        stack.callback(cluster.__exit__)
        cluster.start_scheduler(middle.file)
        scheduler = cluster.address_at(SCHEDULER_FAR)
        for _ in range(2):
            cluster.start_worker(host=FAR, scheduler=scheduler, network=far.file)
        step = step_of("kmeans", some_points(60_000))
        parts = [part for k in range(PARTS) for part in cut_array(*some_points(500, k))]
        with Dask(cluster.address_at(SCHEDULER_NEAR)) as dask:
            wait_until(lambda: dask.connection.slots == 2)
            happened = [asdict(fold_and_cut(dask, link, step, parts)) for link in reversed(links)]
    sys.stdout.write(json.dumps(dict(zip(("workers", "scheduler"), happened, strict=True))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
