"""One encoder of one stream: read a share, give it codes, wait for its turn, write, acknowledge.

Codes are worked out side by side and written in the order of the stream. Whatever goes wrong, the
way back is the same: read again, from the oldest on, what this encoder has and has not finished.
Entries and codes of a session belong to one history of the server's data, so that no codes are
written of entries that the next primary doesn't have.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import redis

from streamclust.encoder.coding import Coder, too_large
from streamclust.store.bounded import ReplyTooLargeError
from streamclust.store.codes import last_code, write_codes
from streamclust.store.faults import passes
from streamclust.store.gaps import gap_words
from streamclust.store.group import Delivery, GroupMember, member_name
from streamclust.store.streams import order
from streamclust.store.subscription import newer, read_model
from streamclust.worker.build import points_format
from streamclust.worker.model import Job as ModelJob
from streamclust.worker.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamclust.encoder.coding import Coded
    from streamclust.store.connect import Server
    from streamclust.store.published import Model

_BLOCK_MS = 250
"""How long a read may wait for entries, so that a request to stop is seen."""

_SHARE = 1024
"""Entries taken at a time, at most: the first one's code waits for the last one's."""

_TURN_MS = 100
"""How long to wait for another's codes before looking whether that encoder still lives."""

_SAY_SECONDS = 10.0
"""Time between two lines of the log that say how far it is."""

_START = {"earliest": "0", "latest": "$"}


@dataclass(frozen=True)
class Job(ModelJob):
    """What an encoder needs to know, beside what a worker does.

    Parameters
    ----------
    stream : str
        The stream of points.
    key : str
        The stream of codes.
    """

    stream: str
    key: str


@dataclass
class Tally:
    """What one encoder did.

    Parameters
    ----------
    stream : str
    entries : int
        Entries of codes that it wrote.
    points : int
        Points in them that have a code.
    bad : int
        Points in them that can't be read.
    repeated : int
        Entries whose codes another had written before it.
    taken_over : int
        Entries that another had left.
    gone : int
        Entries that were deleted or trimmed before they had codes.
    unknown_gaps : int
        How often entries were trimmed whose number the server didn't tell.
    version : int
        Newest version of the model that was used.
    """

    stream: str
    entries: int = 0
    points: int = 0
    bad: int = 0
    repeated: int = 0
    taken_over: int = 0
    gone: int = 0
    unknown_gaps: int = 0
    version: int = 0


def run_encoder(job: Job) -> Tally:
    """Encode one stream until the job says stop or, with `until_idle`, all is done.

    Raises
    ------
    StreamclustError
        If the server can't be used at all, or with `until_idle` if there is no model.
    """
    patience = Patience(job.server.label, job.stop, job.log)
    tally, name = Tally(job.stream), member_name()
    while not job.stop.is_set():
        try:
            with job.server.session() as server, _encoder(job, server, tally, name) as encoder:
                if encoder.work(patience):
                    break
        except redis.RedisError as error:
            if str(error).startswith("NOGROUP"):
                job.log.warning("the stream, or its group, was deleted; joining again")
            else:
                patience.wait(error)
    job.log.info("encoder leaves", **asdict(tally))
    return tally


@contextmanager
def _encoder(job: Job, server: Server, tally: Tally, name: str) -> Iterator[_Encoder]:
    """Hand back in the end what isn't finished, unless the same encoder goes on in a moment."""
    encoder, goes_on = _Encoder(job, server, tally, name), False
    try:
        yield encoder
    except redis.RedisError as error:
        goes_on = passes(error)
        raise
    finally:
        if not goes_on:
            encoder.leave()


