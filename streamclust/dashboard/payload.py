"""The parts of replies about one model, as plain values for JSON."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.dashboard.plane import sample_covariances
from streamclust.dashboard.source import now_ms
from streamclust.store.ids import order
from streamclust.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streamclust.arrays import Array
    from streamclust.dashboard.plane import Plane
    from streamclust.dashboard.points import CodedPoints
    from streamclust.formats.alerts import Alert
    from streamclust.formats.model import Model
    from streamclust.store.model.dead_letters import StoredLetter
    from streamclust.store.model.version_heads import VersionHead

_MEANS = 4096
"""Maximum number of values of the means in a reply."""

_DIGITS, _MAX_DIGITS = 6, 17
"""Significant digits of numbers, and those of a float64."""

_FEATURE = 80
_DATA = 200


def short(values: Array, digits: int = _DIGITS) -> list[float | None]:
    """Return numbers with six significant digits; NaN and infinity become None."""
    rounded = [float(f"{value:.{digits}g}") for value in values.tolist()]
    return [value if math.isfinite(value) else None for value in rounded]


def with_distinct_digits(values: Array) -> list[float | None]:
    """Return numbers with as many digits as their differences need, at least six.

    Six digits of values around 1e8 that differ by 1 would all be equal.
    """
    known = values[np.isfinite(values)]
    spread = float(np.ptp(known)) if len(known) else 0.0
    if not spread:
        return short(values, _MAX_DIGITS)
    more = round(math.log10(float(np.abs(known).max()) / spread))
    return short(values, min(_DIGITS + max(more, 0), _MAX_DIGITS))


def feature_names(model: Model) -> list[str]:
    """Return the names of the features, made printable; x0, x1, ... without names."""
    names = model.features or tuple(f"x{d}" for d in range(model.shape[1]))
    return [printable(name, _FEATURE) for name in names]


def model_dict(model: Model, plane: Plane, coded: CodedPoints | None) -> dict[str, Any]:
    """Return a version: its facts, and its components in the plane.

    Parameters
    ----------
    model : Model
    plane : Plane
    coded : CodedPoints or None
        Recent points, from which the covariances of K-means are estimated.
    """
    K, D = model.shape
    total = float(model.mass.sum()) or 1.0
    places, covariances = plane.points(model.means), plane.covariances(model.params)
    source = "model"
    if covariances is None and coded is not None:
        source = "points"
        covariances = sample_covariances(plane.points(coded.shown), coded.code, model.numbers)
    shape: dict[str, Any] = dict.fromkeys(("xx", "xy", "yy"))
    if covariances is not None:
        pairs = (("xx", 0, 0), ("xy", 0, 1), ("yy", 1, 1))
        shape = {name: short(covariances[:, i, j]) for name, i, j in pairs}
    means = None
    if K * D <= _MEANS:
        columns = [with_distinct_digits(column) for column in model.means.T]
        means = [list(row) for row in zip(*columns, strict=True)]
    health = model.codebook_health
    return {
        "version": model.version,
        "model_id": model.model_id or None,
        "reason": printable(model.reason),
        "published_ms": model.published_ms,
        "event_time_ms": model.time_ms,
        "points": model.points,
        "score": model.score,
        "score_name": model.score_name,
        "n_components": K,
        "effective_weight": float(model.mass.sum()),
        "projection": plane.as_dict(),
        "components": {
            "id": model.numbers.tolist(),
            "x": with_distinct_digits(places[:, 0]),
            "y": with_distinct_digits(places[:, 1]),
            "weight": short(model.mass / total),
            "mass": short(model.mass),
            **shape,
        },
        "covariance_source": None if covariances is None else source,
        "means": means,
        "swatches": swatches(model.means),
        "codebook": vars(health),
    }


def swatches(means: Array) -> list[str] | None:
    """Return the colours of means that look like RGB values; else None.

    Values up to 1 count as shares, larger ones as values from 0 to 255.
    """
    if means.shape[1] != 3 or not (means.min() >= 0.0 and means.max() <= 255.5):
        return None
    unit = 255.0 if means.max() <= 1.0 else 1.0
    values = np.clip(np.round(means * unit), 0, 255).astype(int)
    return ["#{:02x}{:02x}{:02x}".format(*row) for row in values.tolist()]


def points_dict(coded: CodedPoints | None, plane: Plane) -> dict[str, Any]:
    """Return points in the plane."""
    if coded is None:
        return {name: [] for name in ("id", "time_ms", "x", "y", "code", "score")}
    places = plane.points(coded.shown)
    return {
        "id": coded.ids,
        "time_ms": [order(each)[0] for each in coded.ids],
        "x": with_distinct_digits(places[:, 0]),
        "y": with_distinct_digits(places[:, 1]),
        "code": coded.code.tolist(),
        "score": short(coded.score),
    }


def history_dict(heads: Sequence[VersionHead]) -> dict[str, Any]:
    """Return the facts of the stored versions that can be read, as columns."""
    names = ("version", "published_ms", "points", "score", "reason", "n_components")
    good = [head for head in heads if not head.error]
    return {name: [getattr(head, name) for head in good] for name in names}


def version_row(head: VersionHead) -> dict[str, Any]:
    """Return the facts of a stored version."""
    is_good = not head.error
    return {
        "version": head.version,
        "model_id": head.model_id or None,
        "published_ms": head.published_ms,
        "event_time_ms": head.time_ms,
        "points": head.points if is_good else None,
        "reason": printable(head.reason) if is_good else None,
        "score": head.score,
        "n_components": head.n_components if is_good else None,
        "effective_weight": head.effective_weight,
        "error": head.error or None,
    }


_EVENTS = {
    "start": ("start", "the first version"),
    "drift": ("drift", "a drift was found"),
    "resolve": ("recluster", "a better fit of the coreset replaced the parameters"),
    "reseed": ("revived", "a component with few points was moved to where points are"),
    "resize": ("resize", "the number of components changed to {n_components:,}"),
    "refit": ("refit", "a refit replaced the parameters"),
    "rollback": ("rollback", "the parameters of an older version came back"),
    "leave": ("leave", "the worker left the model"),
}
"""Reason of a version -> the kind of the event, and a sentence."""


def version_events(heads: Iterable[VersionHead]) -> list[dict[str, Any]]:
    """Return an event for each version that isn't an ordinary step."""
    events = []
    for head in heads:
        kind, text = _EVENTS.get(head.reason, ("", ""))
        if kind:
            sentence = text.format(n_components=head.n_components)
            events.append(event(kind, sentence, head.version, head.published_ms, head.points))
    return events


