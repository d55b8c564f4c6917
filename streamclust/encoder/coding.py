"""Turns entries of points into entries of codes, without a connection."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from streamclust.encoder.flagging import NONE_FLAGGED, Flagged, Flagging
from streamclust.formats.code_fields import TOP_VALUES
from streamclust.formats.codes import encode_fields, encode_points, with_bad_points
from streamclust.formats.points import DeadPoints, Decoded, detect_first
from streamclust.models.family import by_kind
from streamclust.models.quantize import Codes, quantize, quantize_and_score, with_numbers
from streamclust.models.scores import anomaly_score, point_scores
from streamclust.runtime.assemble import points_format
from streamclust.store.reply.packed_codes import pack_points
from streamclust.store.reply.raw_entries import as_raw

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from streamclust.arrays import Array, Points
    from streamclust.config.model import ModelSettings
    from streamclust.formats.layout import Layout
    from streamclust.formats.model import Model
    from streamclust.formats.points import PointsFormat
    from streamclust.models.scores import RawScores
    from streamclust.store.reply.raw_entries import Entry, RawEntries


@dataclass(frozen=True)
class Coded:
    """The codes of a chunk of entries.

    Parameters
    ----------
    entries : sequence of (ID, fields and values)
        Entries of the stream of codes.
    points : int
        Points with a code.
    bad : int
        Points without a code.
    flagged : Flagged
        The points that are anomalies.
    """

    entries: Sequence[tuple[bytes, list[bytes]]]
    points: int
    bad: int
    flagged: Flagged = NONE_FLAGGED


class Coder:
    """Computes the codes of entries.

    Parameters
    ----------
    spec : PointsFormat
        The settings of the entries.
    top : int
        Components per point in the codes, at most K.
    labels : sequence of str
        Fields that are copied into the codes.
    stream : str, optional
        The stream of points. If the model learns from this stream, entries have the layout that the
        model has learned; else the layout is detected.
    scale : str, optional
        The scale in the settings of the model; None skips the check.
    scores : sequence of str
        Scores in the codes, except the distance; see `streamclust.models.scores`.
    flagging : Flagging, optional
        Makes the alerts.
    """

    @classmethod
    def of(cls, settings: ModelSettings, stream: str, *, alerts: bool) -> Coder:
        """Return the coder of a stream from the settings; with `alerts`, it flags anomalies."""
        encode, anomaly = settings.encode, settings.anomaly
        labels = frozenset(label.encode() for label in encode.labels)
        return cls(
            points_format(settings),
            encode.top,
            encode.labels,
            stream,
            settings.scale,
            scores=tuple(name for name in encode.score if name != "distance"),
            flagging=Flagging(anomaly, stream, labels) if alerts and anomaly.rate else None,
        )

    def __init__(
        self,
        spec: PointsFormat,
        top: int,
        labels: Sequence[str],
        stream: str | None = None,
        scale: str | None = None,
        *,
        scores: Sequence[str] = (),
        flagging: Flagging | None = None,
    ) -> None:
        self._spec = spec
        self._stream = stream
        self._scale = scale
        self._model: Model | None = None
        self._top = top
        self._labels = frozenset(label.encode() for label in labels)
        self._scores = scores
        self._flagging = flagging
        self._layout: Layout | None = None
        self._names: Sequence[bytes] = ()
        self._places: list[int] = []

    def __call__(self, found: RawEntries | list[Entry], model: Model) -> Coded:
        """Return the codes of entries under a model.

        Raises
        ------
        FormatError
            If the settings contradict those that the model was learned with.
        """
        entries = as_raw(found)
        if model is not self._model:
            self.use(model)
        decoded = self._decode(entries, model)
        K = len(model.means)
        model = model.accepting(self._spec.missing)
        top, flagged = min(self._top, K), NONE_FLAGGED
        points = (model.family, model.params, decoded.X)
        if self._scores or self._flagging is not None:
            codes, raw = quantize_and_score(*points, top=top)
            codes = self._with_scores(codes, decoded.X, model, raw)
            if self._flagging is not None:
                scores = self._anomaly_scores(decoded.X, model, raw)
                flagged = self._flagging(entries, decoded, scores, model)
        else:
            codes = quantize(*points, top=top)
        if len(model.ids):
            codes = with_numbers(codes, model.ids)
        n, bad = len(codes), len(decoded.dead)
        if codes.top is None and n == len(entries) and (decoded.counts == 1).all():
            return Coded(self._points(entries, codes, model), n, 0, flagged)
        return Coded(self._blocks(entries, codes, decoded, model), n, bad, flagged)

    def flag(self, entries: RawEntries, model: Model) -> Flagged:
        """Return the anomalies among the points of entries, without codes.

        Raises
        ------
        FormatError
            If the settings contradict those that the model was learned with.
        """
        if model is not self._model:
            self.use(model)
        decoded = self._decode(entries, model)
        if self._flagging is None or not len(decoded.X):
            return NONE_FLAGGED
        model = model.accepting(self._spec.missing)
        scores = self._anomaly_scores(decoded.X, model)
        return self._flagging(entries, decoded, scores, model)

    def _anomaly_scores(self, X: Points, model: Model, raw: RawScores | None = None) -> Array:
        """Return the scores that decide which points are flagged."""
        if raw is not None and model.anomaly_score == "model":
            return raw.anomaly
        points = np.asarray(X, np.float64)
        return anomaly_score(model.family, model.params, points, model.remembered)

    def _with_scores(self, codes: Codes, X: Points, model: Model, raw: RawScores) -> Codes:
        """Return the codes with the scores of the settings."""
        family, params, names = model.family, model.params, self._scores
        points = np.asarray(X, np.float64)
        scores = point_scores(family, params, points, codes.index, names, model.remembered, raw)
        return replace(codes, scores=scores)

    def use(self, model: Model) -> None:
        """Use another model or version for the following entries.

        Raises
        ------
        FormatError
            If the settings contradict those that the model was learned with.
        """
        scale = model.scale if self._scale is None else self._scale
        learned = model.check_settings(self._spec, scale or "none", self._stream)
        if learned is not None:
            self._layout = replace(learned, strict=False)  # other fields change no code
        elif self._model is None or model.replaces(self._model):
            self._layout = None
        self._model = model
        if self._flagging is not None:
            self._flagging.use(model)

    def _points(
        self, entries: RawEntries, codes: Codes, model: Model
    ) -> Sequence[tuple[bytes, list[bytes]]]:
        """Return the entries of codes, one point per entry."""

        def lists() -> list[tuple[bytes, list[bytes]]]:
            return self._with_labels(entries, encode_points(codes, model.version), model)

        return pack_points(
            entries, codes, model.version, self._labels, lists, model_id=model.code_id
        )

    def _blocks(
        self, entries: RawEntries, codes: Codes, decoded: Decoded, model: Model
    ) -> list[tuple[bytes, list[bytes]]]:
        """Return the entries of codes for entries that are blocks or have bad points."""
        out, start, places = [], 0, decoded.dead.places()
        bad = decoded.dead.per_entry(len(entries)).tolist()
        for part, count in zip(_parts(codes, decoded.counts), bad, strict=True):
            whole, reason = part, None
            if count:
                whole = _with_bad(part, places[start : start + count])
                reason = decoded.dead[start].reason
            out.append(encode_fields(whole, model.version, _values(model), reason))
            start += count
        return self._with_labels(entries, out, model)

    def refuse(self, entry_id: bytes, reason: str, model: Model) -> Coded:
        """Return the entry of codes of an entry that isn't read: no code, and the reason."""
        nothing = np.empty((0, model.means.shape[1]))
        top = min(self._top, len(model.means))
        codes, raw = quantize_and_score(model.family, model.params, nothing, top=top)
        codes = self._with_scores(codes, nothing, model, raw)
        codes = _with_bad(codes, np.zeros(1, np.int64))
        flat = encode_fields(codes, model.version, _values(model), reason)
        return Coded([(entry_id, flat + _id_fields(model))], 0, 1)

    def _decode(self, entries: RawEntries, model: Model) -> Decoded:
        """Return the points; dead points have the place of their entry."""
        D = model.means.shape[1]
        if self._layout is not None and self._layout.n_features == D:
            return entries.decode(self._layout)
        features = self._spec.features or model.features
        spec = replace(self._spec, n_features=D, features=features)
        self._layout, dead = detect_first(enumerate(flat for _, flat in entries), spec)
        nothing = np.zeros(len(dead), np.int64)
        if self._layout is None:
            return Decoded(np.empty((0, D)), None, nothing, dead)
        rest = entries[len(dead) :].decode(self._layout)
        later = rest.dead.shifted(len(dead))
        counts = np.concatenate([nothing, rest.counts])
        return replace(rest, counts=counts, dead=DeadPoints([*dead.parts, *later.parts]))

    def _with_labels(
        self, entries: RawEntries, coded: list[list[bytes]], model: Model
    ) -> list[tuple[bytes, list[bytes]]]:
        """Return the entries of codes: IDs, codes, and copied fields."""
        if more := _id_fields(model):
            coded = [fields + more for fields in coded]
        if not self._labels:
            return list(zip(entries.ids(), coded, strict=True))
        pairs = zip(coded, entries.flats(), strict=True)
        whole = [fields + self._label_fields(flat) for fields, flat in pairs]
        return list(zip(entries.ids(), whole, strict=True))

    def _label_fields(self, flat: Sequence[bytes]) -> list[bytes]:
        names = flat[::2]
        if names != self._names:
            self._names = names
            self._places = [2 * n for n, name in enumerate(names) if name in self._labels]
        return [text for place in self._places for text in flat[place : place + 2]]


def _id_fields(model: Model) -> list[bytes]:
    """Return the field that distinguishes the codes of this model from those of an earlier one."""
    return [b"model_id", b"%d" % model.code_id] if model.code_id else []


def too_large(most: int) -> str:
    """Return the reason why a large entry isn't read."""
    return f"more than {most} bytes are not read (batch.max_entry_bytes)"


def _values(model: Model) -> str:
    """Return the name of the field with the values of ``top``."""
    return by_kind(TOP_VALUES, model.kind, "TOP_VALUES")


def _parts(codes: Codes, counts: NDArray[np.int64]) -> Iterator[Codes]:
    """Yield the codes of each entry."""
    stop = 0
    for count in counts.tolist():
        start, stop = stop, stop + count
        yield codes[start:stop]


def _with_bad(codes: Codes, places: NDArray[np.int64]) -> Codes:
    """Return the codes of an entry with -1 for bad points, at their `places` in the block."""
    good = np.ones(len(codes) + len(places), bool)
    good[places] = False
    return with_bad_points(codes, good)
