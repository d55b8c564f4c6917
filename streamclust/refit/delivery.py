"""From a refit to the live model: proposed to its worker, or swapped in place where none runs."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import redis
from redis.exceptions import LockError

from streamclust.errors import BusyError, LeaseLostError, StoppedError, UnknownModelError
from streamclust.refit.persistence import Persistence
from streamclust.runtime.assemble import load_checkpoint, make_family
from streamclust.store.codecs.common import show
from streamclust.store.proposal import new_id, propose, proposed, withdraw
from streamclust.store.published import SWAPS
from streamclust.store.read_size import read_value
from streamclust.store.subscription import follow
from streamclust.worker.session import swap_in_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamclust.models.scaling import Scaling
    from streamclust.refit.runs import SearchResult
    from streamclust.runtime.job import Job
    from streamclust.store.checkpoint import Checkpoint
    from streamclust.store.keys import Keys

_LOCK_SECONDS = 30.0
"""Life of the lock that keeps a second refit out, after the first one was killed."""

_GLANCE = 0.1
"""Seconds between looks at whether the worker has taken the refit over."""


@dataclass(frozen=True)
class Handover:
    """How a refit went in.

    Parameters
    ----------
    version : int
        The version that was published with it.
    by_worker : bool
        Whether a running worker took it over; else it was swapped in place.
    """

    version: int
    by_worker: bool


def load(job: Job, client: redis.Redis) -> Checkpoint:
    """Return the committed state of the model.

    Raises
    ------
    UnknownModelError
        If no worker has begun with it.
    FormatError
        If the settings contradict what it has learned.
    """
    state = job.keys.state
    data: Any = read_value(client, state, lambda: client.get(state))
    if data is None:
        raise UnknownModelError(
            f"model {job.name!r} has learned nothing yet in namespace {job.keys.namespace!r}; "
            "let `streamclust worker` begin with it first"
        )
    return load_checkpoint(data, job.model, f"key {job.keys.state}")


@contextmanager
def refit_lock(
    client: redis.Redis, keys: Keys, alive: Callable[[], bool] = lambda: True
) -> Iterator[None]:
    """Keep other refits of the model out for the block, as long as this one is `alive`.

    Raises
    ------
    BusyError
        If one is at work.
    """
    lock = client.lock(keys.refitting, timeout=_LOCK_SECONDS, blocking=False, thread_local=False)
    mine = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    if not lock.acquire(token=mine):
        holder: Any = client.get(keys.refitting) or b"unknown:unknown:"
        host, *rest = holder.decode(errors="backslashreplace").rsplit(":", 2)
        if len(rest) < 2:
            raise BusyError(
                f"key {keys.refitting} holds {show(holder)}, which no refit wrote; delete the key"
            )
        pid = rest[0]
        raise BusyError(
            f"another refit of {keys.model!r} is at work (process {pid} on {host}); wait for it, "
            f"or {_LOCK_SECONDS:.0f} s if it was killed"
        )
    done = threading.Event()
    renewing = threading.Thread(target=_renew, args=(lock, done, alive), name="lock", daemon=True)
    renewing.start()
    try:
        yield
    finally:
        done.set()
        renewing.join()
        with _faults_ignored():
            lock.release()


def _renew(lock: Any, done: threading.Event, alive: Callable[[], bool]) -> None:
    while not done.wait(_LOCK_SECONDS / 3.0):
        with _faults_ignored():
            if alive():
                lock.reacquire()


@contextmanager
def _faults_ignored() -> Iterator[None]:
    """Go on without the lock: the commit is what decides, and the lock lapses by itself."""
    with suppress(redis.RedisError, LockError, OSError):
        yield


def checkpoint_of(
    found: SearchResult, at: Checkpoint, scaling: Scaling | None, *, whole: bool
) -> Checkpoint:
    """Return the refit as it is proposed.

    Parameters
    ----------
    found : SearchResult
    at : Checkpoint
        Of the model, when the refit began.
    scaling : Scaling or None
        Of the points that it is of.
    whole : bool
        Whether the refit's data end where `at` does, so that the rest can be learned on top.
    """
    learner = replace(
        at.learner, params=found.params, stats=found.stats, average=None, scaling=scaling
    )
    return replace(at, learner=learner, position=at.position if whole else {}, refit=new_id())


def deliver(
    job: Job, refit: Checkpoint, timeout: float, stop: Callable[[], bool] = lambda: False
) -> Handover:
    """Propose a refit; return when the worker has taken it over, or do so where none runs.

    A worker that vanishes before it has is not waited for longer than its lease lasts.

    Raises
    ------
    BusyError
        If the worker hasn't answered after `timeout` seconds; the proposal stays for it.
    StoppedError
        If the user didn't want to wait; the proposal is withdrawn.
    """
    client, persistence = job.server.client(), Persistence(job, stop)
    persistence.do(lambda: propose(client, job.keys, refit, make_family(job.model)))
    deadline, by_worker = time.monotonic() + timeout, True
    while persistence.do(lambda: proposed(client, job.keys)) == refit.refit:
        if stop() and withdraw(client, job.keys, refit.refit):
            raise StoppedError("interrupted: the refit was withdrawn, nothing was changed")
        if time.monotonic() > deadline:
            raise BusyError(
                f"the worker of {job.name!r} has not taken the refit over within {timeout:g} s; "
                f"it stays in {job.keys.proposal} and goes in when a worker gets to it"
            )
        try:
            by_worker = not persistence.do(lambda: swap_in_place(job))
        except LeaseLostError:  # a worker came meanwhile, and will do it
            by_worker = True
        if by_worker:
            time.sleep(_GLANCE)
    version = persistence.do(lambda: _version(job, client, refit))
    return Handover(version, by_worker)


def _version(job: Job, client: redis.Redis, refit: Checkpoint) -> int:
    """Return the version that the refit was published with, if it was."""
    if load(job, client).refit == refit.refit:
        for model in follow(client, job.keys, refit.version):
            if model.reason in SWAPS:
                return model.version
    raise BusyError(f"the worker of {job.name!r} refused the refit; its log says why")
