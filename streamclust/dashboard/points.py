"""The recent points of a model's streams, with their components under the newest version."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import redis

from streamclust.errors import StreamclustError
from streamclust.formats.layout import PointsFormat
from streamclust.formats.points import detect_first
from streamclust.store.ids import order
from streamclust.store.reply.limits import ReplyTooLargeError
from streamclust.store.server.connect import translated
from streamclust.store.server.faults import passes
from streamclust.store.stream.recent import LARGEST_REPLY, RecentReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamclust.arrays import Array, Labels
    from streamclust.formats.layout import Layout
    from streamclust.formats.model import Model

MOST = 2_000
"""Maximum number of points that are remembered."""

_BYTES = 4 << 20
"""Maximum bytes of the remembered points."""

PER_READ = 200
"""Maximum number of points per read, except the first read."""

_STREAMS = 8
"""Maximum number of streams that are read."""


@dataclass(frozen=True, eq=False)
class CodedPoints:
    """Points with their components.

    Parameters
    ----------
    ids : list of str
        The entry of each point.
    X : array of shape (N, D)
        Points as the model prepares them; NaN for missing values.
    shown : array of shape (N, D)
        The points with expected values in place of missing ones.
    code : array of int, shape (N,)
        Numbers of the components.
    score : array of shape (N,)
        The scores of `Model.score_samples`.
    version_key : tuple of int
        Model ID and version of the codes.
    """

    ids: list[str]
    X: Array
    shown: Array
    code: Labels
    score: Array
    version_key: tuple[int, int]

    def with_components_of(self, model: Model) -> CodedPoints:
        """Return the points with their components under a version."""
        version_key = model.model_id, model.version
        if version_key == self.version_key:
            return self
        code, score = _coded(model, self.X)
        return replace(
            self,
            shown=_shown_points(model, self.X),
            code=code,
            score=score,
            version_key=version_key,
        )


class RecentPoints:
    """Remembers the newest points of the streams that a model has learned.

    Parameters
    ----------
    client : redis.Redis
        A raw client with a limit of `LARGEST_REPLY`.
    """

    def __init__(self, client: redis.Redis) -> None:
        self.error: str | None = None
        self._client = client
        self._readers: dict[str, RecentReader] = {}
        self._layout: Layout | None = None
        self._chunks: deque[CodedPoints] = deque()

    def read(self, model: Model, streams: Sequence[str]) -> CodedPoints | None:
        """Read the new points and return them; None if there are none."""
        D, self.error = model.shape[1], None
        is_first = not self._chunks
        limit = max(1, min(MOST, _BYTES // (8 * D)))
        most = limit if is_first else min(PER_READ, limit)
        chosen = streams[:_STREAMS]
        found = [
            part
            for stream in chosen
            if (part := self._read(model, stream, max(1, most // len(chosen)))) is not None
        ]
        if not found:
            return None
        chunk = joined(found)
        self._chunks.append(chunk)
        total = sum(len(each.ids) for each in self._chunks)
        while total - len(self._chunks[0].ids) >= limit:
            total -= len(self._chunks.popleft().ids)
        return chunk

    def _read(self, model: Model, stream: str, most: int) -> CodedPoints | None:
        try:
            layout = model.layout or self._layout
            if layout is None:
                entries = self._client.xrevrange(stream, count=4)
                self._layout, _ = detect_first(entries, PointsFormat())  # type: ignore[arg-type]
                layout = self._layout
            if layout is None or layout.n_features != model.shape[1]:
                return None
            reader = self._readers.setdefault(stream, RecentReader(self._client, stream))
            found = reader.read(layout, most)
            if not found.ids:
                return None
            X = np.asarray(model.family.prepare(found.X), np.float64)
            code, score = _coded(model, X)
        except ReplyTooLargeError:
            self.error = f"an entry of {stream!r} has more than {LARGEST_REPLY >> 20} MiB"
            return None
        except redis.ResponseError as error:
            if passes(error):
                raise
            self.error = str(translated(error, "the server"))
            return None
        except StreamclustError as error:
            self.error = str(error)
            return None
        version_key, shown = (model.model_id, model.version), _shown_points(model, X)
        return CodedPoints(found.ids, X, shown, code, score, version_key)

    def newest(self, model: Model, most: int) -> CodedPoints | None:
        """Return the newest remembered points, with their components under a version."""
        if not self._chunks:
            return None
        self._chunks = deque(chunk.with_components_of(model) for chunk in self._chunks)
        whole = joined(list(self._chunks))
        last = slice(max(len(whole.ids) - most, 0), None)
        return replace(
            whole,
            ids=whole.ids[last],
            X=whole.X[last],
            shown=whole.shown[last],
            code=whole.code[last],
            score=whole.score[last],
        )


def _coded(model: Model, X: Array) -> tuple[Labels, Array]:
    """Return the components and the scores of prepared points."""
    return model.predict(X), model.score_samples(X)


def _shown_points(model: Model, X: Array) -> Array:
    """Return points without missing values, for a picture."""
    return np.asarray(model.impute(X)) if np.isnan(X).any() else X


def joined(parts: Sequence[CodedPoints]) -> CodedPoints:
    """Return the points of all parts, oldest first."""
    if len(parts) == 1:
        return parts[0]
    ids = [each for part in parts for each in part.ids]
    places = sorted(range(len(ids)), key=lambda place: order(ids[place]))
    return CodedPoints(
        [ids[place] for place in places],
        np.concatenate([part.X for part in parts])[places],
        np.concatenate([part.shown for part in parts])[places],
        np.concatenate([part.code for part in parts])[places],
        np.concatenate([part.score for part in parts])[places],
        parts[0].version_key,
    )


def residuals(coded: CodedPoints | None, model: Model) -> Array | None:
    """Return the differences of points and the means of their components."""
    if coded is None:
        return None
    rows = np.searchsorted(model.numbers, coded.code)
    return np.asarray(coded.shown - model.means[rows], np.float64)
