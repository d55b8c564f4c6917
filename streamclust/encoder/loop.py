"""One encoder of one stream: read a batch, compute its codes, write and acknowledge it in its turn.

Encoders compute codes in parallel and write them in the order of the stream. During an encoder's
turn, each round trip writes the codes of one batch and reads the next batch. The recovery from
every fault is the same: read the entries that this encoder has not finished again, oldest first.
Entries and codes of a session belong to one history of the server's data, so that no codes are
written for entries that the next primary doesn't have.
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
from streamclust.runtime.backoff import Backoff
from streamclust.runtime.job import Job as ModelJob
from streamclust.runtime.log import warn_of_less
from streamclust.runtime.missing import missing_error
from streamclust.store.ids import order
from streamclust.store.model.code_writer import open_code_writer
from streamclust.store.model.versions import newer, newest_but, read_model
from streamclust.store.server.faults import passes
from streamclust.store.stream.gaps import gap_words
from streamclust.store.stream.group import Delivery, GroupMember, member_name
from streamclust.store.stream.names import missing_text
from streamclust.store.stream.read_size import ReadSize

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamclust.formats.lost import Gap
    from streamclust.formats.model import Model
    from streamclust.store.model.code_writer import CodeBatch, Written
    from streamclust.store.server.connect import Server

_BLOCK_MS = 250
"""Milliseconds that a read may wait for entries; then the loop checks for a request to stop."""

_SHARE = 1024
"""Maximum entries per read: the code of the first entry waits for that of the last one."""

_TURN_MS = 100
"""Milliseconds to wait for another encoder's codes before checking whether it is alive."""

_LOOK_SECONDS = 1.0
"""Seconds between checks whether the model was created again, and so has lower versions."""

_LOOK_BYTES = 1 << 18
"""A check reads the whole newest version. So its pause grows by one second per this many bytes."""

_LONGEST_LOOK = 10.0
"""Maximum seconds between two checks."""

_FORGOTTEN = 10
"""An encoder that has no unfinished entries and was inactive for this many times `takeover` is
removed from the group."""

_LOG_SECONDS = 10.0
"""Seconds between two log lines with the counts."""

_START = {"earliest": "0", "latest": "$"}


@dataclass(frozen=True)
class Job(ModelJob):
    """One stream of a model to encode.

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
    """The counts of one encoder.

    Parameters
    ----------
    stream : str
    entries : int
        Entries of codes that this encoder wrote.
    points : int
        Points with a code in these entries.
    bad : int
        Points without a code in these entries, because they can't be read.
    repeated : int
        Entries whose codes another encoder had written before.
    taken_over : int
        Entries that another encoder had left unfinished.
    gone : int
        Entries that were deleted or trimmed before they had codes.
    unknown_gaps : int
        Gaps whose number of entries the server could not report.
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
    """Encode one stream until the job stops or, with `until_idle`, all entries have codes.

    Raises
    ------
    StreamclustError
        If the server can't be used at all, or with `until_idle` if there is no model.
    """
    backoff = Backoff(job.server.label, job.stop, job.log)
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
                if encoder.work(backoff):
                    break
        except redis.RedisError as error:
            if str(error).startswith("NOGROUP"):
                job.log.warning("group_lost")
            else:
                backoff.wait(error)
    job.log.info("encoder_stopped", **asdict(tally))
    return tally


@contextmanager
def _encoder(
    job: Job, server: Server, tally: Tally, name: str, size: ReadSize
) -> Iterator[_Encoder]:
    """Return unfinished entries at the end, unless this encoder continues after a short fault."""
    encoder, continues = _Encoder(job, server, tally, name, size), False
    try:
        yield encoder
    except redis.RedisError as error:
        continues = passes(error)
        raise
    finally:
        if not continues:
            encoder.leave()


