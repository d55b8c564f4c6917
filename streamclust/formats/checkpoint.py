"""The checkpoint in `:state`: what was learned, and the stream position that it covers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from streamclust.arrays import Array
from streamclust.errors import FormatError
from streamclust.formats.container import pack, unpack, whole
from streamclust.formats.layout import Layout
from streamclust.formats.lost import Lost
from streamclust.models import Family
from streamclust.models.coreset import Coreset
from streamclust.models.family import to_hyperparameters
from streamclust.models.scaling import Scaling
from streamclust.models.spread import Spread
from streamclust.models.stats import Stats
from streamclust.online.averaging import Averaging
from streamclust.online.components import first
from streamclust.online.drift import DriftState
from streamclust.online.learner import LearnerState
from streamclust.online.resolving import Pending, Problem
from streamclust.online.state import Fall

FORMAT = "streamclust.state/1"


@dataclass(frozen=True)
class Covered:
    """What a checkpoint covers of its streams; the parts of it that need no family to be read.

    The fields are those of `Checkpoint`.
    """

    position: dict[str, str] = field(default_factory=dict)
    read: dict[str, int | None] = field(default_factory=dict)
    lost: dict[str, Lost] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One committed moment of a model.

    Parameters
    ----------
    learner : LearnerState
    position : dict of str to str
        Points' stream -> ID of the last entry that is learned (or dead).
    layout : Layout or None
        How the entries are laid out, once the first good one was seen.
    version : int
        Newest published version; 0 before the first.
    published : int
        Points that had been learned when it was published.
    published_revivals : int
        Components that had been revived by then.
    published_resolves : int
        Fits of the coreset that had been taken over by then.
    published_drifts : int
        Drifts that had been found by then.
    published_resizes : int
        How often components had been born or died by then.
    unpublished : int
        Points taken since publishing was last due, so that a restart keeps the cadence.
    dead : int
        Points refused ever; also the number of the newest entry of `:dead`.
    read : dict of str to (int or None)
        Points' stream -> how many entries it ever had up to the position, where the server tells.
        A stream that nothing was read of may be left out.
    lost : dict of str to Lost
        Points' stream -> what was gone before it was read.
    refit : str
        ID of the newest refit that was taken over.
    left : Covered
        Of streams that the settings no longer name: one that comes back goes on there.
    """

    learner: LearnerState[Any] = field(default_factory=LearnerState)
    position: dict[str, str] = field(default_factory=dict)
    layout: Layout | None = None
    version: int = 0
    published: int = 0
    published_revivals: int = 0
    published_resolves: int = 0
    published_drifts: int = 0
    published_resizes: int = 0
    unpublished: int = 0
    dead: int = 0
    read: dict[str, int | None] = field(default_factory=dict)
    lost: dict[str, Lost] = field(default_factory=dict)
    refit: str = ""
    left: Covered = field(default_factory=Covered)


_DAMAGES = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)
_PLAIN = (
    *("averaged", "steps", "points", "held", "time_ms", "revivals", "best_total", "gathering"),
    *("unsolved", "patience", "solved_loss", "surprise", "resolves", "next_id", "resizes"),
)
_ARRAYS = (
    *("sample", "sample_weight", "best", "core", "core_weight", "fresh", "fresh_weight"),
    *("ids", "recent"),
)
_REQUIRED = {
    "": ("family", "learner", "sums", "position", "layout", "version", "published", "dead"),
    "learner": ("averaged", "steps", "points", "held", "time_ms", "revivals"),
    "array": ("sample", "sample_weight"),
}
"""What the first version of this format wrote. A state without one of these is refused; every later
field has a default, so that a state of an earlier version is read. A new field needs no entry here:
its default is that of its dataclass, or `_filled` derives it from the statistics."""


