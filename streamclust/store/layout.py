"""How points lie in the entries of a stream: what the config says, and what an entry shows.

==========  =====================================================  =================
format      an entry                                               points an entry
==========  =====================================================  =================
fields      ``x 1.5 y 2``: a field a feature, numbers as text      one
json        ``json [1.5,2]`` or ``json [[1.5,2],[3,4]]``,          one, or a block
            or objects by feature name
float32     ``f4 <bytes>``: little-endian, shape (n, D), C order   a block
float64     ``f8 <bytes>``: the same                               a block
==========  =====================================================  =================

A raw block may carry its D in a companion field ``d`` (an ASCII integer), which is then checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from streamclust.errors import DataError, FormatError

EntryFormat = Literal["fields", "json", "float32", "float64"]
ENTRY_FORMATS: tuple[EntryFormat, ...] = ("fields", "json", "float32", "float64")
DEFAULT_FIELD: dict[EntryFormat, str] = {"json": "json", "float32": "f4", "float64": "f8"}
RAW_DTYPE: dict[EntryFormat, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
}
DIMENSION_FIELD = "d"


@dataclass(frozen=True)
class PointsFormat:
    """What the config says about the entries; the rest is detected.

    Parameters
    ----------
    format
        One of the formats above, or "auto".
    field
        The field of the JSON text or the raw bytes; by default ``json``, ``f4`` or ``f8``.
    weight_field
        The field of the weights; None when points have none.
    features
        The names of the features, in the order of the model. Other fields are then ignored.
    n_features
        D, where no entry says it: raw blocks without the companion field.
    """

    format: Literal["auto", "fields", "json", "float32", "float64"] = "auto"
    field: str | None = None
    weight_field: str | None = None
    features: tuple[str, ...] = ()
    n_features: int | None = None


@dataclass(frozen=True)
class Layout:
    """What is known of the entries once the first good one was seen.

    Parameters
    ----------
    format
        The format of every entry.
    field
        The field of the JSON text or the raw bytes; None for named fields.
    weight_field
        The field of the weights; None when points have none.
    features
        The names of the features; empty when nobody named them.
    n_features
        D.
    strict
        The names were taken from an entry, so that an unexpected field makes its entry dead.
    """

    format: EntryFormat
    field: str | None
    weight_field: str | None
    features: tuple[str, ...]
    n_features: int
    strict: bool

    def __post_init__(self) -> None:
        if self.n_features < 1:
            raise DataError(f"n_features is {self.n_features}, expected 1 or more")
        if self.features and len(self.features) != self.n_features:
            raise DataError(
                f"{len(self.features)} feature names for {self.n_features} features; "
                "make points.features and n_features agree"
            )
        if self.weight_field is not None and self.weight_field in self._taken:
            raise DataError(
                f"weight field {self.weight_field!r} has another meaning in the entry; "
                "give the weights a field of their own"
            )

    @property
    def _taken(self) -> tuple[str | None, ...]:
        companion = (DIMENSION_FIELD,) if self.format in RAW_DTYPE else ()
        return (*self.features, self.field, *companion)

    @cached_property
    def field_key(self) -> bytes:
        """The field of the JSON text or the raw bytes, as the server sends it."""
        return (self.field or "").encode()

    @cached_property
    def weight_key(self) -> bytes | None:
        """The field of the weights, as the server sends it."""
        return None if self.weight_field is None else self.weight_field.encode()

    @cached_property
    def feature_keys(self) -> list[bytes]:
        """The names of the features, as the server sends them."""
        return [name.encode() for name in self.features]

    @cached_property
    def entry_keys(self) -> list[bytes]:
        """Every field of an entry of named fields: the features, then the weight."""
        weight = [] if self.weight_key is None else [self.weight_key]
        return self.feature_keys + weight

    def feature(self, index: int) -> str:
        """Return how a message calls a feature: its name, or its number."""
        return repr(self.features[index]) if self.features else str(index)

    def under(self, spec: PointsFormat, where: str) -> Layout:
        """Return the layout as the config may change it once points were learned.

        The config may leave a value out, or name the one that was found. It may give names to
        features that have none. What would give a column or a weight another meaning is refused.

        Parameters
        ----------
        spec : PointsFormat
            What the config says now.
        where : str
            What was learned, for the error's text: a key, or a version of a model.

        Raises
        ------
        FormatError
            If the config contradicts the layout.
        """
        named = spec.format != "auto" or bool(spec.features)
        same_field = spec.field in (None, self.field) or (self.field is None and named)
        checks: tuple[tuple[str, Any, Any, bool], ...] = (
            ("format", self.format, spec.format, spec.format in ("auto", self.format)),
            ("field", self.field, spec.field, same_field),
            (
                "weight_field",
                self.weight_field,
                spec.weight_field,
                spec.weight_field == self.weight_field,
            ),
        )
        for name, learned, wanted, fits in checks:
            if not fits:
                raise _changed(name, learned, wanted, where)
        check_columns(self.features, self.n_features, spec, where)
        return replace(
            self,
            features=self.features or spec.features,
            strict=self.strict and not spec.features,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a dict that JSON can hold."""
        return asdict(self) | {"features": list(self.features)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Layout:
        """Return the layout that `to_dict` wrote."""
        try:
            return cls(**{**stored, "features": tuple(stored["features"])})
        except (KeyError, TypeError) as error:
            raise FormatError(f"stored layout of points can't be read: {error}") from error


def check_columns(
    features: tuple[str, ...], n_features: int, spec: PointsFormat, where: str
) -> None:
    """Refuse a config that gives the columns of what was learned another number or other names.

    Raises
    ------
    FormatError
        If it does. `where` is named: a key, or a version of a model.
    """
    if spec.features and features and spec.features != features:
        raise _changed("features", list(features), list(spec.features), where)
    if spec.features and len(spec.features) != n_features:
        raise _changed("n_features", n_features, len(spec.features), where)
    if spec.n_features not in (None, n_features):
        raise _changed("n_features", n_features, spec.n_features, where)


def _changed(name: str, learned: Any, wanted: Any, where: str) -> FormatError:
    return FormatError(
        f"{where} was learned with points.{name} {learned!r}, the config says {wanted!r}: "
        "change it back, or give the model a new name"
    )
