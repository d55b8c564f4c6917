"""The checkpoint in `:state`: the learner's state, and the stream position that it covers.

A commit writes the points of the state to another value, `:coreset` (`state_points`). A proposal,
and a state of an earlier release, are a single value.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from streamclust.arrays import Array, has_gaps
from streamclust.errors import FormatError
from streamclust.formats.container import Fields, pack, unpack, unpack_meta, whole
from streamclust.formats.layout import Layout
from streamclust.formats.learner_state import from_stored, to_stored
from streamclust.formats.lost import Lost
from streamclust.formats.state_points import Change, StatePoints, change_of, split, with_points
from streamclust.models import Family
from streamclust.models.family import size_name, to_hyperparameters
from streamclust.online.learner import LearnerState
from streamclust.online.state import Counts

FORMAT = "streamclust.state/2"
FORMATS = (FORMAT, "streamclust.state/1")
"""Formats that are read. States of format 1 don't have `CoresetState.unit`."""


@dataclass(frozen=True)
class Covered:
    """The parts of a checkpoint that describe its streams; they are read without the family.

    The fields are those of `Checkpoint`.
    """

    position: dict[str, str] = field(default_factory=dict)
    read: dict[str, int | None] = field(default_factory=dict)
    lost: dict[str, Lost] = field(default_factory=dict)


