"""The overview of all models, which is read in the background, only while it has visitors."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from streamclust.dashboard.mailbox import Mailboxes, encode_event
from streamclust.dashboard.rows import SCORES, Row, phases, totals
from streamclust.dashboard.source import now_ms
from streamclust.errors import StreamclustError, UnknownModelError
from streamclust.runtime.overviews import all_names, group_of, read_overviews
from streamclust.store.model.version_heads import read_heads

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamclust.dashboard.source import Source

INTERVAL = 2.0
"""Seconds between two readings, if a reading is short."""

_SHARE = 10.0
"""A reading of t seconds is followed by a pause of at least 9 t, so it takes at most a tenth of the
time."""

_NAMES_SECONDS = 10.0
"""Seconds between two searches for new models, if a search is short."""

_FAULT_SECONDS = 6.0
"""An unexpected fault counts as a reading of this many seconds, so that it is rarely logged."""

LINGER = 15.0
"""Seconds that the readings continue after the last request."""

_FIRST_SECONDS = 5.0
"""Maximum wait of the first request. Reading thousands of models takes longer on a busy machine."""

_ATTEMPTS = 3
"""Maximum number of tries to read all models while models are deleted."""

_MAX_CHANGED = 200
"""Maximum number of rows in an update."""


class Snapshot:
    """The rows of all models, shared by all visitors.

    Parameters
    ----------
    source : Source
    """

    def __init__(self, source: Source) -> None:
        self.rows: dict[str, Row] = {}
        self.read_ms: int | None = None
        self.updates = Mailboxes()
        self._source = source
        self._names: list[str] = []
        self._settings = source.settings
        self._names_due = 0.0
        self._with_scores: set[tuple[str, int | None]] = set()
        self._looked = 0.0
        self._task: asyncio.Task[None] | None = None
        self._done = asyncio.Event()

    async def look(self) -> Mapping[str, Row]:
        """Return the rows; the first call waits a few seconds until the models are read."""
        self._looked = time.monotonic()
        if self._task is None or self._task.done():
            self._done = asyncio.Event()
            self._task = asyncio.create_task(self._run())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._done.wait(), _FIRST_SECONDS)
        elif self.read_ms is None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._done.wait(), 1.0)
        return self.rows

    async def with_scores(self, rows: Sequence[Row]) -> list[Row]:
        """Return rows with the scores of the stored versions, which are read once per model."""
        wanted = [row for row in rows if (row.name, row.model_id) not in self._with_scores]
        if any(row.version for row in wanted):
            loop = asyncio.get_running_loop()
            with suppress(
                StreamclustError
            ):  # then the rows have only the scores since the first call
                for name, scores in await self._source.run(loop, self._read_scores, wanted):
                    row = self.rows.get(name)
                    if row is not None:
                        self.rows[name] = replace(row, scores=scores)
                        self._with_scores.add((name, row.model_id))
        return [self.rows.get(row.name, row) for row in rows]

    def _read_scores(self, rows: Sequence[Row]) -> list[tuple[str, tuple[float, ...]]]:
        client, found = self._source.client(), []
        for row in rows:
            heads = read_heads(client, self._source.keys(row.name), SCORES) if row.version else []
            scores = tuple(head.score for head in heads if head.score is not None)
            found.append((row.name, scores))
        return found

    async def _run(self) -> None:
        while self.updates.count or time.monotonic() - self._looked < LINGER:
            started = time.monotonic()
            before = self._source.state
            try:
                await self._refresh()
            except StreamclustError:  # `Source.state` has it
                started = time.monotonic()  # a wait without an answer isn't a long reading
            except Exception:
                self._source.log.exception("dashboard_failed", model="all")
                started -= _FAULT_SECONDS
            self._done.set()
            if self._source.state != before:
                self._publish([], [])
            taken = time.monotonic() - started
            await asyncio.sleep(max(INTERVAL, (_SHARE - 1.0) * taken))
        self.rows, self.read_ms, self._names_due = {}, None, 0.0
        self._with_scores = set()

    async def _refresh(self) -> None:
        loop = asyncio.get_running_loop()
        rows = await self._source.run(loop, self._read)
        removed = [name for name in self.rows if name not in rows]
        changed = [row for name, row in rows.items() if self.rows.get(name) != row]
        first = self.read_ms is None
        self.rows, self.read_ms = rows, now_ms()
        if first:
            self.updates.put(
                "overview", self.event([], (), many=True)
            )  # for visitors before the first reading
        elif changed or removed:
            self._publish(changed, removed)

    def _read(self) -> dict[str, Row]:
        """Read the rows of all models; runs in a thread."""
        for _ in range(_ATTEMPTS):
            try:
                return self._read_once()
            except UnknownModelError:  # it was deleted after the search for the names
                self._names_due = 0.0
        return self._read_once()

    def _read_once(self) -> dict[str, Row]:
        source, started = self._source, time.monotonic()
        client, settings = source.client(), source.settings
        if started >= self._names_due or settings is not self._settings:
            self._settings = settings
            self._names = sorted(all_names(settings, client))
            taken = time.monotonic() - started
            self._names_due = started + max(_NAMES_SECONDS, 10.0 * _SHARE * taken)
        group, label, before = group_of(settings), source.server().label, self.rows
        found = {}
        for overview in read_overviews(client, settings, self._names):
            row = Row.of(overview, group(overview.name), label)
            found[row.name] = row.with_scores_of(before.get(row.name))
        return found

    def _publish(self, changed: Sequence[Row], removed: Sequence[str]) -> None:
        if self.updates.count:
            after_loss = self.event([], (), many=True)
            data = self.event(changed, removed) if changed or removed else None
            self.updates.put("overview", data or self.event([], ()), after_loss)

    def event(self, changed: Sequence[Row], removed: Sequence[str], many: bool = False) -> bytes:
        """Return an update: the sums over all models, and the rows that changed."""
        rows = list(self.rows.values())
        many = many or len(changed) > _MAX_CHANGED
        value = {
            "time_ms": now_ms(),
            "server": vars(self._source.state),
            "total": len(rows),
            "phases": phases(rows),
            "totals": totals(rows),
            "changed": [] if many else [row.as_dict() for row in changed],
            "removed": [] if many else list(removed),
            "many": many,
        }
        return encode_event("overview", value, str(value["time_ms"]))
