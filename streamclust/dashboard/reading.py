"""The data of one model, which are read repeatedly and shared by all its visitors."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from streamclust.dashboard.errors import ApiError
from streamclust.dashboard.notices import Alerts, Letters
from streamclust.dashboard.payload import (
    feature_names,
    history_dict,
    model_dict,
    phase_event,
    points_dict,
    version_events,
)
from streamclust.dashboard.plane import (
    Plane,
    feature_plane,
    principal_plane,
    share_of_best,
    with_share,
)
from streamclust.dashboard.points import RecentPoints, residuals
from streamclust.dashboard.rows import SCORES, Row
from streamclust.dashboard.stored import as_learned, read_version
from streamclust.dashboard.trail import Trail
from streamclust.errors import DamagedVersionError, UnknownModelError
from streamclust.runtime.overviews import group_of, read_overviews
from streamclust.store.model.version_heads import read_heads
from streamclust.store.model.versions import read_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

    from streamclust.dashboard.points import CodedPoints
    from streamclust.dashboard.source import Source
    from streamclust.formats.model import Model
    from streamclust.store.model.version_heads import VersionHead

_HISTORY = 500
"""Maximum number of versions in the history."""

_ENOUGH = 0.9
"""The principal plane stays while it has this part of the variance of the best plane."""


@dataclass
class Changes:
    """The changes since the last reading.

    Parameters
    ----------
    row : Row or None
    model : Model or None
        A new version.
    events : list of dict
    points : CodedPoints or None
    letters : list of dict
        New dead letters, newest first.
    alerts : list of dict
        New alerts, oldest first; at most the newest ones.
    reset : str
        Why visitors must read everything again; empty if they don't have to.
    """

    row: Row | None = None
    model: Model | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    points: CodedPoints | None = None
    letters: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    reset: str = ""


class Reading:
    """Reads one model; its methods run in threads, one after another.

    Parameters
    ----------
    source : Source
    name : str
    """

    def __init__(self, source: Source, name: str) -> None:
        self.name = name
        self.row: Row | None = None
        self.model: Model | None = None
        self.plane: Plane | None = None
        self.heads: list[VersionHead] = []
        self._source = source
        self._keys = source.keys(name)
        self._lock = threading.Lock()
        self._changes = Changes()
        self._planes = 0
        self._recent: RecentPoints | None = None
        self._trail: Trail | None = None
        self._letters = Letters()
        self._alerts = Alerts()

    def poll(self) -> Changes:
        """Read the changes.

        Raises
        ------
        UnknownModelError
            If neither the settings nor the server have the model.
        """
        with self._lock:
            client, changes = self._source.client(), self._changes  # with those before a fault
            settings = self._source.settings
            [overview] = read_overviews(client, settings, [self.name])
            row = Row.of(overview, group_of(settings)(self.name), self._source.server().label)
            newest = row.version or 0
            if self.row is not None and self._is_another(row):
                changes.reset = "model"
                # The keys hold another model under this name.
                self.heads, self.model, self.plane, self._trail = [], None, None, None
                self._recent, self._letters, self._alerts = None, Letters(), Alerts()
            last = self.heads[-1].version if self.heads else 0
            if newest > last:
                self._read_versions(client, last, changes)
            scores = [head.score for head in self.heads[-SCORES:] if head.score is not None]
            row = replace(row, scores=tuple(scores))
            if row != self.row:
                changes.row = row
            if self.row is not None and row.phase != self.row.phase:
                changes.events.append(phase_event(self.row.phase, row.phase, row.reason))
            changes.letters += self._letters.read(client, self._keys, row.dead or 0)
            changes.alerts += self._alerts.read(client, self._keys, row.alerts or 0)
            self.row = row
            if self.model is not None:
                if self._recent is None:
                    self._recent = RecentPoints(self._source.raw_client())
                configured = self._source.settings.models.get(self.name)
                streams = sorted(self.model.position) or list(
                    configured.streams if configured else ()
                )
                changes.points = self._recent.read(self.model, streams)
                self._keep_plane(self.model, changes)
            self._changes = Changes()
            return changes

    def _is_another(self, row: Row) -> bool:
        """Return whether the keys hold another model than before, under the same name."""
        before = self.row
        assert before is not None  # noqa: S101
        if before.version is None:
            return False
        return row.model_id != before.model_id or (row.version or 0) < before.version

    def _read_versions(self, client: redis.Redis, last: int, changes: Changes) -> None:
        is_first, model = not self.heads, None
        fresh = read_heads(client, self._keys, _HISTORY, after=last)
        with suppress(DamagedVersionError, UnknownModelError):  # the row has the reason
            model = as_learned(read_model(client, self._keys))
        self.heads = [*self.heads, *fresh][-_HISTORY:]
        if not is_first:
            changes.events += version_events(fresh)
        if model is None:
            return
        self.model = changes.model = model
        if self._trail is not None:
            known = len(self._trail.events)
            self._trail.add(model)
            changes.events += self._trail.events[known:]

    def _keep_plane(self, model: Model, changes: Changes) -> None:
        """Choose the plane at the first version, and again when it shows too little variance."""
        if self.plane is not None and changes.model is None:
            return
        rest, features = residuals(self._newest_points(model), model), feature_names(model)
        D = model.shape[1]
        if D <= 2:
            self.plane = feature_plane(model, features, 0, D - 1, rest)
        elif self.plane is not None and share_of_best(self.plane, model, rest) >= _ENOUGH:
            self.plane = with_share(self.plane, model, rest)
        else:
            if self.plane is not None:
                changes.reset = changes.reset or "projection"
            self._planes += 1
            self.plane = principal_plane(model, features, rest, self._planes, self.plane)

    def plane_of(self, axes: tuple[str, str] | None) -> Plane:
        """Return the plane of two features, or the principal plane.

        Raises
        ------
        ApiError
            If a feature doesn't exist, or the model has no version.
        """
        model = self.model
        if model is None or self.plane is None:
            raise ApiError(404, "unknown_version", f"model {self.name!r} has no version yet")
        if axes is None:
            return self.plane
        features = feature_names(model)
        x, y = (
            _feature(text, name, model, features) for text, name in zip(axes, "xy", strict=True)
        )
        rest = residuals(self._newest_points(model), model)
        return feature_plane(model, features, x, y, rest)

    def detail(self, axes: tuple[str, str] | None, most: int) -> dict[str, Any]:
        """Return all data that the page of the model shows."""
        with self._lock:
            assert self.row is not None  # noqa: S101
            found = {
                "row": self.row.as_dict(),
                "server": vars(self._source.state),
                "features": [],
                "named": False,
                "metric": None,
                "covariance_type": None,
                "model": None,
                "points": None,
                "points_error": None if self._recent is None else self._recent.error,
                "trails": None,
                "history": history_dict(self.heads),
                "events": version_events(self.heads),
                "dead": self._letters.value,
                "alerts": self._alerts.value if self._has_alerts else None,
                "last_event_id": self.event_id,
            }
            model = self.model
            return found if model is None else {**found, **self._of_model(model, axes, most)}

    def _of_model(self, model: Model, axes: tuple[str, str] | None, most: int) -> dict[str, Any]:
        plane = self.plane_of(axes)
        coded = self._newest_points(model, most)
        if self._trail is None:
            client = self._source.client()
            self._trail = Trail(model)
            self._trail.fill(
                self.heads, lambda version: read_model(client, self._keys, version), model
            )
        events = [*version_events(self.heads), *self._trail.events]
        return {
            "features": feature_names(model),
            "named": bool(model.features),
            "metric": model.metric,
            "covariance_type": model.params.covariance_type,
            "model": model_dict(model, plane, self._newest_points(model)),
            "points": points_dict(coded, plane),
            "trails": self._trail.as_dict(plane),
            "events": sorted(events, key=lambda each: each["version"] or 0),
        }

    def _newest_points(self, model: Model, most: int = _HISTORY) -> CodedPoints | None:
        """Return recent points with their components under a version."""
        return None if self._recent is None else self._recent.newest(model, most)

    def in_plane(self, changes: Changes, axes: tuple[str, str] | None) -> list[tuple[str, Any]]:
        """Return the events with the new version and the new points in a plane.

        Raises
        ------
        ApiError
            If a feature doesn't exist.
        """
        found: list[tuple[str, Any]] = []
        with self._lock:
            if changes.model is not None:
                plane = self.plane_of(axes)
                coded = self._newest_points(changes.model)
                found.append(("version", model_dict(changes.model, plane, coded)))
            if changes.points is not None:
                found.append(("points", points_dict(changes.points, self.plane_of(axes))))
        return found

    def version(self, number: int, axes: tuple[str, str] | None, arrays: bool) -> dict[str, Any]:
        """Return one stored version in the plane of the newest one."""
        model = read_version(self._source, self.name, number)
        with self._lock:
            plane = self.plane_of(axes)
            if model.shape[1] != len(plane.centre):
                raise ApiError(409, "other_size", f"version {number} has other features")
            found = model_dict(model, plane, None)
        if arrays:
            named = model.named_arrays()
            found["arrays"] = {name: array.tolist() for name, array in named.items()}
        return found

    @property
    def event_id(self) -> str:
        """The position of a visitor who has received all data that were read so far."""
        row = self.row
        if row is None:
            return "0-0-0-0"
        return f"{row.model_id or 0}-{row.version or 0}-{row.dead or 0}-{row.alerts or 0}"

    @property
    def _has_alerts(self) -> bool:
        """Whether the model flags points, or has flagged some."""
        remembers = self.model is not None and self.model.scores is not None
        return remembers or bool(self._alerts.value["count"])

    def missed_events(self, event_id: str) -> list[tuple[str, dict[str, Any]]] | None:
        """Return the events and alerts after a position; None for a position of another model."""
        parts = event_id.split("-")
        if len(parts) != 4 or not all(part.isdigit() and len(part) < 16 for part in parts):
            return None
        model_id, version, _, alert = map(int, parts)
        row = self.row
        if row is None or model_id != (row.model_id or 0) or version > (row.version or 0):
            return None
        events = version_events(head for head in self.heads if head.version > version)
        alerts = self._alerts.after(alert)
        return [*(("event", each) for each in events), *(("alert", each) for each in alerts)]


def _feature(text: str, name: str, model: Model, features: Sequence[str]) -> int:
    """Return the place of a feature, which is given by its name or its number."""
    if text in model.features:
        return model.features.index(text)
    if text in features:
        return features.index(text)
    if text.isascii() and text.isdigit() and len(text) < 10 and int(text) < len(features):
        return int(text)
    shown = ", ".join(features[:10]) + ", ..." * (len(features) > 10)
    raise ApiError(400, "bad_query", f"{name} is {text[:60]!r}; expected one of {shown}", name)
