"""A round: workers are killed on a backlog; what remains is compared with one left in peace."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import redis

from tests.chaos.feed import MODELS, Feed
from tests.chaos.victim import Target, Victim
from tests.support.workspace import Workspace

_INSTANTS = ("loading", "reading", "computing", "committing", "half sent", "sent", "landed")


@dataclass(frozen=True)
class Plan:
    """When to kill a worker: where a thread is held, or when all is idle, or anywhere.

    Parameters
    ----------
    target : Target or None
    idle : bool
        Wait until there is nothing to do.
    delay : float
        Seconds from there on.
    """

    target: Target | None
    idle: bool
    delay: float

    def is_due(self, victim: Victim) -> bool:
        if self.target is None:
            return not self.idle
        if self.target.instant == "reading":  # and the model has learned what was read before
            return victim.board.held and victim.board.phase(self.target.model) == "reading"
        return victim.board.held


@dataclass
class Outcome:
    """What came of one round or of several.

    Parameters
    ----------
    phases : Counter
        (model, phase) -> kills that landed there.
    kills, points, dead, versions : int
    differences : list of str
        Empty when all is as without a disturbance.
    """

    phases: Counter[tuple[str, str]] = field(default_factory=Counter)
    kills: int = 0
    points: int = 0
    dead: int = 0
    versions: int = 0
    differences: list[str] = field(default_factory=list)


class Round:
    """One backlog, learned twice.

    Parameters
    ----------
    folder : Path
    url : str
        Of the server.
    seed, number : int
    """

    def __init__(self, folder: Path, url: str, seed: int, number: int) -> None:
        prefix = f"chaos-{seed}-{number}"
        self._feed = Feed(seed, number, prefix)
        self._rng = random.Random(f"{seed} {number}")  # noqa: S311
        self._killed = self._site(folder / "killed", url, f"{prefix}-killed")
        self._quiet = self._site(folder / "quiet", url, f"{prefix}-quiet")
        self._plans: list[Plan] = []
        self.outcome = Outcome()

    def _site(self, folder: Path, url: str, namespace: str) -> Workspace:
        folder.mkdir(parents=True)
        lease = {"lease": "2s", "health_ttl": "2s"}
        return Workspace(folder, url, namespace).write(self._feed.settings(), worker=lease)

    def run(self, kills: int, said: Callable[[], None] = lambda: None) -> Outcome:
        """Kill so many workers, and a few more on the last steps."""
        with self._killed.client as client:
            self._feed.extend(client)
            while self.outcome.kills < kills - 1:
                if self._kill(client, self._draw(), until_idle=False):
                    self._feed.extend(client)
                said()
            self._close(client)
            said()
            quiet = Victim(self._quiet.folder, until_idle=True)
            quiet.wait(quiet.exited)
            self._compare(client)
        return self.outcome

    def _kill(self, client: redis.Redis, plan: Plan, *, until_idle: bool) -> bool:
        """Start a worker and kill it; say whether it had come to the end of the backlog."""
        victim = Victim(self._killed.folder, plan.target, until_idle=until_idle)
        try:
            victim.wait(lambda: plan.is_due(victim) or (not until_idle and victim.board.idle))
            time.sleep(plan.delay)
        finally:
            killed = victim.kill()
        if not killed:  # it left by itself
            return True
        if plan.target and not victim.board.held:  # the end of the backlog came first
            self._plans.insert(0, plan)
        for model in MODELS:
            self.outcome.phases[model, victim.board.phase(model)] += 1
            # So that the next one need not wait for it to lapse; that it does is shown elsewhere.
            client.delete(self._killed.keys(model).lease)
        self.outcome.kills += 1
        return victim.board.idle and not until_idle

    def _draw(self) -> Plan:
        if not self._plans:
            self._plans = self._deck()
        return self._plans.pop(0)

    def _deck(self) -> list[Plan]:
        """Return plans that have each phase of each model, shuffled."""
        rng = self._rng
        deck = [Plan(None, idle=True, delay=0.0)]
        deck += [Plan(None, idle=False, delay=rng.uniform(0.001, 0.2)) for _ in range(4)]
        for instant in _INSTANTS:
            for model in MODELS:
                times = rng.randint(1, 1 if instant in ("loading", "reading") else 5)
                delay = rng.choice([0.0, rng.uniform(0.0, 0.004)])
                deck.append(Plan(Target(model, instant, times), idle=False, delay=delay))
        rng.shuffle(deck)
        return deck

    def _close(self, client: redis.Redis) -> None:
        """Kill each model's worker at its last commits, until nothing is left to commit.

        So the mirror lags when all is learned, and the worker that comes then has to mend it.
        """
        self._kill(client, Plan(None, idle=True, delay=0.0), until_idle=False)
        self._feed.extend(client, 60)
        for model in MODELS:
            for instant in cycle(("half sent", "sent", "landed")):
                plan = Plan(Target(model, instant, 1), idle=False, delay=0.001)
                if self._kill(client, plan, until_idle=True):
                    break

    def _compare(self, client: redis.Redis) -> None:
        for model in MODELS:
            killed, quiet = (_remains(client, s, model) for s in (self._killed, self._quiet))
            self._differ(model, killed, quiet)
            meta, _ = self._killed.state(model)
            learned, dead = int(meta["learner"]["points"]), int(meta["dead"])
            if (learned, dead) != (self._feed.good[model], self._feed.bad[model]):
                self._note(model, f"learned {learned} and refused {dead}", "what was fed")
            self.outcome.points += learned
            self.outcome.dead += dead
            self.outcome.versions += int(killed["versions"][-1][0].partition(b"-")[0])
            for stream in self._feed.streams(model):
                self._check_group(client, model, stream)

    def _differ(self, model: str, killed: dict[str, Any], quiet: dict[str, Any]) -> None:
        for name, found in killed.items():
            if found != quiet[name]:
                self._note(model, name, "that of the undisturbed worker")
            if not found:
                self._note(model, name, "anything")

    def _check_group(self, client: redis.Redis, model: str, stream: str) -> None:
        """The mirror is true, though nothing came after the last crash."""
        name = self._killed.keys(model).group.encode()
        groups: Any = client.xinfo_groups(stream)
        [group] = [each for each in groups if each["name"] == name]
        found = group["last-delivered-id"].decode(), group["pending"], group.get("lag", 0)
        if found != (self._killed.position(model)[stream], 0, 0):
            self._note(model, f"group of {stream}: {found}", "the committed position")

    def _note(self, model: str, what: str, expected: str) -> None:
        seed, number = self._feed.seed, self._feed.number
        self.outcome.differences.append(
            f"seed {seed}, round {number}, {model}: {what} is not {expected}"
        )


def _remains(client: redis.Redis, workspace: Workspace, model: str) -> dict[str, Any]:
    """Everything that must be the same to the last byte.

    Of a version's entry that is the ID and the payload: the field `time` is the wall clock's.
    """
    keys = workspace.keys(model)
    versions: Any = client.xrange(keys.models)
    return {
        "state": client.get(keys.state),
        "coreset": client.get(keys.coreset),
        "versions": [(entry_id, fields[b"payload"]) for entry_id, fields in versions],
        "dead letters": client.xrange(keys.dead),
    }
