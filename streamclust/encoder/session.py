"""One session of an encoder: read a batch, compute its codes, write and acknowledge it in its turn.

Encoders compute codes in parallel and write them in the order of the stream. During an encoder's
turn, each round trip writes the codes of one batch and reads the next batch. The recovery from
every fault is the same: read the unfinished entries of this encoder again, oldest first.
Entries and codes of a session belong to one history of the server's data, so that no codes are
written for entries that the next primary doesn't have.

The session is a generator. An encoder with its own thread waits in blocking reads, and yields
nothing. An encoder that shares threads yields what it waits for (`waits.EncoderWaits`).
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from streamclust.encoder.coding import Coded, Coder, too_large
from streamclust.failpoints import passing
from streamclust.runtime.missing import missing_error
from streamclust.store.ids import order
from streamclust.store.model.code_stream import Alerts
from streamclust.store.model.code_writer import open_code_writer
from streamclust.store.model.versions import newest_unless, read_model, read_newer
from streamclust.store.stream.gaps import gap_words
from streamclust.store.stream.group import Delivery, GroupMember
from streamclust.store.stream.names import missing_text

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from streamclust.encoder.job import Run
    from streamclust.encoder.waits import EncoderWaits
    from streamclust.formats.model import Model
    from streamclust.runtime.scheduler import Wait
    from streamclust.store.model.code_writer import Answer, CodeBatch, Written
    from streamclust.store.server.connect import Server

    Steps = Generator[Wait, None, bool]

T = TypeVar("T")

_BLOCK_MS = 250
"""Milliseconds that a read may wait for entries; then the loop checks for a request to stop."""

_TURN_MS = 100
"""Milliseconds to wait for another encoder's codes before checking whether it is alive."""

_LOOK_SECONDS = 1.0
"""Seconds between checks whether the model was created again, with lower versions."""

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


