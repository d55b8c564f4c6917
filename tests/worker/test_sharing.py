"""Sharing: each model has one holder soon, few models move, and none moves back and forth."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from streamclust.store.model.lease import LeaseValue
from streamclust.worker.sharing import Peer, Sharing
from tests.support.exhaustive import some

LEASE = 10.0
TICK = 1.0


@dataclass
class Simulated:
    """A worker of the simulation."""

    sharing: Sharing
    clock: float  # what its clock shows at the start; all clocks run equally fast
    due: float
    alive: bool = True
    paused_until: float = 0.0
    tokens: dict[str, int] = field(default_factory=dict)  # model -> token of its lease
    asleep: set[str] = field(default_factory=set)
    ends: dict[str, float] = field(default_factory=dict)  # sessions that end, for a hand-over
    tries: dict[str, float] = field(default_factory=dict)  # parked models -> time of the next try
    broken: set[str] = field(default_factory=set)  # models that fail here

    @property
    def id(self) -> str:
        return self.sharing.own_id


class World:
    """A server with leases and reports, and workers that share models. Its time is the server's."""

    def __init__(self, models: int, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311
        self.now = 0.0
        self.names = [f"m{number}" for number in range(models)]
        self.leases: dict[str, tuple[LeaseValue, float]] = {}
        self.tokens: Counter[str] = Counter()
        self.reports: dict[str, tuple[Peer, float]] = {}
        self.workers: list[Simulated] = []
        self.taken = 0

    def start(self, *, asleep: float = 0.5) -> Simulated:
        number = len(self.workers)
        sharing = Sharing(f"{number:x}", LEASE, models=len(self.names))
        clock = self.random.uniform(-1e6, 1e6)
        worker = Simulated(sharing, clock, self.now + self.random.uniform(0.0, TICK))
        worker.asleep = {name for name in self.names if self.random.random() < asleep}
        for name in self.names:
            sharing.wait(name, self.now + clock)
        self.workers.append(worker)
        return worker

    def kill(self, worker: Simulated) -> None:
        worker.alive = False

    def leave(self, worker: Simulated) -> None:
        """End a worker that returns its leases."""
        worker.alive = False
        for model, token in worker.tokens.items():
            if self.tokens[model] == token:
                self.leases.pop(model, None)
        self.reports.pop(worker.id, None)

    def pause(self, worker: Simulated, seconds: float) -> None:
        worker.paused_until = self.now + seconds

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            running = [w for w in self.workers if w.alive]
            worker = min(running, key=lambda w: max(w.due, w.paused_until), default=None)
            if worker is None or max(worker.due, worker.paused_until) > end:
                self.now = end
                return
            self.now = max(worker.due, worker.paused_until)
            self._tick(worker)
            worker.due = self.now + TICK * self.random.uniform(0.9, 1.1)

    # ---- the server

    def lease(self, model: str) -> LeaseValue | None:
        held, until = self.leases.get(model, (None, 0.0))
        return held if until > self.now else None

    def holder(self, model: str) -> Simulated | None:
        """Return the worker that may write a model."""
        writers = [w for w in self.workers if w.tokens.get(model, 0) == self.tokens[model] > 0]
        assert len(writers) <= 1
        return writers[0] if writers and writers[0].alive else None

    # ---- a worker

    def _tick(self, worker: Simulated) -> None:
        sharing, now = worker.sharing, self.now + worker.clock
        existed = self.reports.get(worker.id, (None, 0.0))[1] > self.now
        self._renew(worker, now, everything=not existed)
        self._end_sessions(worker, now)
        troubles = tuple(worker.tries)
        report = Peer(
            worker.id,
            sharing.held_models,
            sharing.waiting,
            sharing.avoids(now),
            sharing.offers(now),
            troubles,
        )
        self.reports[worker.id] = (report, self.now + LEASE)
        others = [r for r, until in self.reports.values() if until > self.now and r != report]
        sharing.update_workers([peer for peer in others if peer.id != worker.id], now)
        for model in sharing.to_look_at(now):
            sharing.update_lease(model, self.lease(model), now)
        for model, broken in sharing.to_take(now):
            self._take(worker, model, broken, now)
        for model in sharing.to_hand_over(now):
            worker.ends[model] = self.now + self.random.uniform(0.0, 1.0)

    def _take(self, worker: Simulated, model: str, broken: str, now: float) -> None:
        held = self.lease(model)
        if held is not None and held.value != broken and held.owner != worker.id:
            worker.sharing.update_lease(model, held, now)
            return
        self.taken += 1
        self.tokens[model] += 1
        worker.tokens[model] = self.tokens[model]
        worker.sharing.record_taken(model, now)
        self._write(worker, model)
        if model in worker.broken:
            del self.leases[model], worker.tokens[model]
            worker.sharing.record_failure(model, now)
            worker.sharing.record_end(model, now)
            worker.tries[model] = self.now + 5.0

    def _write(self, worker: Simulated, model: str) -> None:
        is_asleep = model in worker.asleep
        value = f"{worker.tokens[model]}:{worker.id}" + (":asleep" if is_asleep else "")
        seconds = 90.0 * LEASE if is_asleep else LEASE
        self.leases[model] = (LeaseValue(value, worker.id, is_asleep), self.now + seconds)

    def _renew(self, worker: Simulated, now: float, *, everything: bool) -> None:
        """Renew the leases of models that are awake; after a pause, look at those of all."""
        for model, token in list(worker.tokens.items()):
            if model in worker.asleep and not everything:
                continue
            if self.tokens[model] == token:
                self._write(worker, model)
            else:
                del worker.tokens[model]
                worker.ends.pop(model, None)
                worker.sharing.record_end(model, now)
                worker.sharing.wait(model, now)

    def _end_sessions(self, worker: Simulated, now: float) -> None:
        for model in [m for m, at in worker.ends.items() if at <= self.now]:
            del worker.ends[model]
            if self.tokens[model] == worker.tokens.pop(model):
                self.leases.pop(model, None)
            worker.sharing.record_end(model, now)
            worker.sharing.wait(model, now)
        for model in [m for m, at in worker.tries.items() if at <= self.now]:
            del worker.tries[model]
            worker.sharing.wait(model, now)

    # ---- what must be true

    def counts(self) -> Counter[str]:
        """Return the number of models of each worker; each model must have one."""
        found: Counter[str] = Counter()
        for model in self.names:
            holder = self.holder(model)
            assert holder is not None, f"nobody holds {model}"
            assert holder.paused_until <= self.now, f"a paused worker holds {model}"
            found[holder.id] += 1
        return found

    def moving(self) -> int:
        """Return the number of models that are being handed over."""
        return sum(len(worker.ends) for worker in self.workers)

    def is_balanced(self) -> bool:
        counts, alive = self.counts(), sum(worker.alive for worker in self.workers)
        return max(counts.values()) <= -(-len(self.names) // alive)


def test_one_model_stays_with_its_worker() -> None:
    world = World(1, seed=1)
    first = world.start()
    world.run(5.0)
    second = world.start()
    world.run(200.0)
    assert world.holder("m0") is first
    assert world.taken == 1
    world.leave(first)
    world.run(3 * TICK)
    assert world.holder("m0") is second


def test_a_first_worker_takes_all_models_at_once() -> None:
    world = World(1000, seed=2)
    first = world.start()
    world.run(TICK)
    assert world.counts() == {first.id: 1000}


def test_a_worker_that_comes_gets_its_share_and_no_more_moves() -> None:
    world = World(300, seed=3)
    world.start()
    world.run(30.0)
    world.start()
    world.run(60.0)
    assert sorted(world.counts().values()) == [150, 150]
    assert world.taken == 300 + 150
    world.start()
    world.run(60.0)
    assert sorted(world.counts().values()) == [100, 100, 100]
    assert world.taken == 300 + 150 + 100
    # and then nothing moves
    world.run(600.0)
    assert world.taken == 300 + 150 + 100


@pytest.mark.parametrize("asleep", [0.0, 1.0])
def test_models_of_a_worker_that_dies_are_taken_within_two_leases(asleep: float) -> None:
    world = World(300, seed=4)
    workers = [world.start(asleep=asleep) for _ in range(3)]
    world.run(120.0)
    before, taken = world.counts(), world.taken
    world.kill(workers[1])
    world.run(2 * LEASE)
    assert world.is_balanced()
    assert world.taken - taken == before[workers[1].id]


def test_no_more_than_a_few_models_move_at_a_time() -> None:
    world = World(1000, seed=5)
    first = world.start()
    world.run(30.0)
    world.start()
    while world.moving() == 0:
        world.run(TICK)
    for _ in range(300):
        assert world.moving() <= 20
        world.run(TICK / 2)
    assert world.is_balanced()
    assert first.sharing.held_models == 500


def test_a_model_that_fails_in_its_best_worker_goes_to_another() -> None:
    world = World(20, seed=6)
    workers = [world.start() for _ in range(2)]
    world.run(60.0)
    bad = world.start()
    bad.broken = set(world.names)
    world.run(300.0)
    # Then the others keep all models, and don't hand them to it again and again
    assert world.counts()[bad.id] == 0
    assert world.taken <= 20 + 10 + 3 * 20
    assert all(worker.sharing.held_models >= 7 for worker in workers)


def test_a_worker_that_is_paused_finds_its_models_gone() -> None:
    world = World(100, seed=7)
    first, second = world.start(), world.start()
    world.run(60.0)
    world.pause(first, 60.0)
    world.run(2 * LEASE + TICK)
    assert world.counts() == {second.id: 100}
    world.run(120.0)
    assert sorted(world.counts().values()) == [50, 50]


def test_a_server_that_loses_the_reports_moves_nothing() -> None:
    world = World(100, seed=8)
    for _ in range(3):
        world.start()
    world.run(120.0)
    taken = world.taken
    world.reports.clear()
    world.run(60.0)
    assert world.taken == taken


def test_a_worker_that_does_not_share_takes_what_is_free() -> None:
    sharing = Sharing("a", LEASE, shares=False, models=1)
    sharing.wait("m", 0.0)
    sharing.update_workers([Peer("b")], 0.0)
    assert [take.model for take in sharing.to_take(0.0)] == ["m"]
    sharing.update_lease("m", LeaseValue("7:c", "c", asleep=False), 0.0)
    assert not sharing.to_take(1.0)
    sharing.update_lease("m", None, 2.0)
    assert [take.model for take in sharing.to_take(2.0)] == ["m"]


def test_no_model_is_handed_to_a_worker_that_does_not_wait_for_it() -> None:
    # Given a worker with too many models, and one whose models wait for a server that is away
    sharing = Sharing("a", LEASE, models=10)
    for number in range(10):
        sharing.wait(f"m{number}", 0.0)
        sharing.record_taken(f"m{number}", 0.0)
    sharing.update_workers([Peer("b")], 0.0)
    assert not sharing.to_hand_over(2 * LEASE)
    # When it waits for them
    sharing.update_workers([Peer("b", waiting=10)], 2 * LEASE)
    first = sharing.to_hand_over(2 * LEASE)
    assert len(first) == 5
    # and doesn't take them Then they stay where they are, and are not handed over again and again
    for model in first:
        sharing.record_end(model, 2 * LEASE)
        sharing.wait(model, 2 * LEASE)
        sharing.record_taken(model, 2.5 * LEASE)
    second = sharing.to_hand_over(3 * LEASE)
    assert len(second) == 5
    assert not set(first) & set(second)


@pytest.mark.parametrize("seed", some(range(20), *range(8)))
def test_whatever_happens_each_model_has_one_worker_soon(seed: int) -> None:
    # Given workers that come, go, die and are paused at random
    world = World(random.Random(seed).choice([1, 2, 7, 60]), seed)  # noqa: S311
    world.start()
    for _ in range(30):
        alive = [worker for worker in world.workers if worker.alive]
        worker = world.random.choice(alive) if alive else None
        event = world.random.random()
        if worker is None or (event < 0.35 and len(alive) < 5):
            world.start(asleep=world.random.random())
        elif event < 0.5:
            world.kill(worker)
        elif event < 0.65:
            world.leave(worker)
        elif event < 0.9:
            world.pause(worker, world.random.uniform(0.0, 4 * LEASE))
        elif event < 0.95:
            world.reports.clear()
        world.run(world.random.uniform(0.0, 2 * LEASE))
    if not any(worker.alive for worker in world.workers):
        world.start()
    # When nothing happens any more
    world.run(4 * LEASE + 2 * LEASE)  # a pause ends, and then two leases
    world.counts()
    world.run(10 * LEASE)
    # Then each model has one worker, no worker has more than its share, and nothing moves
    assert world.is_balanced()
    taken = world.taken
    world.run(20 * LEASE)
    assert world.taken == taken
