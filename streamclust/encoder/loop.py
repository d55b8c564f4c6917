"""One encoder of one stream: read a share, give it codes, write and acknowledge it in its turn.

Codes are worked out side by side and written in the order of the stream. While it is an encoder's
turn, each round trip writes one share and brings the next. Whatever goes wrong, the way back is the
same: read again, from the oldest on, what this encoder has and has not finished.
Entries and codes of a session belong to one history of the server's data, so that no codes are
written of entries that the next primary doesn't have.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import redis

from streamclust.encoder.coding import Coded, Coder, too_large
from streamclust.failpoints import passing
from streamclust.runtime.activity import Activity
from streamclust.runtime.assemble import points_format
from streamclust.runtime.backoff import Patience
from streamclust.runtime.job import Job as ModelJob
from streamclust.runtime.log import warn_of_less
from streamclust.store.code_writer import open_code_writer
from streamclust.store.faults import passes
from streamclust.store.gaps import gap_words
from streamclust.store.group import Delivery, GroupMember, member_name
from streamclust.store.read_size import ReadSize
from streamclust.store.streams import order
from streamclust.store.subscription import newer, newest_but, read_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamclust.store.code_writer import CodeBatch, Written
    from streamclust.store.connect import Server
    from streamclust.store.gaps import Gap
    from streamclust.store.published import Model

_BLOCK_MS = 250
"""How long a read may wait for entries, so that a request to stop is seen."""

_SHARE = 1024
"""Entries taken at a time, at most: the first one's code waits for the last one's."""

_TURN_MS = 100
"""How long to wait for another's codes before looking whether that encoder still lives."""

_LOOK_SECONDS = 1.0
"""Time between looks whether the model was begun anew, and so has lower versions."""

_LOOK_BYTES = 1 << 18
"""A look brings the newest version whole. So it comes a second later for each such part of it,"""

_LONGEST_LOOK = 10.0
"""and at the latest after so many seconds."""

