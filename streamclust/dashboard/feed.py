"""The updates of one model. One reading serves all visitors, and pauses without visitors."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from streamclust.dashboard.errors import ApiError
from streamclust.dashboard.mailbox import Mailbox, Mailboxes, encode_event
from streamclust.dashboard.reading import Changes, Reading
from streamclust.errors import StreamclustError, UnknownModelError

if TYPE_CHECKING:
    from streamclust.dashboard.source import Source

INTERVAL = 0.5
"""Seconds between two readings, if a reading is short."""

_SHARE = 5.0
"""A reading of t seconds is followed by a pause of at least 4 t."""

_FAULT_SECONDS = 10.0
"""An unexpected fault counts as a reading of this many seconds, so that it is rarely logged."""

_LINGER = 15.0
"""Seconds that the readings continue after the last request."""

_VIEWS = 16
"""Maximum number of planes with visitors."""

_FEEDS = 64
"""Maximum number of models that are read."""

Axes = tuple[str, str] | None


class Feed:
    """The visitors of one model, by the plane that they see.

    Parameters
    ----------
    source : Source
    name : str
        Name of the model.
    """

    def __init__(self, source: Source, name: str) -> None:
        self.reading = Reading(source, name)
        self._source = source
        self._views: dict[Axes, Mailboxes] = {}
        self.last_look = time.monotonic()
        self._task: asyncio.Task[None] | None = None
        self._state = source.state

    @property
    def visitors(self) -> int:
        """Number of open streams of updates."""
        return sum(view.count for view in self._views.values())

    @property
    def is_watched(self) -> bool:
        """Whether the model has a visitor, or had a request recently."""
        return bool(self.visitors) or time.monotonic() - self.last_look < _LINGER

    async def look(self) -> None:
        """Read the model if it isn't being read.

        Raises
        ------
        UnknownModelError
            If neither the settings nor the server have the model.
        ServerUnreachableError
            If the server can't be used, and the model wasn't read before.
        """
        self.last_look = time.monotonic()
        if self._task is None or self._task.done():
            loop = asyncio.get_running_loop()
            try:
                await self._source.run(loop, self.reading.poll)
            except StreamclustError as error:
                if self.reading.row is None or isinstance(error, UnknownModelError):
                    raise
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._run())

    async def detail(self, axes: Axes, points: int) -> dict[str, Any]:
        """Return all that the page of the model shows; see `Reading.detail`."""
        await self.look()
        loop = asyncio.get_running_loop()
        return await self._source.run(loop, self.reading.detail, axes, points)

    async def open(self, axes: Axes, event_id: str) -> tuple[Mailbox, Mailboxes]:
        """Return the mailbox of a new visitor, with the events that the visitor has missed.

        Parameters
        ----------
        axes : (str, str) or None
            The features of the plane; None for the principal plane.
        event_id : str
            The last event that the visitor knows; empty if none.

        Raises
        ------
        ApiError
            If a feature doesn't exist, or too many planes have visitors.
        """
        await self.look()
        loop = asyncio.get_running_loop()
        first = await self._source.run(loop, self._first, axes, event_id)
        self._views = {key: view for key, view in self._views.items() if view.count}
        if axes not in self._views and len(self._views) >= _VIEWS:
            text = f"visitors see {_VIEWS} pairs of features, the maximum; choose one of these"
            raise ApiError(503, "too_many_views", text, retry_after=10)
        view = self._views.setdefault(axes, Mailboxes())
        box = view.open()
        for kind, value in first:
            box.put(kind, self._encoded(kind, value))
        return box, view

    def _first(self, axes: Axes, event_id: str) -> list[tuple[str, Any]]:
        """Return the events for a new visitor: all that is newer than a position."""
        reading, first = self.reading, list[tuple[str, Any]]()
        server = "server", vars(self._source.state)
        if axes is not None:
            reading.plane_of(axes)
        if event_id and event_id == reading.event_id:
            return [server]
        missed = reading.missed_events(event_id) if event_id else []
        if missed is None:
            first.append(("reset", {"reason": "model"}))
        first += missed or ()
        if reading.model is not None:
            first += reading.in_plane(Changes(model=reading.model), axes)
        if reading.row is not None:
            first.append(("status", reading.row.as_dict()))
        return [*first, server]

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        taken = 0.0
        while True:
            await asyncio.sleep(max(INTERVAL, (_SHARE - 1.0) * taken))
            if not self.is_watched:
                return
            started = time.monotonic()
            watched = [axes for axes, view in self._views.items() if view.count]
            try:
                changes, in_planes = await self._source.run(loop, self._read, watched)
            except UnknownModelError:
                self._put("reset", {"reason": "deleted"})
                self.close()
                return
            except StreamclustError:  # `Source.state` has it
                changes, in_planes = Changes(), {}
                started = time.monotonic()  # a wait without an answer isn't a long reading
            except Exception:
                self._source.log.exception("dashboard_failed", model=self.reading.name)
                changes, in_planes = Changes(), {}
                started -= _FAULT_SECONDS
            self._publish(changes, in_planes)
            taken = time.monotonic() - started

    def _read(self, watched: list[Axes]) -> tuple[Changes, dict[Axes, list[tuple[str, bytes]]]]:
        """Read the model, and encode its drawing once per plane; runs in a thread."""
        changes = self.reading.poll()
        in_planes = {}
        for axes in watched:
            with suppress(ApiError):  # another model of this name has other features
                parts = self.reading.in_plane(changes, axes)
                in_planes[axes] = [(kind, self._encoded(kind, value)) for kind, value in parts]
        return changes, in_planes

    def _publish(self, changes: Changes, in_planes: dict[Axes, list[tuple[str, bytes]]]) -> None:
        """Put the changes into all mailboxes."""
        if self._source.state != self._state:
            self._state = self._source.state
            self._put("server", vars(self._state))
        if changes.reset:
            self._put("reset", {"reason": changes.reset}, principal=changes.reset == "projection")
        for event in changes.events:
            self._put("event", event)
        for axes, parts in in_planes.items():
            for kind, data in parts:
                self._views[axes].put(kind, data)
        for alert in changes.alerts:
            self._put("alert", alert)
        if changes.letters and changes.row is not None:
            self._put("dead", {"count": changes.row.dead, "letters": changes.letters})
        if changes.row is not None:
            self._put("status", changes.row.as_dict())

    def _put(self, kind: str, value: Any, principal: bool = False) -> None:
        data = self._encoded(kind, value)
        for axes, view in self._views.items():
            if axes is None or not principal:
                view.put(kind, data)

    def _encoded(self, kind: str, value: Any) -> bytes:
        return encode_event(kind, value, self.reading.event_id)

    def put_action(self, action: dict[str, Any]) -> None:
        """Put the state of an action into all mailboxes."""
        self._put("action", action)

    def close(self) -> None:
        """End all streams."""
        for view in self._views.values():
            view.close()


class Feeds:
    """The feeds of the models that have visitors.

    Parameters
    ----------
    source : Source
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._feeds: dict[str, Feed] = {}

    @property
    def visitors(self) -> int:
        """Number of open streams of updates."""
        return sum(feed.visitors for feed in self._feeds.values())

    def get(self, name: str) -> Feed:
        """Return the feed of a model; feeds without visitors are forgotten.

        Raises
        ------
        ApiError
            If too many models have visitors.
        """
        if name not in self._feeds:
            self._feeds = {key: feed for key, feed in self._feeds.items() if feed.is_watched}
            if len(self._feeds) >= _FEEDS:
                idle = min(self._feeds.values(), key=lambda feed: (feed.visitors, feed.last_look))
                if idle.visitors:
                    text = f"visitors see {_FEEDS} models, the maximum; close other pages"
                    raise ApiError(503, "too_many_models", text, retry_after=10)
                del self._feeds[idle.reading.name]
            self._feeds[name] = Feed(self._source, name)
        return self._feeds[name]

    def find(self, name: str) -> Feed | None:
        """Return the feed of a model, if there is one."""
        return self._feeds.get(name)

    def close(self) -> None:
        """End all streams."""
        for feed in self._feeds.values():
            feed.close()
