"""Flags the anomalies among points, and makes their alerts, without a connection."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streamclust.formats.alerts import Alert, FeatureShare, encode_alert
from streamclust.models.attribution import attribution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from streamclust.arrays import Array, Labels
    from streamclust.config.anomaly import AnomalySettings
    from streamclust.formats.model import Model
    from streamclust.formats.points import Decoded
    from streamclust.store.reply.raw_entries import Entry, RawEntries


@dataclass(frozen=True)
class Flagged:
    """The alerts of a chunk of entries.

    Parameters
    ----------
    alerts : sequence of (ID of the point's entry, fields and values)
        The newest ones, at most `anomaly.keep`; in the order of the points.
    count : int
        Number of flagged points.
    """

    alerts: Sequence[Entry] = ()
    count: int = 0

    def followed_by(self, later: Flagged, keep: int) -> Flagged:
        """Return the alerts of both chunks; of more than `keep`, the newest."""
        if not later.count:
            return self
        return Flagged([*self.alerts, *later.alerts][-keep:], self.count + later.count)


NONE_FLAGGED = Flagged()


class Flagging:
    """Flags points whose anomaly score is above the threshold of the settings.

    Parameters
    ----------
    settings : AnomalySettings
        With a rate.
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
        self,
        entries: RawEntries,
        decoded: Decoded,
        scores: Array,
        index: NDArray[np.integer],
        model: Model,
    ) -> Flagged:
        """Return the alerts of points.

        Parameters
        ----------
        entries : RawEntries
        decoded : Decoded
            The points of the entries.
        scores : array of shape (N,)
            Anomaly scores of these points.
        index : array of int, shape (N,)
            Component of each point, as a row of the parameters.
        model : Model
        """
        rows = np.flatnonzero(scores > self._threshold)
        count, rows = len(rows), rows[-self._settings.keep :]
        if not count:
            return NONE_FLAGGED
        places = list(_places(decoded, rows))
        owners = np.array([entry for entry, _ in places])
        flats = entries[owners].flats()
        top = self._top(np.asarray(decoded.X[rows], np.float64), index[rows], model)
        numbers = model.numbers[index[rows]].tolist()
        known = model.scores
        quantiles = scores[rows] if known is None else known.quantile(scores[rows])
        now = int(self._clock() * 1000)
        ids = entries[owners].ids()
        alerts = []
        for n, (_, place) in enumerate(places):
            alert = Alert(
                number=0,
                stream=self._stream,
                entry_id=ids[n].decode(),
                index=place,
                code=numbers[n],
                score=float(scores[rows[n]]),
                quantile=float(quantiles[n]),
                version=model.version,
                top=top[n],
                labels=_labels(flats[n], self._labels),
                time_ms=now,
                model_id=model.code_id,
            )
            alerts.append((ids[n], encode_alert(alert)))
        return Flagged(alerts, count)

    def _top(self, X: Array, index: Labels, model: Model) -> list[list[FeatureShare]]:
        """Return the features with the largest shares, for each point."""
        found = attribution(model.family, model.params, X, index)
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


def _places(decoded: Decoded, rows: Labels) -> Iterator[tuple[int, int]]:
    """Yield the place of the entry of each point, and the place of the point in the entry."""
    stops = np.cumsum(decoded.counts)
    owners = np.searchsorted(stops, rows, side="right")
    inside = rows - (stops[owners] - decoded.counts[owners])
    bad: dict[int, list[int]] = {}
    for part in decoded.dead.parts:
        bad.setdefault(part.entry_id, []).extend(np.atleast_1d(part.index).tolist())
    for entry, place in zip(owners.tolist(), inside.tolist(), strict=True):
        for each in sorted(bad.get(entry, ())):
            if each > place:
                break
            place += 1  # noqa: PLW2901 (the bad points before it count too)
        yield entry, place


def _labels(flat: Sequence[bytes], names: frozenset[bytes]) -> dict[bytes, bytes]:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return {name: value for name, value in pairs if name in names}