class _Encoder:
    """One session: what it knows of the server is of no use in the next one."""

    def __init__(self, job: Job, server: Server, tally: Tally, name: str) -> None:
        self._job = job
        settings = job.model
        self._client = server.client()
        self._largest = settings.batch.max_entry_bytes
        reader = server.client(max_reply=self._largest)
        share = min(settings.batch.size, _SHARE)
        self._member = GroupMember(reader, job.stream, job.keys.encoders, share, name)
        spec = points_format(settings.points)
        self._coder = Coder(spec, settings.encode.top, settings.encode.labels)
        self._takeover_ms = int(settings.encode.takeover * 1000)
        self._model: Model | None = None
        self._last = "0-0"  # all up to here have codes; maybe later ones too
        self._behind = True
        self._said = self._looked = time.monotonic()
        self.tally = tally

    def work(self, patience: Patience) -> bool:
        """Encode; say whether all is done."""
        start = self._job.model.start
        self._member.join(_START.get(start, start))
        while not self._job.stop.is_set():
            if self._model is None and not self._model_is_there():
                continue
            delivery = self._next()
            patience.going_well()
            if delivery:
                self._finish(delivery)
                self._say()
            elif not self._behind and self._nothing_left():
                return True
        return False

    def leave(self) -> None:
        """Hand back what isn't finished."""
        with suppress(redis.RedisError):
            self._member.leave()

    def _model_is_there(self) -> bool:
        """Wait for the first version, if need be; say whether it came."""
        client, keys = self._client, self._job.keys
        if self._job.until_idle:
            read_model(client, keys)  # says what is missing
        elif not client.exists(keys.models):
            self._job.log.info("waiting for the first version of the model")
        while not self._job.stop.is_set():
            there: Any = client.xread({keys.models: "0-0"}, count=1, block=_BLOCK_MS)
            if there:
                model = self._newest_model()
                self._job.log.info("encoding", version=model.version, codes=self._job.key)
                return True
        return False

    def _newest_model(self) -> Model:
        known = 0 if self._model is None else self._model.version
        found = newer(self._client, self._job.keys, known)
        if found is not None:
            self._model, self.tally.version = found, found.version
        if self._model is None:
            raise AssertionError("nothing is read before there is a model")
        return self._model

    def _next(self) -> Delivery:
        """Return what this encoder has and has not finished, or else new entries."""
        if self._behind:
            own = self._member.read_own()
            self._behind = bool(own)
            if own:
                return self._member.unbroken(own)
        self._tell_gap()
        try:
            return self._member.read_new(_TURN_MS if self._job.until_idle else _BLOCK_MS)
        except ReplyTooLargeError:
            self._behind = True
            return Delivery([])

    def _tell_gap(self) -> None:
        if gap := self._member.missing():
            self.tally.gone += gap.entries or 0
            self.tally.unknown_gaps += gap.entries is None
            event, told = gap_words(gap)
            self._job.log.warning(event, after=gap.after, **told)

    def _finish(self, delivery: Delivery) -> None:
        """Write the codes of entries when their turn has come, and acknowledge them."""
        coded = self._coded(delivery)
        if not self._turn_comes(delivery.ids):
            self._behind = True
            return
        written = write_codes(
            self._client, self._job.key, coded.entries, self._job.model.encode.keep
        )
        self._member.done(delivery.ids)
        self._last = max(self._last, delivery.ids[-1].decode(), key=order)
        self._count(written, len(coded.entries) - written, coded.points, coded.bad)
        self._count_gone(len(delivery.gone))

    def _coded(self, delivery: Delivery) -> Coded:
        model = self._newest_model()
        if delivery.too_large:
            return self._coder.refuse(delivery.ids[0], too_large(self._largest), model)
        return self._coder(delivery.entries, model)

    def _count(self, written: int, repeated: int, points: int, bad: int) -> None:
        tally = self.tally
        tally.entries += written
        tally.repeated += repeated
        if written:
            tally.points += points
            tally.bad += bad

    def _count_gone(self, gone: int) -> None:
        if gone:
            self.tally.gone += gone
            self._job.log.warning("gap: entries were gone before they had codes", count=gone)

    def _turn_comes(self, ids: list[bytes]) -> bool:
        """Wait until all entries before these have codes.

        False if the wait was broken off: by a request to stop, or because entries were taken over
        that come first.
        """
        first = min(ids, key=order)
        while self._member.before(first, self._last):
            self._last = last_code(self._client, self._job.key)
            if not self._member.before(first, self._last):
                break
            if self._job.stop.is_set():
                return False
            news: Any = self._client.xread({self._job.key: self._last}, count=1, block=_TURN_MS)
            if not news:
                self._member.keep(ids)
                if self._take_over():
                    return False
        return True

    def _take_over(self) -> bool:
        """Take what a dead encoder has left; say whether there was anything."""
        taken, gone = self._member.take_over(self._takeover_ms)
        if taken:
            self.tally.taken_over += taken
            self._job.log.warning("took over what another encoder had left", entries=taken)
        self._count_gone(gone)
        return bool(taken or gone)

    def _nothing_left(self) -> bool:
        """Look after what others left, now and then; say whether to leave because all is done."""
        if self._job.until_idle and self._member.idle:
            return True
        now = time.monotonic()
        if now - self._looked >= min(self._takeover_ms / 4000.0, 2.0):
            self._looked = now
            self._behind = self._take_over()
        return False

    def _say(self) -> None:
        now = time.monotonic()
        if now - self._said >= _SAY_SECONDS:
            self._said = now
            self._job.log.info("encoded", **asdict(self.tally))
