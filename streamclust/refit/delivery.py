"""Delivery of a refit: it is proposed to the model's worker, or adopted here if no worker runs."""

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
from streamclust.formats.codecs.common import show
from streamclust.formats.model import SWAPS
from streamclust.refit.retries import Retries
from streamclust.runtime.activity import Activity
from streamclust.runtime.assemble import load_checkpoint, make_family
from streamclust.store.model.lease import Lease
from streamclust.store.model.pause import read_pause
from streamclust.store.model.proposal import new_id, proposal_id, propose, withdraw
from streamclust.store.model.state import read_state
from streamclust.store.model.versions import follow
from streamclust.store.stream.info import any_after
from streamclust.worker.context import ModelContext
from streamclust.worker.heartbeat import Heartbeat, Heartbeats, period
from streamclust.worker.model_life import returned_at_end
from streamclust.worker.model_worker import open_model_worker
from streamclust.worker.swap import open_swap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamclust.formats.checkpoint import Checkpoint
    from streamclust.models.scaling import Scaling
    from streamclust.refit.runs import SearchResult
    from streamclust.runtime.job import Job
    from streamclust.store.model.keys import Keys

_LOCK_SECONDS = 30.0
"""Lifetime of the lock against other refits. It matters if a refit is killed."""

_POLL_SECONDS = 0.1
"""Seconds between checks whether the worker has adopted the refit."""


@dataclass(frozen=True)
class Handover:
    """How a refit was delivered.

    Parameters
    ----------
    version : int or None
        The version that was published with the refit; None if the refit waits.
    by_worker : bool
        Whether a running worker has adopted the refit; else this process has adopted it.
    waits : bool
        Whether the refit is stored until the model is resumed, because the model is paused.
    """

    version: int | None
    by_worker: bool
    waits: bool = False


def load(job: Job, client: redis.Redis) -> Checkpoint:
    """Return the committed state of the model.

    Raises
    ------
    UnknownModelError
        If no worker has created the model yet.
    FormatError
        If the settings contradict the state.
    """
    stored = read_state(client, job.keys)
    if stored is None:
        raise UnknownModelError(
            f"model {job.name!r} has no state in namespace {job.keys.namespace!r}; start "
            "`streamclust worker` first"
        )
    return load_checkpoint(stored.state, job.model, f"key {job.keys.state}", stored.coreset)


@contextmanager
def refit_lock(
    client: redis.Redis, keys: Keys, has_progress: Callable[[], bool] = lambda: True
) -> Iterator[None]:
    """Prevent other refits of the model during the block, while `has_progress` returns True.

    Raises
    ------
    BusyError
        If another refit is running.
    """
    lock = client.lock(keys.refitting, timeout=_LOCK_SECONDS, blocking=False, thread_local=False)
    token = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    if not lock.acquire(token=token):
        holder: Any = client.get(keys.refitting) or b"unknown:unknown:"
        host, *rest = holder.decode(errors="backslashreplace").rsplit(":", 2)
        if len(rest) < 2:
            raise BusyError(
                f"key {keys.refitting} holds {show(holder)}, which no refit wrote; delete the key"
            )
        pid = rest[0]
        raise BusyError(
            f"another refit of {keys.model!r} is running (process {pid} on {host}); wait until it "
            f"ends, or {_LOCK_SECONDS:.0f} s if it was killed"
        )
    done = threading.Event()
    renewing = threading.Thread(
        target=_renew, args=(lock, done, has_progress), name="lock", daemon=True
    )
    renewing.start()
    try:
        yield
    finally:
        done.set()
        renewing.join()
        with _faults_ignored():
            lock.release()


def _renew(lock: Any, done: threading.Event, has_progress: Callable[[], bool]) -> None:
    while not done.wait(_LOCK_SECONDS / 3.0):
        with _faults_ignored():
            if has_progress():
                lock.reacquire()


@contextmanager
def _faults_ignored() -> Iterator[None]:
    """Ignore faults of the lock: the commit protects the model, and the lock expires by itself."""
    with suppress(redis.RedisError, LockError, OSError):
        yield


