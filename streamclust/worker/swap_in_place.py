"""Adopts a refit where no worker has the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamclust.runtime.activity import Activity
from streamclust.store.model.lease import Lease
from streamclust.store.stream.info import any_after
from streamclust.worker.context import ModelContext
from streamclust.worker.heartbeat import Heartbeat, Heartbeats, period
from streamclust.worker.model_life import returned
from streamclust.worker.model_worker import open_model_worker
from streamclust.worker.session import open_swap

if TYPE_CHECKING:
    from streamclust.runtime.job import Job


def swap_in_place(job: Job) -> bool:
    """Adopt the proposed refit where no worker has the model; return False if a worker has it.

    Parameters
    ----------
    job : Job
        Its server is a session.

    Raises
    ------
    StreamclustError
        If the contents of the server don't fit the settings.
    LeaseLostError
        If a worker took the model over meanwhile.
    """
    settings, client, activity = job.settings.worker, job.server.client(), Activity()
    with returned(Lease(client, job.keys, float(settings.lease))) as lease:
        if not lease.take():
            return False
        context = ModelContext(job.name, job.model, client, job.keys, job.log)
        reader = job.server.raw_client(job.model.batch.max_entry_bytes)
        worker = open_model_worker(context, lease.token, reader=reader, activity=activity)
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