_FORGOTTEN = 10
"""Without a sign for so many times `takeover`, an encoder that has nothing unfinished is removed
from the group."""

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
    activity : Activity
        Where the loop records its progress.
    """

    stream: str
    key: str
    activity: Activity = field(default_factory=Activity)


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
    share = min(job.model.batch.least, _SHARE)
    size = ReadSize(most=share, on_less=warn_of_less(job.log))
    while not job.stop.is_set():
        job.activity.moved()
        try:
            with (
                job.server.session() as server,
                _encoder(job, server, tally, name, size) as encoder,
            ):
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
def _encoder(
    job: Job, server: Server, tally: Tally, name: str, size: ReadSize
) -> Iterator[_Encoder]:
    """Hand back in the end what isn't finished, unless the same encoder goes on in a moment."""
    encoder, goes_on = _Encoder(job, server, tally, name, size), False
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

    def __init__(self, job: Job, server: Server, tally: Tally, name: str, size: ReadSize) -> None:
        self._job = job
        settings = job.model
        self._client = server.client()
        self._largest = settings.batch.max_entry_bytes
        reader = server.raw_client(self._largest)
        self._member = GroupMember(reader, job.stream, job.keys.encoders, size, name)
        self._writer = open_code_writer(
            self._client, self._member, job.keys, job.key, settings.encode.keep
        )
        spec = points_format(settings.points)
        encode = settings.encode
        self._coder = Coder(spec, encode.top, encode.labels, job.stream, settings.scale)
        self._takeover_ms = int(settings.encode.takeover * 1000)
        self._model: Model | None = None
        self._held = Delivery()  # read together with the last write
        self._behind = True
        self._said = self._looked = time.monotonic()
        self._look_due = self._looked + _LOOK_SECONDS  # for a model that was begun anew
        self.tally = tally

    def work(self, patience: Patience) -> bool:
        """Encode; say whether all is done."""
        start = self._job.model.start
        self._member.join(_START.get(start, start))
        self._member.remove_dead(_FORGOTTEN * self._takeover_ms)
        while self._held or not self._job.stop.is_set():
            self._job.activity.moved()
            if self._model is None:
                self._wait_for_model()
                continue
            if time.monotonic() >= self._look_due:
                self._look(self._model)
            if self._behind:
                self._catch_up(self._model)
            elif self._go_on(self._model) and self._nothing_left():
                return True
            patience.going_well()
            self._say()
        return False

    def leave(self) -> None:
        """Hand back what isn't finished."""
        with suppress(redis.RedisError):
            self._member.leave()

    def _wait_for_model(self) -> None:
        """Wait for the first version."""
        client, keys = self._client, self._job.keys
        if self._job.until_idle:
            read_model(client, keys)  # says what is missing
        self._follow(newer(client, keys, 0))
        if self._model is None:
            self._job.log.info("waiting for the first version of the model")
        while self._model is None and not self._job.stop.is_set():
            self._job.activity.moved()
            client.xread({keys.models: "0-0"}, count=1, block=_BLOCK_MS)
            self._follow(newer(client, keys, 0))
        if self._model is not None:
            self._job.log.info("encoding", version=self._model.version, codes=self._job.key)

    def _follow(self, found: Model | None) -> None:
        before = self._model
        if found is None or found is before:
            return
        if before is not None and found.replaces(before):
            self._job.log.warning(
                "another model has this name now: it was begun anew, or the server lost versions",
                version=found.version,
                before=before.version,
            )
        self._coder.use(found)
        self._model, self.tally.version = found, found.version

    def _look(self, model: Model) -> None:
        """Look whether the newest version is a lower one, of a model that was begun anew."""
        found = newest_but(self._client, self._job.keys, model)
        if found is not None and (found.version > model.version or found.replaces(model)):
            self._follow(found)
        model = self._model or model
        size = sum(array.nbytes for array in model.family.to_arrays(model.params).values())
        pause = min(_LOOK_SECONDS + size / _LOOK_BYTES, _LONGEST_LOOK)
        self._look_due = time.monotonic() + pause

    def _catch_up(self, model: Model) -> None:
        """Finish the oldest of what this encoder has and has not finished, if there is any."""
        own = self._member.read_own()
        self._behind = bool(own)
        if own:
            delivery = self._member.unbroken(own)
            model = newer(self._client, self._job.keys, model.version) or model
            self._follow(model)
            coded, share = self._coded(delivery, model)
            if self._settle(share, coded, self._writer.write(share)):
                self._count_gone(len(delivery.gone))

    def _go_on(self, model: Model) -> bool:
        """Write what is in hand, and read what comes next; say whether nothing is there to do."""
        coded, share = self._coded(self._held, model)
        self._held = Delivery()
        if self._job.stop.is_set():
            if share:
                self._settle(share, coded, self._writer.write(share))
            return False
        waits = _TURN_MS if self._job.until_idle else _BLOCK_MS
        settle = partial(self._settle, share, coded)
        answer = self._writer.write_and_read(share, settle, model.version, waits)
        self._follow(answer.model)
        self._tell_gap(answer.gap)
        if not self._behind:
            self._behind = answer.delivery is None
            self._held = answer.delivery or self._held
        return not (self._held or self._behind)

    def _coded(self, delivery: Delivery, model: Model) -> tuple[Coded, CodeBatch]:
        """Return the codes of entries, and what is to be written and acknowledged."""
        passing("coding")
        if delivery.too_large:
            coded = self._coder.refuse(delivery.ids[0], too_large(self._largest), model)
        elif delivery.entries:
            coded = self._coder(delivery.entries, model)
        else:
            coded = Coded([], 0, 0)
        if not delivery.gone:
            return coded, coded.entries
        gone: list[tuple[bytes, list[bytes]]] = [(entry_id, []) for entry_id in delivery.gone]
        return coded, sorted([*coded.entries, *gone], key=lambda entry: order(entry[0]))

    def _settle(self, share: CodeBatch, coded: Coded, written: Written) -> bool:
        """See to it that a share is written when its turn has come, and count it.

        False if the wait for it was broken off; it is to be read again.
        """
        while written.entries is None:
            if not self._turn_may_come(written.last):
                self._behind = True
                return False
            written = self._writer.write(share)
        self._count(written.entries, coded)
        return True

    def _turn_may_come(self, last: str) -> bool:
        """Wait for codes after `last`.

        False if the wait was broken off: by a request to stop, or because entries were taken over
        that come first.
        """
        self._job.activity.moved()
        if self._job.stop.is_set():
            return False
        news: Any = self._client.xread({self._job.key: last}, count=1, block=_TURN_MS)
        if not news:
            self._member.keep()
            return not self._take_over()
        return True

    def _tell_gap(self, gap: Gap | None) -> None:
        if gap is not None:
            self.tally.gone += gap.entries or 0
            self.tally.unknown_gaps += gap.entries is None
            event, told = gap_words(gap)
            self._job.log.warning(event, after=gap.after, **told)

    def _count(self, written: int, coded: Coded) -> None:
        tally = self.tally
        tally.entries += written
        tally.repeated += len(coded.entries) - written
        if written:
            tally.points += coded.points
            tally.bad += coded.bad

    def _count_gone(self, gone: int) -> None:
        if gone:
            self.tally.gone += gone
            self._job.log.warning("gap: entries were gone before they had codes", count=gone)

    def _take_over(self) -> bool:
        """Take what a dead encoder has left; say whether there was anything.

        Dead encoders that have nothing left are removed from the group.
        """
        taken, gone = self._member.take_over(self._takeover_ms)
        self._member.remove_dead(_FORGOTTEN * self._takeover_ms)
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