def encode_checkpoint(checkpoint: Checkpoint, family: Family[Any]) -> bytes:
    """Return a checkpoint as safetensors bytes."""
    learner = checkpoint.learner
    arrays = {name: getattr(learner, name) for name in _ARRAYS}
    if learner.params is not None:
        arrays |= _params_arrays("params", learner.params, family)
    if learner.scaling is not None:
        arrays |= {"scaling.center": learner.scaling.center, "scaling.scale": learner.scaling.scale}
    if learner.pending is not None:
        problem = learner.pending.problem
        arrays |= _params_arrays("pending.live", problem.live, family)
        arrays |= {"pending.core": problem.coreset.X, "pending.core_weight": problem.coreset.w}
    if learner.spread is not None:
        arrays |= _prefixed("spread", vars(learner.spread))
    drift = asdict(learner.drift)
    arrays["drift.memory"] = np.frombuffer(drift.pop("memory"), np.uint8)
    averaging = asdict(replace(learner.averaging, tail=None))
    kept = {"stats": learner.stats, "average": learner.average, "tail": learner.averaging.tail}
    sums = {name: stats for name, stats in kept.items() if stats is not None}
    for name, stats in sums.items():
        arrays |= _prefixed(name, _stats_arrays(stats))
    meta = {
        "family": to_hyperparameters(family),
        "learner": {
            name: getattr(learner, name) for name in (*_PLAIN, "forgotten", "falls", "n_falls")
        },
        "pending": None if learner.pending is None else _pending_plain(learner.pending),
        "drift": drift,
        "scaling": "none" if learner.scaling is None else learner.scaling.kind,
        "averaging": averaging,
        "sums": {name: [stats.objective, stats.count] for name, stats in sums.items()},
        "position": checkpoint.position,
        "read": checkpoint.read,
        "lost": {stream: asdict(lost) for stream, lost in checkpoint.lost.items()},
        "layout": None if checkpoint.layout is None else checkpoint.layout.to_dict(),
        "version": checkpoint.version,
        "published": checkpoint.published,
        "published_revivals": checkpoint.published_revivals,
        "published_resolves": checkpoint.published_resolves,
        "published_drifts": checkpoint.published_drifts,
        "published_resizes": checkpoint.published_resizes,
        "unpublished": checkpoint.unpublished,
        "dead": checkpoint.dead,
        "refit": checkpoint.refit,
        "left": asdict(checkpoint.left),
    }
    return pack(FORMAT, arrays, meta)


def decode_checkpoint(data: bytes, family: Family[Any], where: str) -> Checkpoint:
    """Return the checkpoint that `encode_checkpoint` wrote for the same family.

    Raises
    ------
    FormatError
        If the bytes are damaged, of another format, or of a model with other hyperparameters.
    """
    arrays, meta = unpack(data, FORMAT, where)
    _same_family(meta.get("family"), family, where)
    _refuse_missing(arrays, meta, where)
    try:
        stats = _stats("stats", arrays, meta, family)
        learner = LearnerState(
            params=_params("params", arrays, family) if meta["sums"] else None,
            stats=stats,
            average=_stats("average", arrays, meta, family),
            averaging=_averaging(arrays, meta, family),
            scaling=_scaling(arrays, meta),
            pending=_pending(arrays, meta, family),
            spread=_spread(arrays),
            # an older state doesn't have it: its parameters are worth all points
            forgotten=float(meta["learner"].get("forgotten", meta["learner"]["points"])),
            falls=tuple(Fall(*fall) for fall in meta["learner"].get("falls", ())),
            n_falls=int(meta["learner"].get("n_falls", 0)),
            drift=_drift(arrays, meta),
            **_filled(arrays, meta, family, stats),
        )
        return Checkpoint(
            learner=learner,
            **_covered(meta),
            layout=None if meta["layout"] is None else Layout.from_dict(meta["layout"]),
            version=whole(meta, "version"),
            published=int(meta["published"]),
            # Without these, nothing of it counts as news.
            published_revivals=int(meta.get("published_revivals", learner.revivals)),
            published_resolves=int(meta.get("published_resolves", learner.resolves)),
            published_drifts=int(meta.get("published_drifts", learner.drift.drifts)),
            published_resizes=int(meta.get("published_resizes", learner.resizes)),
            unpublished=int(meta.get("unpublished", 0)),
            dead=whole(meta, "dead"),
            refit=str(meta.get("refit", "")),
            left=Covered(**_covered({"position": {}, **meta.get("left", {})})),
        )
    except (*_DAMAGES, FormatError) as error:
        raise FormatError(f"{where} holds a damaged state: {error!r}; move it away") from None