class _Encoder:
    """One session. Its knowledge of the server is not valid in the next session."""

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
        spec = points_format(settings)
        encode = settings.encode
        self._coder = Coder(spec, encode.top, encode.labels, job.stream, settings.scale)
        self._takeover_ms = int(settings.encode.takeover * 1000)
        self._model: Model | None = None
        self._held = Delivery()  # read together with the last write
        self._behind = True
        self._logged = self._looked = time.monotonic()
        self._look_due = self._looked + _LOOK_SECONDS  # for a model that was created again
        self.tally = tally

    def work(self, backoff: Backoff) -> bool:
        """Encode; return whether all entries have codes."""
        start = self._job.model.start
        self._check_stream()  # before the group creates the key of the stream
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
            elif self._write_and_read(self._model) and self._nothing_left():
                return True
            backoff.going_well()
            self._log_counts()
        return False

    def _check_stream(self) -> None:
        """Log a stream that doesn't exist yet; with `until_idle`, refuse it."""
        job = self._job
        if self._client.exists(job.stream):
            return
        if job.until_idle:
            raise missing_error(job, self._client, [job.stream])
        reason = f"{missing_text(job.stream, job.server.label)}; waiting"
        job.log.warning("stream_awaited", server=job.server.label, reason=reason)

    def leave(self) -> None:
        """Return unfinished entries to the group."""
        with suppress(redis.RedisError):
            self._member.leave()

    def _wait_for_model(self) -> None:
        """Wait for the first version."""
        client, keys = self._client, self._job.keys
        if self._job.until_idle:
            read_model(client, keys)  # raises an error that names what is missing
        self._follow(newer(client, keys, 0))
        if self._model is None:
            self._job.log.info("model_awaited")
        while self._model is None and not self._job.stop.is_set():
            self._job.activity.moved()
            client.xread({keys.models: "0-0"}, count=1, block=_BLOCK_MS)
            self._follow(newer(client, keys, 0))
        if self._model is not None:
            self._job.log.info("encoding_started", version=self._model.version, codes=self._job.key)

    def _follow(self, found: Model | None) -> None:
        before = self._model
        if found is None or found is before:
            return
        if before is not None and found.replaces(before):
            self._job.log.warning(
                "model_replaced", version=found.version, previous_version=before.version
            )
        self._coder.use(found)
        self._model, self.tally.version = found, found.version

    def _look(self, model: Model) -> None:
        """Check whether the newest version is a lower one, of a model that was created again."""
        found = newest_but(self._client, self._job.keys, model)
        if found is not None and (found.version > model.version or found.replaces(model)):
            self._follow(found)
        model = self._model or model
        size = sum(array.nbytes for array in model.family.to_arrays(model.params).values())
        pause = min(_LOOK_SECONDS + size / _LOOK_BYTES, _LONGEST_LOOK)
        self._look_due = time.monotonic() + pause

    def _catch_up(self, model: Model) -> None:
        """Finish the oldest unfinished entries of this encoder, if it has any."""
        own = self._member.read_own()
        self._behind = bool(own)
        if own:
            delivery = self._member.unbroken(own)
            model = newer(self._client, self._job.keys, model.version) or model
            self._follow(model)
            coded, share = self._coded(delivery, model)
            if self._settle(share, coded, self._writer.write(share)):
                self._count_gone(len(delivery.gone))

    def _write_and_read(self, model: Model) -> bool:
        """Write the codes in hand, read the next entries; return whether there is nothing to do."""
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
        self._count_gap(answer.gap)
        if not self._behind:
            self._behind = answer.delivery is None
            self._held = answer.delivery or self._held
        return not (self._held or self._behind)

    def _coded(self, delivery: Delivery, model: Model) -> tuple[Coded, CodeBatch]:
        """Return the codes of entries, and the entries to write and acknowledge."""
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
        """Write a batch of codes when its turn has come, and count it.

        Return False if the wait for the turn was interrupted: the entries are read again later.
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

        Return False if the wait was interrupted: by a request to stop, or because this encoder took
        over earlier entries.
        """
        self._job.activity.moved()
        if self._job.stop.is_set():
            return False
        news: Any = self._client.xread({self._job.key: last}, count=1, block=_TURN_MS)
        if not news:
            self._member.keep()
            return not self._take_over()
        return True

    def _count_gap(self, gap: Gap | None) -> None:
        if gap is not None:
            self.tally.gone += gap.entries or 0
            self.tally.unknown_gaps += gap.entries is None
            event, fields = gap_words(gap)
            self._job.log.warning(event, after=gap.after, **fields)

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
            self._job.log.warning("gap_detected", entries=gone)

    def _take_over(self) -> bool:
        """Take over the entries of a dead encoder; return whether there were any.

        Dead encoders without unfinished entries are removed from the group.
        """
        taken, gone = self._member.take_over(self._takeover_ms)
        self._member.remove_dead(_FORGOTTEN * self._takeover_ms)
        if taken:
            self.tally.taken_over += taken
            self._job.log.warning("entries_taken_over", entries=taken)
        self._count_gone(gone)
        return bool(taken or gone)

    def _nothing_left(self) -> bool:
        """Take over entries of dead encoders from time to time; return whether all is done."""
        if self._job.until_idle and self._member.idle:
            return True
        now = time.monotonic()
        if now - self._looked >= min(self._takeover_ms / 4000.0, 2.0):
            self._looked = now
            self._behind = self._take_over()
        return False

    def _log_counts(self) -> None:
        now = time.monotonic()
        if now - self._logged >= _LOG_SECONDS:
            self._logged = now
            self._job.log.info("entries_encoded", **asdict(self.tally))
