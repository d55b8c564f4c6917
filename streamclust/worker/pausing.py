"""The pause of a model, in the worker that has the lease."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from streamclust.errors import LeaseLostError
from streamclust.runtime.activity import LOOP
from streamclust.runtime.scheduler import Wait
from streamclust.store.model.pause import read_pause
from streamclust.store.model.proposal import proposal_id
from streamclust.store.server.round_trip import round_trip
from streamclust.store.stream.info import StreamInfo, look_command, probed
from streamclust.times import iso_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import redis

    from streamclust.runtime.activity import Activity
    from streamclust.runtime.connections import SharedServer
    from streamclust.runtime.job import Job
    from streamclust.store.model.lease import Lease
    from streamclust.store.model.pause import Pause
    from streamclust.worker.asleep import SleepingModel
    from streamclust.worker.heartbeat import Heartbeat
    from streamclust.worker.model_run import ModelRun

_LOOK, _LOOK_PER_MODEL = 30.0, 0.1
"""Minimum seconds between two looks at the streams of a paused model; and per model of the worker.
"""

_POLL = 2.0
"""Seconds between two looks at the pause, where the server reports no changes."""


class PauseWatch:
    """Knows whether a user has paused a model, and waits for the end of the pause.

    The server reports changes of the key, and each beat of the heart reports whether the key
    exists. So a look without a report costs no round trip.

    Parameters
    ----------
    run : ModelRun
    server : SharedServer
    lease : Lease
    activity : Activity

    Attributes
    ----------
    pause : Pause or None
        The pause, as of the newest look.
    """

    def __init__(
        self, run: ModelRun, server: SharedServer, lease: Lease, activity: Activity
    ) -> None:
        self._run = run
        self._job: Job = run.job
        self._client = server.client()
        self._news = server.news
        self._lease = lease
        self._activity = activity
        self._may_have_changed = True
        self._is_watched = False
        self.pause: Pause | None = None

    def set_unpaused(self) -> None:
        """Record that the model isn't paused, and that another object watches the key."""
        self._may_have_changed, self.pause = False, None

    def report_change(self) -> None:
        """Record that the key may have changed; any thread may call this."""
        self._may_have_changed = True
        self._run.wake()

    def look(self, heart: Heartbeat | None = None, *, again: bool = False) -> Pause | None:
        """Return the pause; None if the model isn't paused.

        Parameters
        ----------
        heart : Heartbeat, optional
            The heart that beats for the model.
        again : bool, default=False
            Whether to read the key also without a report.
        """
        is_paused = self.pause is not None
        reported = is_paused if heart is None else heart.is_paused
        if again or self._may_have_changed or reported != is_paused:
            keys, self._may_have_changed = self._job.keys, False
            self._is_watched = self._news.watch([keys.paused], self.report_change)
            self.pause = read_pause(self._client, keys)
            if heart is not None:
                heart.is_paused = self.pause is not None
        return self.pause

    def wait(self, heart: Heartbeat, model: SleepingModel) -> Iterator[Wait]:
        """Wait until a user resumes the model; entries and refits don't end the wait."""
        run, job, shown = self._run, self._job, None
        run.parking.forget()
        self._news.forget(job.model.streams, run.wake)
        reported = set[str]()
        while not run.session_ends and (pause := self.look(heart, again=True)) is not None:
            if pause != shown:
                log_pause(run, pause, **model.learned)
                heart.sleep_paused(pause)
                shown = pause
            self._news.watch([job.keys.token], run.wake)
            heart.check()
            check_token(self._client.get(job.keys.token), self._lease)
            for stream, missing in trimmed(self._client, model.position, model.read).items():
                if stream not in reported:
                    reported.add(stream)
                    remedy = f"resume it: streamclust models resume {job.name}"
                    what = {"stream": stream, "entries": missing, "remedy": remedy}
                    job.log.warning("paused_stream_trimmed", **what)
            self._activity.ended(LOOP)
            seconds = max(_LOOK, _LOOK_PER_MODEL * len(run.shared.pool))
            yield Wait(time.monotonic() + (seconds if self._is_watched else _POLL))
            self._activity.record_progress()
        self._news.forget([job.keys.token], run.wake)
        if not run.session_ends:
            heart.wake_up()
            heart.check()
            heart.refit = heart.refit or bool(proposal_id(self._client, job.keys))
            job.log.info("model_resumed", **model.learned, after="pause")

    def close(self) -> None:
        """Receive no more reports."""
        self._news.forget([self._job.keys.paused], self.report_change)


def log_pause(run: ModelRun, pause: Pause, **learned: int) -> None:
    """Log that a model is paused: since when, and by whom."""
    since = iso_time(1000.0 * pause.since) if pause.since else None
    what: dict[str, Any] = {"since": since, "by": pause.by, **learned}
    what |= {"reason": pause.reason} if pause.reason else {}
    if run.job.until_idle:
        effect = "it isn't learned: --until-idle doesn't wait for the end of a pause"
        run.job.log.warning("model_paused", **what, effect=effect)
    else:
        run.log_often("model_paused", **what)


def check_token(token: Any, lease: Lease) -> None:
    """Compare the token on the server with the one of the lease.

    Raises
    ------
    LeaseLostError
        If it is another one.
    """
    if token != b"%d" % lease.token:
        raise LeaseLostError("another worker took the model over, or its keys were deleted")


def trimmed(
    client: redis.Redis, position: Mapping[str, str], read: Mapping[str, int | None]
) -> dict[str, int]:
    """Return how many entries were removed after the position of a model, by their streams.

    Streams without such entries, or with an unknown number of them, are left out.
    """
    replies = round_trip(client, [(stream, look_command(stream)) for stream in position])
    found = {}
    for (stream, end), reply in zip(position.items(), replies, strict=True):
        info = None if isinstance(reply, Exception) else probed(reply)
        before = read.get(stream)
        if isinstance(info, StreamInfo) and info.trimmed_past(end) and before is not None:
            missing = (info.removed or 0) - before
            if missing > 0:
                found[stream] = missing
    return found
