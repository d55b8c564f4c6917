"""A published version without its parameters, for tables and figures of many models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streamclust.errors import FormatError, StreamclustError
from streamclust.formats.container import unpack, unpack_meta, whole
from streamclust.formats.model import FORMAT
from streamclust.models import FAMILIES
from streamclust.models.codebook import CodebookHealth, codebook_health
from streamclust.models.family import by_kind

if TYPE_CHECKING:
    from streamclust.arrays import Array


_NOT_IN_SUMMARY = ("family", "layout", "scale", "loss")
_FIRST = ("model", "version", "kind", "metric", "reason", "n_components", "n_features", "points")


@dataclass(frozen=True, eq=False)
class ModelHead:
    """A published version without its parameters. The attributes are those of `Model`.

    Parameters
    ----------
    name, kind, score_name : str
    version, points : int
    shape : tuple of int
        Number of components, and of features.
    score, time_ms : float or None
    mass : array of shape (K,)
    facts : dict
        The stored summary.
    model_id : int
    published_ms : int or None
    """

    name: str
    version: int
    kind: str
    shape: tuple[int, int]
    points: int
    score_name: str
    score: float | None
    mass: Array
    time_ms: float | None
    facts: dict[str, Any]
    model_id: int = 0
    published_ms: int | None = None

    @property
    def metric(self) -> str:
        """'euclidean' or 'cosine'."""
        return str(self.facts.get("metric", "euclidean"))

    @property
    def codebook_health(self) -> CodebookHealth:
        """How evenly the components are used; see `streamclust.models.codebook`."""
        return codebook_health(self.mass)

    def summary(self) -> dict[str, Any]:
        """Return all values except the arrays, for JSON, as `Model.summary`."""
        computed = {"model": self.name, "effective_weight": float(self.mass.sum())}
        return {**self.facts, **computed, "model_id": self.model_id or None}


def decode_head(
    head: bytes, length: int, mass: bytes, name: str, where: str, **more: Any
) -> ModelHead:
    """Return a version from the first bytes of its payload.

    Parameters
    ----------
    head : bytes
        The first bytes: at least the header of safetensors.
    length : int
        Number of bytes of the whole payload.
    mass : bytes
        The array `mass`, if `head` isn't the whole payload.
    name : str
    where : str
        Key of the payload, for errors.
    **more
        Other fields of `ModelHead`.

    Raises
    ------
    FormatError
        If the bytes aren't a model of this format.
    """
    values: Any = np.frombuffer(mass[: len(mass) // 8 * 8], "<f8")
    if len(head) >= length:
        arrays, meta = unpack(head, FORMAT, where)
        values = arrays.get("mass")
    else:
        meta, _ = unpack_meta(head, length, (FORMAT,), where)
    try:
        family = by_kind(FAMILIES, meta["family"]["kind"], "FAMILIES")
        K, D = whole(meta, "n_components", least=1), whole(meta, "n_features", least=1)
        if values is None or values.shape != (K,):
            raise ValueError(f"mass has the wrong shape, expected ({K},)")
        loss = None if meta["loss"] is None else float(meta["loss"])
        return ModelHead(
            name=name,
            version=whole(meta, "version", least=1),
            kind=family.kind,
            shape=(K, D),
            points=whole(meta, "points"),
            score_name=family.objective,
            score=loss if loss is None or family.objective == "inertia" else -loss,
            mass=values,
            time_ms=None if meta["time_ms"] is None else float(meta["time_ms"]),
            facts=_in_order({key: meta[key] for key in meta if key not in _NOT_IN_SUMMARY}),
            **more,
        )
    except (LookupError, TypeError, ValueError, ArithmeticError, StreamclustError) as error:
        raise FormatError(f"{where} holds a damaged model: {error!r}; move it away") from None


def _in_order(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts in the order of `Model.summary`; the stored ones are sorted by name."""
    if not {"reason", "position", "features"} <= facts.keys():
        raise KeyError("reason, position or features")
    first = [key for key in _FIRST if key in facts]
    return {key: facts[key] for key in (*first, *(key for key in facts if key not in first))}