def checkpoint_of(
    result: SearchResult, checkpoint: Checkpoint, scaling: Scaling | None, *, at_position: bool
) -> Checkpoint:
    """Return the proposal of a refit.

    Parameters
    ----------
    result : SearchResult
    checkpoint : Checkpoint
        The model's checkpoint when the refit started.
    scaling : Scaling or None
        The scales of the refit's points.
    at_position : bool
        Whether the refit's points end at the position of `checkpoint`, so that the worker can
        learn the later points after it has adopted the refit.
    """
    before, live = checkpoint.learner, checkpoint.learner.stats
    # The maximum mass of the refit: that of the model, or of its warm-up sample.
    mass = float(before.warm_up.w.sum()) if live is None else live.mass
    learner = replace(
        before,
        params=result.params,
        stats=result.stats,
        averaging=replace(before.averaging, average=None),
        components=replace(before.components, peak_total=mass),
        scaling=scaling,
        scores=None,  # the worker scores its coreset under the new parameters
        feature_distribution=None,  # the worker keeps its own
    )
    position = checkpoint.position if at_position else {}
    return replace(checkpoint, learner=learner, position=position, refit=new_id())


def deliver(
    job: Job, refit: Checkpoint, timeout: float, stop: Callable[[], bool] = lambda: False
) -> Handover:
    """Propose a refit, and wait until the worker has adopted it; without a worker, adopt it here.

    If the worker is killed meanwhile, the refit is adopted here when the lease has expired. If the
    model is paused, the refit is only proposed.

    Raises
    ------
    BusyError
        If the worker hasn't answered after `timeout` seconds; the proposal stays.
    StoppedError
        If the user stopped the wait; the proposal is withdrawn.
    """
    client, retries = job.server.client(), Retries(job, stop)
    retries.do(lambda: propose(client, job.keys, refit, make_family(job.model)))
    deadline, by_worker = time.monotonic() + timeout, True
    while retries.do(lambda: proposal_id(client, job.keys)) == refit.refit:
        if stop() and withdraw(client, job.keys, refit.refit):
            raise StoppedError("interrupted: the refit was withdrawn, nothing was changed")
        if retries.do(lambda: read_pause(client, job.keys)) is not None:
            return Handover(None, by_worker=False, waits=True)
        if time.monotonic() > deadline:
            raise BusyError(
                f"the worker of {job.name!r} has not adopted the refit within {timeout:g} s; the "
                f"refit stays in {job.keys.proposal}, and the next worker will adopt it"
            )
        try:
            by_worker = not retries.do(lambda: swap_in_place(job))
        except LeaseLostError:  # a worker took the lease meanwhile, and will adopt the refit
            by_worker = True
        if by_worker:
            time.sleep(_POLL_SECONDS)
    version = retries.do(lambda: _version(job, client, refit))
    return Handover(version, by_worker)


def _version(job: Job, client: redis.Redis, refit: Checkpoint) -> int:
    """Return the version that was published with the refit."""
    if load(job, client).refit == refit.refit:
        for model in follow(client, job.keys, refit.version):
            if model.reason in SWAPS:
                return model.version
    raise BusyError(f"the worker of {job.name!r} refused the refit; its log has the reason")


def swap_in_place(job: Job) -> bool:
    """Adopt the proposed refit in this process; return False if a worker has the model.

    Parameters
    ----------
    job : Job
        Its server must be a session; see `Server.session`.

    Raises
    ------
    StreamclustError
        If the contents of the server don't fit the settings.
    LeaseLostError
        If a worker has taken the lease meanwhile.
    """
    settings, client, activity = job.settings.worker, job.server.client(), Activity()
    with returned_at_end(Lease(client, job.keys, float(settings.lease))) as lease:
        if not lease.take():
            return False
        reader = job.server.raw_client(job.model.batch.max_entry_bytes)
        worker = open_model_worker(
            ModelContext(
                *(job.name, job.model, client, job.keys, job.log), reader=reader, activity=activity
            ),
            lease.token,
        )
        heart = Heartbeat(
            client,
            job.keys,
            lease,
            float(settings.health_ttl),
            lambda: worker.progress,
            activity=activity,
            stall=float(settings.stall),
            entries_wait=lambda client: any_after(client, worker.committed.position),
            failure=str,
            log=job.log,
        )
        seconds = period(float(settings.lease), float(settings.health_ttl))
        with Heartbeats(seconds) as heartbeats, heartbeats.beating(heart):
            open_swap(job, activity, job.stop.is_set).adopt_proposal(worker)
    return True
