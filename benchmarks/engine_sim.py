"""Simulate folds on 1 to 1,000 workers, some of which are slow or fail.

    python benchmarks/engine_sim.py [--part 0.25] [--read 0.02] [--slow 0.02] [--failures 3600]

One iteration of a refit is one fold over all parts. The simulator has the rules of the engine
(`streamclust/engine/deadlines.py`: deadlines, parts that are computed here, silent workers), a
server that is read by all workers, and a coordinator that submits, receives and merges one part at
a time. docs/internals/engine.md has the fitted costs, and compares the simulator with real runs.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
from collections import deque
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from page import table

from streamclust.engine.deadlines import Deadlines

WORKERS = (1, 2, 4, 10, 30, 100, 300, 1000)


@dataclass(frozen=True)
class Costs:
    """Seconds of each thing that a fold does with a part, and what goes wrong.

    Parameters
    ----------
    part : float
        Computing a part, in one thread.
    read : float
        The server's time for the points of a part; it serves one part after another.
    submit, receive : float
        The coordinator's time to send a task, and to receive its result.
    merge : float
        Adding the statistics of a part to the sum: proportional to K D^2 for full covariances.
    step : float
        The m-step and all else that happens once per iteration.
    latency : float
        From the coordinator to a worker, one way, through the scheduler.
    jitter : float
        Standard deviation of the logarithm of the computing time.
    slow, slowness : float
        Fraction of parts that take longer, and how many times longer.
    failures, restart : float
        Mean seconds until a worker fails, 0 for never; and until it is back.
    cores : int or None
        Cores that all workers share; None: each worker has its own.
    """

    part: float = 0.25
    read: float = 0.0
    submit: float = 0.0005
    receive: float = 0.0015
    merge: float = 0.0001
    step: float = 0.002
    latency: float = 0.002
    jitter: float = 0.05
    slow: float = 0.0
    slowness: float = 10.0
    failures: float = 0.0
    restart: float = 5.0
    cores: int | None = None


@dataclass(frozen=True)
class Outcome:
    """An average iteration: its seconds, and who computed its parts."""

    seconds: float
    by_workers: float
    here: float
    late: float
    failed: float


@dataclass
class Worker:
    """One thread of a worker: the parts that it holds, the first of which it computes."""

    held: deque[tuple[int, int]] = field(default_factory=deque)
    up: bool = True
    life: int = 0


class Simulation:
    """A coordinator, a server and workers; the clock moves from event to event."""

    def __init__(self, costs: Costs, workers: int, seed: int) -> None:
        self.costs = costs
        self.rng = random.Random(seed)  # noqa: S311
        self.workers = [Worker() for _ in range(workers)]
        self.deadlines = Deadlines(workers)
        self.now = 0.0
        self.counts = dict.fromkeys(("by_workers", "here", "late", "failed"), 0)
        self._events: list[tuple[float, int, str, Any]] = []
        self._number = 0
        self._server_free = 0.0
        self._waiting: deque[tuple[int, int]] = deque()
        self._arrived: deque[tuple[int, int]] = deque()
        self.suspects: dict[tuple[int, int], int] = {}
        self._by_load = [(0, index) for index in range(workers)]
        for index in range(workers):
            self._fail_later(index)

    def fold(self, iteration: int, parts: int) -> float:
        """Return the seconds of one fold and the step after it."""
        start, costs = self.now, self.costs
        todo, done, merged = deque(range(parts)), set[int](), 0
        while merged < parts:
            self._handle_events()
            while todo and self.deadlines.room > 0:
                self._submit((iteration, todo.popleft()))
            if self._arrived:
                part = self._arrived.popleft()
                self.now += costs.receive
                if self.deadlines.arrived(*part, self.now):
                    done.add(part[1])
                    self.counts["by_workers"] += 1
                else:
                    self.counts["late"] += 1
            elif (late := self.deadlines.overdue(iteration, self.now)) is not None:
                self._suspect((iteration, late))
                done.add(self._compute_here(late))
            elif todo and not self.deadlines.outstanding:
                done.add(self._compute_here(todo.popleft()))
            else:
                self._sleep(iteration)
            while merged in done:
                merged += 1
                self.now += costs.merge
        self.now += costs.step
        return self.now - start

    def _submit(self, part: tuple[int, int]) -> None:
        self.now += self.costs.submit
        self.deadlines.submitted(*part, self.now)
        self._at(self.now + self.costs.latency, "assign", part)

    def _compute_here(self, part: int) -> int:
        self.now += self.costs.part
        self.counts["here"] += 1
        return part

    def _suspect(self, part: tuple[int, int]) -> None:
        """Give no parts to the worker that holds a late one."""
        for index, worker in enumerate(self.workers):
            if part in worker.held:
                self.suspects[part] = index
                self.deadlines.slots = len(self.workers) - len(set(self.suspects.values()))
                self.deadlines.located(*part)

    def _sleep(self, iteration: int) -> None:
        times = [
            t
            for t in (self.deadlines.next(iteration), *(e[0] for e in self._events[:1]))
            if t is not None
        ]
        self.now = max(self.now, min(times))

    def _at(self, time: float, what: str, about: Any) -> None:
        self._number += 1
        heapq.heappush(self._events, (time, self._number, what, about))

    def _handle_events(self) -> None:
        while self._events and self._events[0][0] <= self.now:
            time, _, what, about = heapq.heappop(self._events)
            getattr(self, f"_{what}")(time, about)

    def _assign(self, time: float, part: tuple[int, int]) -> None:
        """Give a part to the worker that holds the fewest."""
        while self._by_load:
            held, index = heapq.heappop(self._by_load)
            worker = self.workers[index]
            if not worker.up or held != len(worker.held) or index in self.suspects.values():
                continue  # an entry from before the worker failed, or finished a part
            worker.held.append(part)
            heapq.heappush(self._by_load, (held + 1, index))
            if held == 0:
                self._begin(time, index)
            return
        self._waiting.append(part)

    def _begin(self, time: float, index: int) -> None:
        """Read the points of a part, then compute it."""
        costs, rng = self.costs, self.rng
        read = max(time, self._server_free) + costs.read
        self._server_free = read
        seconds = costs.part * rng.lognormvariate(0.0, costs.jitter)
        if rng.random() < costs.slow:
            seconds *= costs.slowness
        if costs.cores is not None:
            busy = sum(1 for worker in self.workers if worker.held and worker.up)
            seconds *= max(1.0, busy / costs.cores)
        self._at(read + seconds, "finish", (index, self.workers[index].life))

    def _finish(self, time: float, about: tuple[int, int]) -> None:
        index, life = about
        worker = self.workers[index]
        if worker.life != life:
            return  # it failed meanwhile
        part = worker.held.popleft()
        self._at(time + self.costs.latency, "deliver", part)
        if self.suspects.pop(part, None) is not None:
            self.deadlines.slots = len(self.workers) - len(set(self.suspects.values()))
        heapq.heappush(self._by_load, (len(worker.held), index))
        if worker.held:
            self._begin(time, index)

    def _deliver(self, time: float, part: tuple[int, int]) -> None:
        self._arrived.append(part)

    def _fail_later(self, index: int) -> None:
        if self.costs.failures:
            wait = self.rng.expovariate(1.0 / self.costs.failures)
            self._at(self.now + wait, "fail", index)

    def _fail(self, time: float, index: int) -> None:
        """Lose a worker; the scheduler gives its parts to others."""
        worker = self.workers[index]
        worker.up, worker.life = False, worker.life + 1
        self.counts["failed"] += 1
        parts = list(worker.held)
        worker.held.clear()
        for part in parts:
            self.suspects.pop(part, None)
            self._assign(time, part)
        self._at(time + self.costs.restart, "restart", index)

    def _restart(self, time: float, index: int) -> None:
        self.workers[index].up = True
        heapq.heappush(self._by_load, (0, index))
        waiting, self._waiting = self._waiting, deque()
        for part in waiting:
            self._assign(time, part)
        self._fail_later(index)


def simulate(costs: Costs, workers: int, parts: int, iterations: int, seed: int = 0) -> Outcome:
    """Return the average of some iterations."""
    simulation = Simulation(costs, workers, seed)
    seconds = sum(simulation.fold(iteration, parts) for iteration in range(iterations))
    averages = {name: count / iterations for name, count in simulation.counts.items()}
    return Outcome(seconds / iterations, **averages)


def row(costs: Costs, workers: int, parts: int, options: argparse.Namespace) -> dict[str, Any]:
    outcome = simulate(costs, workers, parts, options.iterations, options.seed)
    alone = parts * (costs.part + costs.read + costs.merge) + costs.step
    speedup = alone / outcome.seconds
    return {
        "workers": workers,
        "parts": parts,
        **asdict(outcome),
        "speedup": speedup,
        "efficiency": speedup / workers,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in asdict(Costs()).items():
        if name != "cores":
            parser.add_argument(f"--{name}", type=float, default=default, help="see Costs")
    parser.add_argument("--parts", type=int, default=0, help="0: ten per worker")
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", dest="as_json")
    options = parser.parse_args()
    names = [name for name in asdict(Costs()) if name != "cores"]
    costs = replace(Costs(), **{name: getattr(options, name) for name in names})
    rows = [row(costs, n, options.parts or 10 * n, options) for n in WORKERS]
    if options.as_json:
        print(json.dumps({"costs": asdict(costs), "rows": rows}))
        return
    header = ["workers", "parts", "s per iteration", "speedup", "efficiency", "parts here", "late"]
    cells = [
        [
            f"{r['workers']:,}",
            f"{r['parts']:,}",
            f"{r['seconds']:.3f}",
            f"{r['speedup']:.1f}x",
            f"{r['efficiency']:.0%}",
            f"{r['here']:.1f}",
            f"{r['late']:.1f}",
        ]
        for r in rows
    ]
    print(table(header, cells))


if __name__ == "__main__":
    main()