@dataclass(frozen=True)
class Outline:
    """A checkpoint without the learner's state, for figures of a model that isn't in memory.

    The fields are those of `Checkpoint` and of its parts.

    Parameters
    ----------
    covered : Covered
    points, published_points, version, dead, drifts, missing : int
    gathered : int or None
        Points of an unfinished warm-up; None after it.
    layout : Layout or None
    """

    covered: Covered
    points: int
    published_points: int
    version: int
    dead: int
    drifts: int
    gathered: int | None
    layout: Layout | None
    missing: int = 0


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a model in a commit.

    Parameters
    ----------
    learner : LearnerState
    position : dict of str to str
        Points' stream -> ID of the last entry that was learned or refused.
    layout : Layout or None
        Layout of the entries; None before the first good entry.
    version : int
        Number of the newest published version; 0 before the first version.
    published_points : int
        Number of points learned when that version was published.
    published_threshold : float or None
        Anomaly score of that version above which points are flagged, if the settings have a rate.
    published : Counts
        The learner's counts when that version was published.
    unpublished : int
        Number of points since publishing was last due. With it, a restart doesn't change the
        interval.
    dead : int
        Total number of refused points; also the number of the newest entry of `:dead`.
    read : dict of str to (int or None)
        Points' stream -> number of entries ever added to it up to the position, if known. Streams
        without a read entry may be absent.
    lost : dict of str to Lost
        Points' stream -> totals of the entries that were trimmed before they were read.
    refit : str
        ID of the newest refit that was accepted.
    former_streams : Covered
        Positions of streams that the settings no longer name. If the settings name such a stream
        again, learning continues there.
    missing : int
        Total number of missing values in learned points; see `points.missing`.
    """

    learner: LearnerState[Any] = field(default_factory=LearnerState)
    position: dict[str, str] = field(default_factory=dict)
    layout: Layout | None = None
    version: int = 0
    published_points: int = 0
    published: Counts = field(default_factory=Counts)
    unpublished: int = 0
    dead: int = 0
    read: dict[str, int | None] = field(default_factory=dict)
    lost: dict[str, Lost] = field(default_factory=dict)
    refit: str = ""
    former_streams: Covered = field(default_factory=Covered)
    missing: int = 0
    published_threshold: float | None = None


_DAMAGES = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)
_REQUIRED = {
    "": ("family", "learner", "sums", "position", "layout", "version", "published", "dead"),
    "learner": ("averaged", "steps", "points", "held", "time_ms", "revivals"),
    "array": ("sample", "sample_weight"),
}
"""Fields that the first release of this format wrote. A state without one of them is refused. Each
later field has a default: that of its dataclass, or one that `from_stored` derives from the
statistics. So states of earlier releases are read, and a new field needs no entry here."""


def encode_checkpoint(checkpoint: Checkpoint, family: Family[Any]) -> bytes:
    """Return a whole checkpoint, with its points, as safetensors bytes."""
    return _encoded(checkpoint, family, to_stored(checkpoint.learner, family))


@dataclass(frozen=True)
class EncodedCommit:
    """The bytes of a checkpoint in its two values.

    Parameters
    ----------
    state : bytes
        The value of `:state`.
    change : Change
        The change of `:coreset`.
    points : StatePoints
        The points in `:coreset` after the commit.
    """

    state: bytes
    change: Change
    points: StatePoints


def stored_points(checkpoint: Checkpoint, family: Family[Any]) -> StatePoints:
    """Return the points in `:coreset` after a commit of this checkpoint."""
    _, points = split(to_stored(checkpoint.learner, family).arrays)
    return change_of(None, points)[0]


def encode_commit(
    checkpoint: Checkpoint, family: Family[Any], before: StatePoints | None
) -> EncodedCommit:
    """Return the bytes that a commit of a checkpoint writes.

    Parameters
    ----------
    checkpoint : Checkpoint
    family : KMeans or GaussianMixture
    before : StatePoints or None
        The points in the server's `:coreset`; None if unknown.
    """
    stored = to_stored(checkpoint.learner, family)
    rest, points = split(stored.arrays)
    points, change = change_of(before, points)
    meta = {**stored.values, "points": points.meta}
    state = _encoded(checkpoint, family, Fields(dict(rest), meta))
    return EncodedCommit(state, change, points)


def _encoded(checkpoint: Checkpoint, family: Family[Any], stored: Fields) -> bytes:
    published = checkpoint.published
    meta = {
        **stored.values,
        "family": to_hyperparameters(family),
        "position": checkpoint.position,
        "read": checkpoint.read,
        "lost": {stream: asdict(lost) for stream, lost in checkpoint.lost.items()},
        "layout": None if checkpoint.layout is None else checkpoint.layout.to_dict(),
        "version": checkpoint.version,
        "published": checkpoint.published_points,
        "published_revivals": published.revived,
        "published_resolves": published.reclustered,
        "published_drifts": published.drifts,
        "published_resizes": published.resized,
        "unpublished": checkpoint.unpublished,
        "dead": checkpoint.dead,
        "refit": checkpoint.refit,
        "left": asdict(checkpoint.former_streams),
    }
    if checkpoint.missing:
        meta["missing"] = checkpoint.missing
    if checkpoint.published_threshold is not None:
        meta["published_threshold"] = checkpoint.published_threshold
    return pack(FORMAT, stored.arrays, meta)


def decode_checkpoint(
    data: bytes, family: Family[Any], where: str, coreset: bytes = b""
) -> Checkpoint:
    """Return the checkpoint that `encode_checkpoint` or a commit wrote for the same family.

    Parameters
    ----------
    data : bytes
        The value of `:state`, or a whole checkpoint.
    family : KMeans or GaussianMixture
    where : str
        Key or file, for errors.
    coreset : bytes
        The value of `:coreset` at the same time; empty if the key doesn't exist.

    Raises
    ------
    FormatError
        If the bytes are damaged, of another format, or of a model with other hyperparameters.
    """
    arrays, meta = unpack(data, FORMATS, where)
    _same_family(meta, family, where)
    if "points" in meta:
        with _errors_named(where):
            arrays = with_points(arrays, meta["points"], coreset, f"{where} with :coreset")
    _refuse_missing(arrays, meta, where)
    if family.missing == "reject" and any(
        np.issubdtype(array.dtype, np.floating) and has_gaps(array) for array in arrays.values()
    ):
        raise _gaps(where)
    try:
        learner = from_stored(Fields(arrays, meta), family)
        threshold = meta.get("published_threshold")
        counts, covered = learner.counts, _covered(meta)
        return Checkpoint(
            learner=learner,
            position=covered.position,
            read=covered.read,
            lost=covered.lost,
            layout=None if meta["layout"] is None else Layout.from_dict(meta["layout"]),
            version=whole(meta, "version"),
            published_points=int(meta["published"]),
            published=Counts(  # default: the present count, so that no event is published again
                drifts=int(meta.get("published_drifts", counts.drifts)),
                revived=int(meta.get("published_revivals", counts.revived)),
                reclustered=int(meta.get("published_resolves", counts.reclustered)),
                resized=int(meta.get("published_resizes", counts.resized)),
            ),
            unpublished=int(meta.get("unpublished", 0)),
            dead=whole(meta, "dead"),
            refit=str(meta.get("refit", "")),
            former_streams=_covered({"position": {}, **meta.get("left", {})}),
            missing=int(meta.get("missing", 0)),
            published_threshold=None if threshold is None else float(threshold),
        )
    except (*_DAMAGES, FormatError) as error:
        raise FormatError(f"{where} holds a damaged state: {error!r}; move it away") from None


def decode_outline(data: bytes, family: Family[Any], where: str) -> Outline:
    """Return the outline of a checkpoint of the same family, from the value of `:state` alone.

    Raises
    ------
    FormatError
        If the bytes are damaged, of another format, or of a model with other hyperparameters.
    """
    meta, arrays = unpack_meta(data, len(data), FORMATS, where)
    _same_family(meta, family, where)
    with _errors_named(where):
        gathered = None
        if not meta["sums"]:
            described = meta["points"] if "points" in meta else arrays["sample"]
            gathered = int(described["shape"][0])
        learner = meta["learner"]
        return Outline(
            covered=_covered(meta),
            points=int(learner["points"]),
            published_points=int(meta["published"]),
            version=whole(meta, "version"),
            dead=whole(meta, "dead"),
            drifts=int(meta.get("drift", {}).get("drifts", 0)),
            gathered=gathered,
            layout=None if meta["layout"] is None else Layout.from_dict(meta["layout"]),
            missing=int(meta.get("missing", 0)),
        )


def decode_covered(data: bytes, where: str, length: int = 0) -> tuple[Covered, int | None]:
    """Return the streams of a checkpoint, and the number of points of an unfinished warm-up.

    After the warm-up, the second result is None.

    Parameters
    ----------
    data : bytes
        The value of `:state`, or its first bytes: at least the header of safetensors.
    where : str
        Key of the bytes, for errors.
    length : int
        Number of bytes of the whole value. Default: `data` is the whole value.

    Raises
    ------
    FormatError
        If the bytes are damaged or of another format.
    """
    meta, arrays = unpack_meta(data, length or len(data), FORMATS, where)
    with _errors_named(where):
        if meta["sums"]:
            return _covered(meta), None
        described = meta["points"] if "points" in meta else arrays["sample"]
        return _covered(meta), int(described["shape"][0])


def decode_streams(data: bytes, where: str) -> list[str]:
    """Return the names of all streams that the model reads or has read.

    Raises
    ------
    FormatError
        If the bytes are damaged or of another format.
    """
    _, meta = unpack(data, FORMATS, where)
    with _errors_named(where):
        return sorted({*meta["position"], *meta.get("left", {}).get("position", {})})


def decode_layout(data: bytes, where: str) -> Layout | None:
    """Return the layout of the learned entries; None before the first good entry.

    Raises
    ------
    FormatError
        If the bytes are damaged or of another format.
    """
    _, meta = unpack(data, FORMATS, where)
    with _errors_named(where):
        return None if meta["layout"] is None else Layout.from_dict(meta["layout"])


@contextmanager
def _errors_named(where: str) -> Iterator[None]:
    """Turn an error from damaged contents into a FormatError that names the key or file."""
    try:
        yield
    except _DAMAGES as error:
        raise FormatError(f"{where} holds a damaged state: {error!r}; move it away") from None


def _covered(meta: dict[str, Any]) -> Covered:
    lost = meta.get("lost", {}).items()
    return Covered(
        position=dict(meta["position"]),
        read=dict(meta.get("read", {})),
        lost={stream: Lost(**_known(Lost, totals)) for stream, totals in lost},
    )


def _known(kind: type[Any], stored: dict[str, Any]) -> dict[str, Any]:
    """Return the stored values for fields of a dataclass; later releases may write more values."""
    names = {each.name for each in fields(kind)}
    return {name: value for name, value in stored.items() if name in names}


def _refuse_missing(arrays: dict[str, Array], meta: dict[str, Any], where: str) -> None:
    """Refuse a state that lacks a field without a default."""
    for part, names in _REQUIRED.items():
        section: Any = {"": meta, "array": arrays}.get(part, meta.get(part))
        for name in names:
            if not isinstance(section, dict) or name not in section:
                raise FormatError(
                    f"{where} holds a damaged state: the field {f'{part} {name}'.strip()!r} is "
                    "missing; if another version of streamclust wrote this state, use that "
                    "version, or move it away"
                )


def _gaps(where: str) -> FormatError:
    return FormatError(
        f"{where} holds points with missing values, which the config rejects (points.missing: "
        "reject); change it back to learn, or give the model a new name"
    )


def _same_family(meta: dict[str, Any], family: Family[Any], where: str) -> None:
    """Refuse a state whose arrays don't fit the settings of the family."""
    stored = meta.get("family")
    if not isinstance(stored, dict):
        raise FormatError(f"{where} holds a damaged state: no family; move it away")
    before = stored.get("fewest")
    if (before is None) != (family.min_components is None):
        how = {True: "a fixed number of components", False: "one that adapts (auto)"}
        raise FormatError(
            f"{where} was learned with {how[before is None]}, the config says "
            f"{how[family.min_components is None]}: change it back, or give the model a new name"
        )
    sizes = (size_name(type(family)),) if before is None else ()  # else its bounds may change
    if hasattr(family, "metric"):
        stored = {"metric": "euclidean", **stored}  # as in states from before there was a metric
    for name in ("kind", *sizes, "covariance_type", "metric"):
        configured = getattr(family, name, None) if name in stored else None
        if name in stored and stored[name] != configured:
            raise FormatError(
                f"{where} was learned with {name} {stored[name]!r}, the config says "
                f"{configured!r}: change it back, or give the model a new name"
            )
    if meta.get("missing") and family.missing == "reject":
        raise _gaps(where)
