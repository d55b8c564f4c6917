"""Decides which models a worker takes and hands over. It has no I/O, no clock and no threads.

Workers with the same models share them without a coordinator. Each worker decides for itself, from
the reports of the others; the lease of a model decides between two workers that want the same one.

* A worker's **share** is the number of models divided by the number of workers, rounded up. A
  worker hands over only what exceeds its share. So a model stays where it is until a worker comes
  or goes, and one model with two workers has a holder and a standby.
* The workers with room below their share are **ranked** for each model by a hash of both names
  (rendezvous hashing). The first takes a free model at once. The others follow one after another,
  each after a wait, so that a model is never without a worker for long.
* A worker hands over a limited number of models at a time.

All times are of one clock that never goes back.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from streamclust.store.model.lease import LeaseValue

_AT_ONCE = 128
"""Maximum leases to read at once while nothing indicates that one of them is free."""

_MOVES, _MOVES_OF = 8, 50
"""A worker hands over a 50th of its models at a time, at least 8."""

_FORGET = 100.0
"""The end of a worker is forgotten after this many lease times."""

_KEEP = 10.0
"""A model that was handed over, but that no other worker took, stays for this many lease times."""

_AVOID = 600.0
"""Seconds for which a model that has failed counts against a worker's share. Otherwise the others
would hand model after model to a worker in which all of them fail."""


class Peer(NamedTuple):
    """Another live worker.

    Parameters
    ----------
    id : str
    held : int
        Models that it holds.
    waiting : int
        Models that wait there for their lease.
    avoids : int
        Models that have failed in it recently.
    offers : collection of str
        Models that it has handed over just now.
    troubles : collection of str
        Models that fail in it.
    shares : bool
        Whether it has the same models.
    """

    id: str
    held: int = 0
    waiting: int = 0
    avoids: int = 0
    offers: Collection[str] = ()
    troubles: Collection[str] = ()
    shares: bool = True

    def room(self, share: int) -> int:
        """Return how many more models it would take."""
        return max(min(share - self.held - self.avoids, self.waiting), 0)


class Take(NamedTuple):
    """A lease to take.

    Parameters
    ----------
    model : str
    broken : str
        The value of a lease that is taken before it expires; empty without one.
    """

    model: str
    broken: str = ""


@dataclass(eq=False)
class _Waiting:
    """A model that waits for its lease."""

    is_own: bool = False  # this worker held it until a fault
    free: float | None = None  # since when its lease can be taken
    broken: str = ""
    hot_until: float = -math.inf  # its lease is looked at often


def rendezvous_hash(worker: str, model: str) -> int:
    """Return a hash that ranks the workers for a model: the largest hash comes first."""
    digest = blake2b(f"{worker} {model}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


@dataclass(eq=False)
class Sharing:
    """The models that wait for their lease, and the models that this worker holds.

    Parameters
    ----------
    own_id : str
        ID of this worker.
    lease : float
        Seconds that a lease lasts.
    shares : bool, default=True
        Whether the worker shares its models. Otherwise it takes each model that is free, and hands
        nothing over.

    Attributes
    ----------
    models : int
        Number of models of this worker, and of those with which it shares them.
    blind : bool
        Whether the workers can't see each other. Then each takes what is free.
    """

    own_id: str
    lease: float
    shares: bool = True
    models: int = 0
    blind: bool = False
    _waiting: dict[str, _Waiting] = field(default_factory=dict)
    # The models that wait since the last `to_take`
    _new_models: dict[str, None] = field(default_factory=dict)
    _hot: dict[str, None] = field(default_factory=dict)  # models whose leases are, or may be, free
    _taken_models: dict[str, None] = field(default_factory=dict)
    _leaving: dict[str, None] = field(default_factory=dict)
    _offered: dict[str, float] = field(default_factory=dict)  # -> when it was handed over
    _taken_back: dict[str, float] = field(default_factory=dict)  # -> when this worker took it back
    _failed: dict[str, float] = field(default_factory=dict)
    _live: dict[str, Peer] = field(default_factory=dict)
    _peers: list[Peer] = field(default_factory=list)  # the live workers with the same models
    _absent: dict[str, float] = field(default_factory=dict)  # worker -> since when
    _changed: float = -math.inf  # when a worker came or went
    _missing: int = 0
    _hurry: float = -math.inf  # until then all leases are looked at often
    _next_look: float = -math.inf
    _round: Iterator[str] = field(default_factory=lambda: iter(()))

    # ---- events of this worker's models

    def wait(self, model: str, now: float, *, was_held: bool = False) -> None:
        """Let a model wait for its lease.

        Parameters
        ----------
        model : str
        now : float
        was_held : bool, default=False
            Whether this worker held the model until a fault that passes.
        """
        entry = self._waiting[model] = _Waiting(is_own=was_held)
        self._new_models[model] = None
        if model in self._offered:
            self._heat(model, entry, now)

    def record_taken(self, model: str, now: float) -> None:
        """Record that the lease of a model was taken."""
        self._forget(model)
        if self._offered.pop(model, None) is not None:
            self._taken_back[model] = now
        self._taken_models[model] = None

    def record_end(self, model: str, now: float) -> None:
        """Record that a model neither waits for its lease nor holds it any more."""
        self._forget(model)
        self._taken_models.pop(model, None)
        if model in self._leaving:
            del self._leaving[model]
            self._offered[model] = now

    def record_failure(self, model: str, now: float) -> None:
        """Record that a model has failed in this worker."""
        self._failed[model] = now

    @property
    def held_models(self) -> int:
        """Number of models that this worker holds."""
        return len(self._taken_models)

    @property
    def waiting(self) -> int:
        """Number of models that wait for their lease."""
        return len(self._waiting)

    def avoids(self, now: float) -> int:
        """Return the number of models that have failed here recently, and aren't held."""
        for model in [name for name, at in self._failed.items() if now - at > _AVOID]:
            del self._failed[model]
        return len(self._failed.keys() - self._taken_models.keys())

    def offers(self, now: float) -> tuple[str, ...]:
        """Return the models that were handed over and are not known to be taken."""
        self._offered = {m: at for m, at in self._offered.items() if now - at < self.lease}
        return tuple(self._offered)

    # ---- what is seen on the server

    def update_workers(self, others: Sequence[Peer], now: float) -> None:
        """Record the other live workers."""
        before = {peer.id for peer in self._peers}
        for worker in self._live:
            self._absent.setdefault(worker, now)
        self._live = {peer.id: peer for peer in others}
        self._absent = {
            worker: since
            for worker, since in self._absent.items()
            if worker not in self._live and now - since < _FORGET * self.lease
        }
        self._peers = [peer for peer in others if peer.shares] if self.shares else []
        for peer in self._peers:
            for model in peer.offers:
                if (entry := self._waiting.get(model)) is not None:
                    self._heat(model, entry, now)
        missing = self.models - self.held_models - sum(peer.held for peer in self._peers)
        has_changed = before != {peer.id for peer in self._peers}
        if has_changed:
            self._changed = now
        if has_changed or missing > self._missing:
            self._hurry, self._next_look = now + 2.0 * self.lease, now
        self._missing = missing

    def update_lease(self, model: str, value: LeaseValue | None, now: float) -> None:
        """Record the value of the lease of a model that waits; None if it doesn't exist."""
        entry = self._waiting.get(model)
        if entry is None:
            return
        is_free, entry.broken = value is None, ""
        if value is not None and value.owner == self.own_id:
            is_free = entry.is_own = True
        elif (
            value is not None and value.asleep and value.owner not in self._live and not self.blind
        ):
            since = self._absent.setdefault(value.owner, now)
            is_free, entry.broken = now - since >= self.lease / 2.0, value.value
            self._heat(model, entry, now)
        if is_free:
            entry.free = now if entry.free is None else entry.free
            self._hot[model] = None
        else:
            entry.free = None
            self._offered.pop(model, None)

    # ---- actions

    def to_look_at(self, now: float) -> list[str]:
        """Return the models whose leases are to be read now."""
        hurries = now < self._hurry or not self.shares or self.blind
        if now >= self._next_look and (hurries or self._missing > 0):
            self._next_look = now + (self.lease / 8.0 if hurries else 3.0 * self.lease)
            return [model for model in self._waiting if model not in self._new_models]
        next_models = list(islice(self._round, _AT_ONCE))
        if len(next_models) < _AT_ONCE:
            self._round = iter(list(self._waiting))
        return [
            model
            for model in dict.fromkeys([*next_models, *self._hot])
            if model in self._waiting and model not in self._new_models
        ]

    def to_take(self, now: float) -> list[Take]:
        """Return the leases to try now. The lease of a new model is tried without a read."""
        found: list[Take] = []
        room = self.share - self.held_models - self.avoids(now)
        for model in dict.fromkeys([*self._new_models, *self._hot]):
            entry = self._waiting[model]
            free = now if model in self._new_models else entry.free
            if free is None:
                if now >= entry.hot_until:
                    del self._hot[model]
            elif entry.is_own or now >= free + self._delay(model, room > len(found)):
                found.append(Take(model, entry.broken))
        self._new_models.clear()
        return found

    def to_hand_over(self, now: float) -> list[str]:
        """Return held models to hand over now; models for which its rank is lowest come first."""
        if not self._peers or now < self._changed + self.lease:
            return []
        share = self.share
        excess = self.held_models - len(self._leaving) - share
        room = sum(peer.room(share) for peer in self._peers)
        moving = len(self._leaving) + len(self.offers(now))
        number = min(excess, room - moving, max(_MOVES, self.models // _MOVES_OF) - moving)
        if number <= 0:
            return []
        keep = _KEEP * self.lease
        self._taken_back = {
            model: since for model, since in self._taken_back.items() if now < since + keep
        }
        troubled = {model for peer in self._peers for model in peer.troubles}
        stay = self._leaving.keys() | self._taken_back.keys() | troubled
        able = (model for model in self._taken_models if model not in stay)
        found = heapq.nsmallest(number, able, key=lambda model: rendezvous_hash(self.own_id, model))
        self._leaving |= dict.fromkeys(found)
        return found

    @property
    def new_models(self) -> list[str]:
        """Models that wait since the last call of `to_take`."""
        return list(self._new_models)

    @property
    def workers(self) -> int:
        """Number of live workers that share the models, with this one."""
        return 1 + len(self._peers)

    @property
    def share(self) -> int:
        """Number of models up to which this worker hands over none."""
        return -(-self.models // self.workers)

    def _delay(self, model: str, has_room: bool) -> float:
        """Return the seconds that this worker leaves a free model to others."""
        if not self._peers or self.blind:
            return 0.0
        share, own = self.share, rendezvous_hash(self.own_id, model)
        able = [peer for peer in self._peers if peer.room(share) and model not in peer.troubles]
        if has_room and model not in self._failed:
            before = sum(rendezvous_hash(peer.id, model) > own for peer in able)
        else:
            others = [peer for peer in self._peers if peer not in able]
            before = len(able) + sum(rendezvous_hash(peer.id, model) > own for peer in others)
        return before * self.lease / 4.0

    def _heat(self, model: str, entry: _Waiting, now: float) -> None:
        entry.hot_until = now + self.lease
        self._hot[model] = None

    def _forget(self, model: str) -> None:
        """Forget that a model waits."""
        self._waiting.pop(model, None)
        self._new_models.pop(model, None)
        self._hot.pop(model, None)