class EncoderSession:
    """One session. The next session starts without the data that this one has read.

    Parameters
    ----------
    run : Run
    server : Server
        A session.
    member : GroupMember
    waits : EncoderWaits or None
        Waits while other encoders use the thread; None if the encoder has its own thread.
    """

    def __init__(
        self, run: Run, server: Server, member: GroupMember, waits: EncoderWaits | None
    ) -> None:
        job = run.job
        self._job = job
        self._run = run
        self._waits = waits
        settings = job.model
        self._client = server.client()
        self._largest = settings.batch.max_entry_bytes
        self._member = member
        self._writer = open_code_writer(
            self._client, self._member, job.keys, job.key, settings.encode.keep
        )
        self._coder = self._new_coder()
        self._takeover_ms = int(settings.encode.takeover * 1000)
        self._model: Model | None = None
        self._unwritten = Delivery()  # read together with the last write
        self._behind = True
        self._logged = self._looked = time.monotonic()
        self._look_due = self._looked + _LOOK_SECONDS  # for a model that was created again
        self.tally = run.tally

    def work(self) -> Steps:
        """Encode; return whether all entries have codes. Without turns, never yield."""
        start = self._job.model.start
        self._check_stream()  # before the group creates the key of the stream
        self._member.join(_START.get(start, start))
        self._member.remove_dead(_FORGOTTEN * self._takeover_ms)
        while self._unwritten or not self._job.stop.is_set():
            self._job.activity.record_progress()
            if self._model is None:
                yield from self._wait_for_model()
                continue
            if time.monotonic() >= self._look_due and (
                self._waits is None or self._waits.versions_may_differ()
            ):
                self._look(self._model)
            self._behind = self._behind or self._has_claimed()
            if self._behind:
                yield from self._catch_up(self._model)
            elif (yield from self._write_and_read(self._model)) and self._nothing_left():
                return True
            self._run.record_success()
            now = time.monotonic()
            if now - self._logged >= _LOG_SECONDS:
                self._logged = now
                self._run.log_often("entries_encoded", **asdict(self.tally))
            yield from self._rest()
        return False

    def _rest(self) -> Iterator[Wait]:
        """Let other encoders run, or wait for entries, if this encoder shares threads."""
        waits = self._waits
        if waits is None:
            return
        is_idle = yield from waits.rest(busy=bool(self._unwritten or self._behind))
        if is_idle:
            self._model, self._coder = None, self._new_coder()  # frees memory
            self._run.log_often("encoder_asleep")
            yield from waits.sleep()

    def _new_coder(self) -> Coder:
        settings, stream = self._job.model, self._job.stream
        is_learned = stream in settings.streams
        return Coder.of(settings, stream, alerts=not (is_learned and settings.anomaly.worker))

    def _check_stream(self) -> None:
        """Log a stream that doesn't exist yet; with `until_idle`, refuse it."""
        job = self._job
        if self._client.exists(job.stream):
            return
        if job.until_idle:
            raise missing_error(job, self._client, [job.stream])
        reason = f"{missing_text(job.stream, job.server.label)}; waiting"
        job.log.warning("stream_awaited", server=job.server.label, reason=reason)

    def _wait_for_model(self) -> Iterator[Wait]:
        """Wait for the first version."""
        client, keys = self._client, self._job.keys
        if self._job.until_idle:
            read_model(client, keys)  # raises an error that names what is missing
        self._follow(read_newer(client, keys, 0))
        if self._model is None:
            self._job.log.info("model_awaited")
        while self._model is None and not self._job.stop.is_set():
            self._job.activity.record_progress()
            if self._waits is None:
                client.xread({keys.models: "0-0"}, count=1, block=_BLOCK_MS)
            else:
                yield from self._waits.wait_for(
                    keys.models, lambda: client.xread({keys.models: "0-0"}, count=1)
                )
            self._follow(read_newer(client, keys, 0))
        if self._model is not None:
            self._run.started(self._model.version)

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
        found = newest_unless(self._client, self._job.keys, model)
        if found is not None and (found.version > model.version or found.replaces(model)):
            self._follow(found)
        model = self._model or model
        size = sum(array.nbytes for array in model.family.to_arrays(model.params).values())
        pause = min(_LOOK_SECONDS + size / _LOOK_BYTES, _LONGEST_LOOK)
        self._look_due = time.monotonic() + pause

    def _catch_up(self, model: Model) -> Iterator[Wait]:
        """Finish the oldest unfinished entries of this encoder, if it has any."""
        own = self._member.read_own()
        self._behind = bool(own)
        if own:
            delivery = self._member.before_others(own)
            model = read_newer(self._client, self._job.keys, model.version) or model
            self._follow(model)
            coded, share = self._coded(delivery, model)
            if (yield from self._settle(share, coded, self._write(share, coded))):
                self._count_gone(len(delivery.gone))

    def _write_and_read(self, model: Model) -> Steps:
        """Write the codes of the last read, read the next entries; return whether all is done."""
        coded, share = self._coded(self._unwritten, model)
        self._unwritten = Delivery()
        if self._job.stop.is_set():
            if share:
                yield from self._settle(share, coded, self._write(share, coded))
            return False
        answer, written = self._round_trip(share, coded, model)
        self._follow(answer.model)
        if answer.gap is not None:
            self.tally.gone += answer.gap.entries or 0
            self.tally.unknown_gaps += answer.gap.entries is None
            event, fields = gap_words(answer.gap)
            self._job.log.warning(event, after=answer.gap.after, **fields)
        delivery = answer.delivery
        if written is not None and not (yield from self._settle(share, coded, written)):
            return False  # these entries and the new ones are read again
        if not self._behind:
            self._behind = delivery is None
            self._unwritten = delivery or self._unwritten
        return not (self._unwritten or self._behind)

    def _round_trip(
        self, share: CodeBatch, coded: Coded, model: Model
    ) -> tuple[Answer, Written | None]:
        """Write codes and read entries; return also the result of an incomplete write."""
        results: list[Written] = []

        def on_written(written: Written) -> bool:
            if self._waits is None:  # the read blocks meanwhile
                return _finished(self._settle(share, coded, written))
            results.append(written)
            return written.entries is not None

        block_ms: int | None = _TURN_MS if self._job.until_idle else _BLOCK_MS
        if self._waits is not None:
            self._waits.watch()
            block_ms = None
        answer = self._writer.write_and_read(
            share, on_written, model.version, block_ms, self._alerts(coded)
        )
        return answer, results[0] if results else None

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

    def _alerts(self, coded: Coded) -> Alerts:
        keep = self._job.model.anomaly.keep
        return Alerts(self._job.keys.alerts, keep, coded.flagged.alerts)

    def _write(self, share: CodeBatch, coded: Coded) -> Written:
        return self._writer.write(share, self._alerts(coded))

    def _settle(self, share: CodeBatch, coded: Coded, written: Written) -> Steps:
        """Complete the write of a batch when its turn has come, and count the batch.

        Return False if the wait for the turn was interrupted: the entries are read again later.
        """
        while written.entries is None:
            if not (yield from self._turn_may_come(written.last)):
                self._behind = True
                return False
            written = self._write(share, coded)
        self._count(written.entries, coded)
        return True

    def _turn_may_come(self, last: str) -> Steps:
        """Wait for codes after `last`.

        Return False if the wait was interrupted: by a request to stop, or because this encoder took
        over earlier entries.
        """
        self._job.activity.record_progress()
        if self._job.stop.is_set():
            return False
        client, key = self._client, self._job.key
        if self._waits is None:
            news: Any = client.xread({key: last}, count=1, block=_TURN_MS)
        else:
            news = yield from self._waits.wait_for(
                key, lambda: client.xread({key: last}, count=1), _TURN_MS / 1000.0
            )
        if not news:
            self._member.reset_idle_time()
            return not (self._take_over() or self._has_claimed())
        return True

    def _has_claimed(self) -> bool:
        """Return whether entries of a dead encoder were taken over since the last call; log it."""
        taken, gone = (0, 0) if self._waits is None else self._waits.take_claims()
        self._count_taken(taken, gone)
        return bool(taken or gone)

    def _count(self, written: int, coded: Coded) -> None:
        tally = self.tally
        tally.entries += written
        tally.repeated += len(coded.entries) - written
        if written:
            tally.points += coded.points
            tally.bad += coded.bad
            tally.flagged += coded.flagged.count

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
        self._count_taken(taken, gone)
        return bool(taken or gone)

    def _count_taken(self, taken: int, gone: int) -> None:
        if taken:
            self.tally.taken_over += taken
            self._job.log.warning("entries_taken_over", entries=taken)
        self._count_gone(gone)

    def _nothing_left(self) -> bool:
        """Take over entries of dead encoders regularly; return whether all entries are done."""
        if self._job.until_idle and self._member.idle:
            return True
        now = time.monotonic()
        if self._waits is not None and not self._job.until_idle:
            return False  # `takeovers.Takeovers` looks for entries of dead encoders
        if now - self._looked >= min(self._takeover_ms / 4000.0, 2.0):
            self._looked = now
            self._behind = self._take_over()
        return False


def _finished(steps: Generator[Wait, None, T]) -> T:
    """Return the result of a generator that yields nothing."""
    try:
        next(steps)
    except StopIteration as end:
        result: T = end.value
        return result
    raise RuntimeError("a step of an encoder with its own thread must not wait for a turn")