def decode_covered(data: bytes, where: str) -> Covered:
    """Return what the checkpoint that `encode_checkpoint` wrote covers.

    Raises
    ------
    FormatError
        If the bytes are damaged or of another format.
    """
    _, meta = unpack(data, FORMAT, where)
    try:
        return Covered(**_covered(meta))
    except _DAMAGES as error:
        raise FormatError(f"{where} holds a damaged state: {error!r}; move it away") from None


def _covered(meta: dict[str, Any]) -> dict[str, Any]:
    return {
        "position": dict(meta["position"]),
        "read": dict(meta.get("read", {})),
        "lost": {
            stream: Lost(**_known(Lost, lost)) for stream, lost in meta.get("lost", {}).items()
        },
    }


def _known(kind: type[Any], stored: dict[str, Any]) -> dict[str, Any]:
    """Return what a dataclass has fields for; a later version may have written more."""
    names = {each.name for each in fields(kind)}
    return {name: value for name, value in stored.items() if name in names}


def _refuse_missing(arrays: dict[str, Array], meta: dict[str, Any], where: str) -> None:
    """Refuse a state that lacks a field without a default."""
    for part, names in _REQUIRED.items():
        found: Any = {"": meta, "array": arrays}.get(part, meta.get(part))
        for name in names:
            if not isinstance(found, dict) or name not in found:
                raise FormatError(
                    f"{where} holds a damaged state: it lacks the field "
                    f"{f'{part} {name}'.strip()!r}; if another version of streamclust wrote it, "
                    "use that version, or move it away"
                )


def _filled(
    arrays: dict[str, Array], meta: dict[str, Any], family: Family[Any], stats: Stats | None
) -> dict[str, Any]:
    """Return the plain fields and arrays of a learner; where one is missing, its default.

    Weighted points lack both parts if they lack one. Masses begin with those of now.
    """
    found: dict[str, Any] = {name: arrays[name] for name in _ARRAYS if name in arrays}
    found |= {name: meta["learner"][name] for name in _PLAIN if name in meta["learner"]}
    for points, weight in (("core", "core_weight"), ("fresh", "fresh_weight")):
        if not {points, weight} <= found.keys():
            found = {name: value for name, value in found.items() if name not in (points, weight)}
    defaults: dict[str, Any] = {}
    if stats is not None:
        defaults = {"best": stats.weight, "best_total": stats.mass}
        if family.fewest is not None:
            defaults |= first(len(stats.weight))
            defaults["next_id"] = 1 + int(max(found.get("ids", defaults["ids"]), default=-1))
    empty = LearnerState[Any]()
    return {
        name: found.get(name, defaults.get(name, getattr(empty, name)))
        for name in (*_PLAIN, *_ARRAYS)
    }


def _drift(arrays: dict[str, Array], meta: dict[str, Any]) -> DriftState:
    memory = arrays.get("drift.memory", np.empty(0, np.uint8)).tobytes()
    return replace(DriftState(**_known(DriftState, meta.get("drift", {}))), memory=memory)


