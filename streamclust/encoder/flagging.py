"""Flags the anomalies among points, and makes their alerts, without a connection."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streamclust.formats.alerts import Alert, FeatureShare, encode_alert

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from streamclust.arrays import Array, Labels
    from streamclust.config.anomaly import AnomalySettings
    from streamclust.formats.model import Model
    from streamclust.formats.points import Decoded
    from streamclust.store.reply.raw_entries import Entry, RawEntries


class _Part(NamedTuple):
    """Flagged points of one chunk. Their alerts are made when they are written.

    Attributes
    ----------
    places : list of (ID of the entry, place of the point in the entry)
    labels : list of dict of bytes to bytes
    X : array of shape (n, D)
    scores : array of shape (n,)
    model : Model
    time_ms : int
    """

    places: list[tuple[bytes, int]]
    labels: list[dict[bytes, bytes]]
    X: Array
    scores: Array
    model: Model
    time_ms: int


@dataclass(frozen=True, eq=False)
class Flagged:
    """The flagged points of a range of entries.

    Parameters
    ----------
    count : int
        Number of flagged points.
    parts : tuple of _Part
        The newest ones, in the order of the points.
    alerts_of : callable
        Returns the alerts of a part: the ID of each point's entry, fields and values.
    keep : int
        Number of alerts to write.
    """

    count: int = 0
    parts: tuple[_Part, ...] = ()
    alerts_of: Callable[[_Part], Iterable[Entry]] = lambda _: ()
    keep: int = 1

    @cached_property
    def alerts(self) -> Sequence[Entry]:
        """ID of the point's entry, fields and values of the newest `keep` alerts, in order."""
        found = [alert for part in self.parts for alert in self.alerts_of(part)]
        return found[-self.keep :]

    def followed_by(self, later: Flagged) -> Flagged:
        """Return the points of both ranges; older points than `keep` are only counted."""
        if not (self.count and later.count):
            return self if self.count else later
        parts = [*self.parts, *later.parts]
        rest = sum(len(part.places) for part in parts)
        first = 0
        while (rest := rest - len(parts[first].places)) >= self.keep:
            first += 1
        return replace(later, count=self.count + later.count, parts=tuple(parts[first:]))


NONE_FLAGGED = Flagged()


class Flagging:
    """Flags points whose anomaly score is above the threshold of the settings.

    Parameters
    ----------
    settings : AnomalySettings
        Settings with a rate.
    stream : str
        Stream of the points.
    labels : set of bytes
        Fields of the points' entries that are copied into the alerts.
    clock : callable, optional
        Wall clock, in seconds.
    """

    def __init__(
        self,
        settings: AnomalySettings,
        stream: str,
        labels: frozenset[bytes],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._stream = stream
        self._labels = labels
        self._clock = clock
        self._threshold = math.inf

    def use(self, model: Model) -> None:
        """Use another model or version for the following points."""
        rate = self._settings.rate
        known = model.scores
        self._threshold = math.inf if rate is None or known is None else known.threshold(rate)

    def __call__(
        self, entries: RawEntries, decoded: Decoded, scores: Array, model: Model
    ) -> Flagged:
        """Return the points that are anomalies.

        Parameters
        ----------
        entries : RawEntries
        decoded : Decoded
            The points of the entries.
        scores : array of shape (N,)
            Anomaly scores of these points.
        model : Model
        """
        rows = np.flatnonzero(scores > self._threshold)
        count, rows = len(rows), rows[-self._settings.keep :]
        if not count:
            return NONE_FLAGGED
        owners, places = _places(decoded, rows)
        own = entries[owners]
        part = _Part(
            list(zip(own.ids(), places, strict=True)),
            [_labels(flat, self._labels) for flat in own.flats()]
            if self._labels
            else [{}] * len(rows),
            np.asarray(decoded.X[rows], np.float64),
            scores[rows],
            model,
            int(self._clock() * 1000),
        )
        return Flagged(count, (part,), self._alerts_of, self._settings.keep)

    def _alerts_of(self, part: _Part) -> Iterator[Entry]:
        """Yield the alerts of flagged points."""
        model = part.model
        index = model.family.predict(model.params, part.X)
        top, numbers = self._top(part.X, model), model.numbers[index].tolist()
        quantiles = model.remembered_scores.quantile(part.scores).tolist()
        for n, (entry_id, place) in enumerate(part.places):
            alert = Alert(
                number=0,
                stream=self._stream,
                entry_id=entry_id.decode(),
                index=place,
                code=numbers[n],
                score=float(part.scores[n]),
                quantile=quantiles[n],
                version=model.version,
                top=top[n],
                labels=part.labels[n],
                time_ms=part.time_ms,
                model_id=model.code_id,
            )
            yield entry_id, encode_alert(alert)

    def _top(self, X: Array, model: Model) -> list[list[FeatureShare]]:
        """Return the features with the largest shares, for each point."""
        found = model.attribution(X)
        names = model.features or tuple(f"x{d}" for d in range(X.shape[1]))
        share, best = found.share, found.top(self._settings.top)
        return [
            [
                FeatureShare(names[d], *map(float, (share[n, d], X[n, d], found.expected[n, d])))
                for d in best[n]
                if share[n, d] > 0.0
            ]
            for n in range(len(X))
        ]


def _places(decoded: Decoded, rows: Labels) -> tuple[Labels, list[int]]:
    """Return the place of the entry of each point, and the places of the points in the entries."""
    stops = np.cumsum(decoded.counts)
    owners = np.searchsorted(stops, rows, side="right")
    places = (rows - (stops[owners] - decoded.counts[owners])).tolist()
    bad: dict[int, list[int]] = {}
    for part in decoded.dead.parts:
        bad.setdefault(part.entry_id, []).extend(np.atleast_1d(part.index).tolist())
    for n, entry in enumerate(owners.tolist() if bad else ()):
        for each in sorted(bad.get(entry, ())):
            places[n] += each <= places[n]  # earlier bad points count too
    return owners, places


def _labels(flat: Sequence[bytes], names: frozenset[bytes]) -> dict[bytes, bytes]:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return {name: value for name, value in pairs if name in names}
