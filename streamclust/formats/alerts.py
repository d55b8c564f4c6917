"""The fields of the entries in `:alerts`: one entry per flagged point, as text.

``stream``, ``id`` and ``index`` are the stream of the point, the ID of its entry, and its place in
the entry. ``code``, ``version`` and ``model_id`` have the same meaning as in `:codes`. ``score`` is
the anomaly score (see `streamclust.models.scores`), and ``quantile`` the share of the remembered
points with a smaller score. ``event_time`` is the time in the ID of the entry, and ``time`` the
wall clock when the alert was written, both in milliseconds. ``top`` is JSON: the features with the
largest shares of the score, largest first, each with its name, its share, its value, and the value
that the model expects::

    [{"feature": "temperature", "share": 0.83, "value": 95.2, "expected": 61.0}, ...]

Each field in ``encode.labels`` is copied unchanged, as ``label:NAME``.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamclust.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LABEL = b"label:"


@dataclass(frozen=True)
class FeatureShare:
    """The share of a feature in the score of a point.

    Parameters
    ----------
    feature : str
        Name of the feature; its number if features have no names.
    share : float
        Share of the score, from 0 to 1.
    value : float
        Value of the feature.
    expected : float
        The value that the model expects, given the other features.
    """

    feature: str
    share: float
    value: float
    expected: float


@dataclass(frozen=True)
class Alert:
    """A point that was flagged as an anomaly.

    Texts come from producers; use `streamclust.text.printable` to show them.

    Parameters
    ----------
    number : int
        Number of the alert, from 1; 0 before it is written.
    stream : str
        Stream of the point.
    entry_id : str
        ID of the point's entry.
    index : int
        Place of the point in the entry.
    code : int
        Number of its component.
    score : float
        Anomaly score.
    quantile : float
        Share of the remembered points with a smaller score.
    version : int
        Version of the model.
    top : sequence of FeatureShare
        The features with the largest shares of the score, largest first.
    labels : mapping of bytes to bytes
        Fields that were copied from the point's entry.
    time_ms : int
        Wall clock when the alert was written, in milliseconds.
    model_id : int
        Model ID, if an earlier model of the same name has codes in the stream; else 0.
    """

    number: int
    stream: str
    entry_id: str
    index: int
    code: int
    score: float
    quantile: float
    version: int
    top: Sequence[FeatureShare]
    labels: Mapping[bytes, bytes]
    time_ms: int
    model_id: int = 0

    @property
    def event_time_ms(self) -> int:
        """Time in the ID of the point's entry, in milliseconds."""
        return int(self.entry_id.partition("-")[0])

    @property
    def one_in(self) -> float:
        """Number of points among which one is expected to have a score of at least this size."""
        rest = 1.0 - self.quantile
        return math.inf if rest <= 0.0 else 1.0 / rest

    def to_dict(self) -> dict[str, Any]:
        """Return the alert for JSON."""
        return {
            "alert": self.number,
            "stream": self.stream,
            "id": self.entry_id,
            "index": self.index,
            "time_ms": self.time_ms,
            "event_time_ms": self.event_time_ms,
            "code": self.code,
            "score": self.score,
            "quantile": self.quantile,
            "version": self.version,
            **({"model_id": self.model_id} if self.model_id else {}),
            "top": [vars(part) for part in self.top],
            "labels": {
                name.decode(errors="backslashreplace"): value.decode(errors="backslashreplace")
                for name, value in self.labels.items()
            },
        }


def encode_alert(alert: Alert) -> list[bytes]:
    """Return the fields and values of an alert, without its number."""
    top = [dict(vars(part)) for part in alert.top]
    for part in top:  # JSON has no NaN and no infinity
        for name, value in part.items():
            if isinstance(value, float) and not math.isfinite(value):
                part[name] = None
    texts = {
        "stream": alert.stream,
        "id": alert.entry_id,
        "index": alert.index,
        "time": alert.time_ms,
        "event_time": alert.event_time_ms,
        "code": alert.code,
        "score": repr(alert.score),
        "quantile": repr(alert.quantile),
        "version": alert.version,
        **({"model_id": alert.model_id} if alert.model_id else {}),
        "top": json.dumps(top, ensure_ascii=False),
    }
    flat: list[bytes] = []
    for name, value in texts.items():
        flat += [name.encode(), str(value).encode(errors="surrogateescape")]
    for label, text in alert.labels.items():
        flat += [_LABEL + label, text]
    return flat


def decode_alert(alert_id: str, fields: Mapping[bytes, bytes], where: str) -> Alert:
    """Return the alert in the fields of `encode_alert`.

    Raises
    ------
    FormatError
        If the fields aren't an alert. The message names `where` (the key).
    """
    try:
        return _decoded(alert_id, fields)
    except (LookupError, ValueError, TypeError, ArithmeticError) as error:
        raise FormatError(f"{where} entry {alert_id} holds no alert: {error!r}") from None


def _decoded(alert_id: str, fields: Mapping[bytes, bytes]) -> Alert:
    entry_id = fields[b"id"].decode("ascii")
    int(entry_id.partition("-")[0])
    return Alert(
        number=int(alert_id.partition("-")[0]),
        stream=fields[b"stream"].decode(errors="surrogateescape"),
        entry_id=entry_id,
        index=int(fields[b"index"]),
        code=int(fields[b"code"]),
        score=float(fields[b"score"]),
        quantile=float(fields[b"quantile"]),
        version=int(fields[b"version"]),
        top=tuple(_share(part) for part in json.loads(fields[b"top"])),
        labels={
            name.removeprefix(_LABEL): value
            for name, value in fields.items()
            if name.startswith(_LABEL)
        },
        time_ms=int(fields[b"time"]),
        model_id=int(fields.get(b"model_id", 0)),
    )


def _share(part: Any) -> FeatureShare:
    numbers = (
        math.nan if part[name] is None else float(part[name])
        for name in ("share", "value", "expected")
    )
    return FeatureShare(str(part["feature"]), *numbers)