def phase_event(before: str, after: str, reason: str | None) -> dict[str, Any]:
    """Return an event for a change of the phase that was seen just now."""
    why = f": {reason}" if reason else ""
    text = f"the phase changed from {printable(before)} to {printable(after)}{why}"
    return event("phase", text, time_ms=now_ms())


def event(
    kind: str,
    text: str,
    version: int | None = None,
    time_ms: int | None = None,
    points: int | None = None,
    ids: list[int] | None = None,
) -> dict[str, Any]:
    """Return an event in the life of a model."""
    return {
        "kind": kind,
        "version": version,
        "time_ms": time_ms,
        "points": points,
        "ids": ids,
        "text": text,
    }


def alert_dict(alert: Alert) -> dict[str, Any]:
    """Return an alert; what a producer wrote is made printable."""
    found = alert.to_dict()
    found["stream"] = printable(alert.stream, _FEATURE)
    found["top"] = [
        {**part, "feature": printable(part["feature"], _FEATURE)} for part in found["top"]
    ]
    found["labels"] = {
        printable(name, _FEATURE): printable(value, _DATA) for name, value in alert.labels.items()
    }
    return found


def letter_dict(letter: StoredLetter) -> dict[str, Any]:
    """Return a dead letter; what a producer wrote is made printable."""
    milliseconds = letter.entry_id.partition("-")[0]
    return {
        "id": letter.letter_id,
        "stream": printable(letter.stream, _FEATURE),
        "entry": printable(letter.entry_id, _FEATURE),
        "index": letter.index,
        "reason": printable(letter.reason, 500),
        "data": printable(letter.data, _DATA),
        "time_ms": int(milliseconds) if milliseconds.isdigit() and len(milliseconds) < 16 else None,
    }