def _same_family(found: Any, family: Family[Any], where: str) -> None:
    """Refuse a state whose arrays would not fit; a changed floor or threshold does fit."""
    if not isinstance(found, dict):
        raise FormatError(f"{where} holds a damaged state: no family; move it away")
    before = found.get("fewest")
    if (before is None) != (family.fewest is None):
        how = {True: "a fixed number of components", False: "one that adapts (auto)"}
        raise FormatError(
            f"{where} was learned with {how[before is None]}, the config says "
            f"{how[family.fewest is None]}: change it back, or give the model a new name"
        )
    sizes = ("n_clusters", "n_components") if before is None else ()  # else its bounds may change
    for name in ("kind", *sizes, "covariance_type"):
        wanted = getattr(family, name, None) if name in found else None
        if name in found and found[name] != wanted:
            raise FormatError(
                f"{where} was learned with {name} {found[name]!r}, the config says {wanted!r}: "
                "change it back, or give the model a new name"
            )


def _averaging(arrays: dict[str, Array], meta: dict[str, Any], family: Family[Any]) -> Averaging:
    """Return what decides where the average begins; an older state doesn't have it."""
    plain = {**meta.get("averaging", {}), "tail": None}
    return replace(Averaging(**plain), tail=_stats("tail", arrays, meta, family))


def _pending_plain(pending: Pending[Any]) -> dict[str, Any]:
    return {"due": pending.due, "seed": pending.problem.seed}


def _pending(
    arrays: dict[str, Array], meta: dict[str, Any], family: Family[Any]
) -> Pending[Any] | None:
    plain = meta.get("pending")
    if plain is None:
        return None
    coreset = Coreset(arrays["pending.core"], arrays["pending.core_weight"])
    live = _params("pending.live", arrays, family)
    return Pending(plain["due"], Problem(live, coreset, tuple(plain["seed"])))


def _params_arrays(name: str, params: Any, family: Family[Any]) -> dict[str, Array]:
    """Return the published arrays, and the spread if the parameters have one."""
    spread = getattr(params, "spread", None)
    extra = {} if spread is None else {"spread": spread}
    return _prefixed(name, {**family.to_arrays(params), **extra})


def _params(name: str, arrays: dict[str, Array], family: Family[Any]) -> Any:
    """Return parameters to the last bit, where `from_arrays` normalises weights anew."""
    parts = _unprefixed(name, arrays)
    return replace(family.from_arrays(parts), **parts)


def _spread(arrays: dict[str, Array]) -> Spread | None:
    parts = _unprefixed("spread", arrays)
    if "variance" not in parts:
        return None  # the learner takes the variance of its mixture
    whole_block = {"X", "w"} <= parts.keys()
    return Spread(**parts) if whole_block else Spread(parts["variance"])


def _scaling(arrays: dict[str, Array], meta: dict[str, Any]) -> Scaling | None:
    if "scaling.scale" not in arrays:
        return None
    return Scaling(meta.get("scaling", "none"), arrays["scaling.center"], arrays["scaling.scale"])


def _prefixed(prefix: str, arrays: dict[str, Array]) -> dict[str, Array]:
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def _unprefixed(prefix: str, arrays: dict[str, Array]) -> dict[str, Array]:
    start = f"{prefix}."
    return {
        name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)
    }


def _stats_arrays(stats: Stats) -> dict[str, Array]:
    arrays = {"weight": stats.weight, "first": stats.first, "reference": stats.reference}
    return arrays if stats.second is None else {**arrays, "second": stats.second}


def _stats(
    name: str, arrays: dict[str, Array], meta: dict[str, Any], family: Family[Any]
) -> Stats | None:
    parts = _unprefixed(name, arrays)
    if name not in meta["sums"]:
        if parts:
            raise FormatError(f"the arrays of {name} lack their field in sums")
        return None
    if (getattr(family, "covariance_type", None) is None) != ("second" not in parts):
        raise FormatError(f"{name}.second doesn't suit the model's kind")
    objective, count = meta["sums"][name]
    return Stats(
        weight=parts["weight"],
        first=parts["first"],
        second=parts.get("second"),
        reference=parts["reference"],
        covariance_type=getattr(family, "covariance_type", None),
        objective=objective,
        count=count,
    )
