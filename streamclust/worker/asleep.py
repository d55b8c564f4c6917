"""Starts a session of a model without new entries, and doesn't load the model.

A worker that starts, or takes models over, may get thousands of models, and few of them have new
entries. Of each other model, the value of `:state` is read, but not decoded or kept in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import redis

from streamclust.errors import FormatError
from streamclust.formats.lost import Lost
from streamclust.runtime.assemble import load_outline, make_learner
from streamclust.store.ids import BEGINNING
from streamclust.store.model.pause import pause_command
from streamclust.store.model.proposal import proposal_command
from streamclust.store.server.round_trip import round_trip
from streamclust.store.stream.info import ends_at, has_entry_after, look_command
from streamclust.store.stream.position import mirror_command
from streamclust.store.stream.read_size import read_value
from streamclust.worker.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from streamclust.formats.checkpoint import Outline
    from streamclust.runtime.job import Job
    from streamclust.store.model.keys import Keys
    from streamclust.store.stream.news import StreamNews
    from streamclust.worker.lost_commits import LostCommits


class SleepingModel(NamedTuple):
    """A model that isn't in memory.

    Parameters
    ----------
    progress : Progress
    position : mapping of str to str
        Stream -> ID of the last entry that is learned.
    read : mapping of str to int or None
        Stream -> number of entries that it had up to this position; None if unknown.
    """

    progress: Progress
    position: Mapping[str, str]
    read: Mapping[str, int | None]

    @property
    def learned(self) -> dict[str, int]:
        """The number of points and the version, for the log."""
        return {"points": self.progress.points, "version": self.progress.version}


def watched(keys: Keys) -> tuple[str, ...]:
    """Return the keys of a model that sleeps, of which the server reports changes."""
    return keys.proposal, keys.token, keys.paused


def find_asleep(
    job: Job, lost_commits: LostCommits, news: StreamNews, wake: Callable[[], object]
) -> SleepingModel | None:
    """Return a model that has nothing to do, whose streams are watched; else None.

    Parameters
    ----------
    job : Job
        Its server is a session.
    lost_commits : LostCommits
    news : StreamNews
    wake : callable
        Called when the server reports a change of the model.

    Raises
    ------
    redis.RedisError
        If the server can't be reached.
    """
    keys, client, streams = job.keys, job.server.client(), job.model.streams
    found = _outline(job, client)
    if found is None or not _is_settled(found, streams, lost_commits):
        return None
    if not news.watch((*streams, *watched(keys)), wake):
        return None
    position, read, codes = found.covered.position, found.covered.read, []
    if job.model.encode.worker and found.version:
        codes = [keys.codes(None if len(streams) == 1 else stream) for stream in streams]
    mirrors = [mirror_command(keys.group, each, position[each], read.get(each)) for each in streams]
    replies = round_trip(
        client,
        [
            (keys.proposal, proposal_command(keys)),
            (keys.paused, pause_command(keys)),
            *((stream, look_command(stream)) for stream in streams),
            *((key, look_command(key)) for key in codes),
            # The previous worker may have died between a commit and its mirror.
            *zip(streams, mirrors, strict=True),
        ],
    )
    refit, pause, looks = *replies[:2], replies[2 : 2 + len(streams)]
    coded = replies[2 + len(streams) :][: len(codes)]
    if (
        refit is not None
        or pause is not None
        or any(isinstance(reply, Exception) for reply in replies)
    ):
        return None
    ends = [position[stream] for stream in streams]
    if any(has_entry_after(look, end) for look, end in zip(looks, ends, strict=True)):
        return None
    if not all(ends_at(look, end) for look, end in zip(coded, ends, strict=False)):
        return None
    return SleepingModel(_progress(job, found), position, read)


def find_paused(job: Job, client: redis.Redis) -> SleepingModel:
    """Return a model that a user has paused, from its state; the model isn't loaded or created."""
    found = _outline(job, client)
    if found is None:
        progress = Progress(
            "warming", points=0, dead=0, version=0, loss=None, lost=Lost(), drifts=0
        )
        return SleepingModel(progress, {}, {})
    return SleepingModel(_progress(job, found), found.covered.position, found.covered.read)


def _outline(job: Job, client: redis.Redis) -> Outline | None:
    """Return the outline of the state; None without a usable state, which the worker reports."""
    key = job.keys.state
    try:
        data: Any = read_value(client, key, lambda: client.get(key))
        return None if data is None else load_outline(data, job.model, f"key {key}")
    except (FormatError, redis.ResponseError):
        return None


def _is_settled(found: Outline, streams: Sequence[str], lost_commits: LostCommits) -> bool:
    """Return whether a model without new entries needs no thread."""
    position = found.covered.position
    if set(position) != set(streams) or BEGINNING in position.values():
        return False
    if (found.points, found.version) < (lost_commits.points, lost_commits.version):
        return False
    is_published = found.version > 0 and found.points == found.published_points
    return is_published or found.gathered is not None


def _progress(job: Job, found: Outline) -> Progress:
    gathered = found.gathered
    return Progress(
        phase="learning" if gathered is None else "warming",
        points=found.points,
        dead=found.dead,
        version=found.version,
        loss=None,
        lost=sum(found.covered.lost.values(), Lost()),
        drifts=found.drifts,
        missing=found.missing,
        gathered=gathered or 0,
        warm_up=0 if gathered is None else make_learner(job.model).warm_up_points,
    )
