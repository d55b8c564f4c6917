"""The layout of points in the entries of a stream: as configured, and as detected.

==========  =====================================================  =================
format      an entry                                               points per entry
==========  =====================================================  =================
fields      ``x 1.5 y 2``: one field per feature, numbers as text  one
json        ``json [1.5,2]`` or ``json [[1.5,2],[3,4]]``,          one, or a block
            or objects by feature name
float32     ``f4 <bytes>``: little-endian, shape (n, D), C order   a block
float64     ``f8 <bytes>``: as float32                             a block
==========  =====================================================  =================

A raw block can have its D in a second field ``d`` (an ASCII integer), which is then checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from streamclust.arrays import MAX_MAGNITUDE, Missing
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
    """The configured format of the entries. Values that aren't set are detected.

    Parameters
    ----------
    format
        A format of the table above, or "auto".
    field
        Field of the JSON text or the raw bytes. Default: ``json``, ``f4`` or ``f8``.
    weight_field
        Field of the weights; None if points have no weights.
    features
        Names of the features, in the order of the model. If given, other fields are ignored.
    n_features
        D, for entries that don't contain it: raw blocks without the field ``d``.
    directions
        Whether points are directions (metric cosine): zero vectors are refused, and any finite
        magnitude is accepted.
    missing : 'reject' or 'learn'
        Whether a point with missing values is refused, or its missing values become NaN.
    """

    format: Literal["auto", "fields", "json", "float32", "float64"] = "auto"
    field: str | None = None
    weight_field: str | None = None
    features: tuple[str, ...] = ()
    n_features: int | None = None
    directions: bool = False
    missing: Missing = "reject"

    @property
    def max_magnitude(self) -> float:
        """Largest magnitude of a number."""
        return _max_magnitude(self.directions)


@dataclass(frozen=True)
class Layout:
    """The layout of all entries, detected from the first good entry.

    Parameters
    ----------
    format
        Format of each entry.
    field
        Field of the JSON text or the raw bytes; None for named fields.
    weight_field
        Field of the weights; None if points have no weights.
    features
        Names of the features; empty if they have no names.
    n_features
        D.
    strict
        Whether the names were detected. If so, an entry with an unexpected field is refused.
    directions, missing
        As in `PointsFormat`.
    """

    format: EntryFormat
    field: str | None
    weight_field: str | None
    features: tuple[str, ...]
    n_features: int
    strict: bool
    directions: bool = False
    missing: Missing = "reject"

    def __post_init__(self) -> None:
        if self.n_features < 1:
            raise DataError(f"n_features is {self.n_features}, expected 1 or more")
        if self.features and len(self.features) != self.n_features:
            raise DataError(
                f"{len(self.features)} feature names for {self.n_features} features; "
                "make points.features and n_features agree"
            )
        if self.weight_field is not None and self.weight_field in self._other_fields:
            raise DataError(
                f"weight field {self.weight_field!r} is already used in the entry; use another "
                "field for the weights"
            )

    @property
    def _other_fields(self) -> tuple[str | None, ...]:
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

    @property
    def max_magnitude(self) -> float:
        """Largest magnitude of a number."""
        return _max_magnitude(self.directions)

    @property
    def learns_missing(self) -> bool:
        """Whether points with missing values are learned."""
        return self.missing == "learn"

    def feature(self, index: int) -> str:
        """Return the name of a feature for a message: its quoted name, or its index."""
        return repr(self.features[index]) if self.features else str(index)

    def under(self, spec: PointsFormat, where: str) -> Layout:
        """Return the layout after a change of the configuration.

        The configuration may omit a value, repeat the detected one, or give names to features
        without names. Another meaning of a column or a weight is refused.

        Parameters
        ----------
        spec : PointsFormat
            Format in the new configuration.
        where : str
            Name of the learned data for the error: a key, or a version of a model.

        Raises
        ------
        FormatError
            If the configuration contradicts the layout.
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
        for name, learned, configured, fits in checks:
            if not fits:
                raise _changed(name, learned, configured, where)
        check_columns(self.features, self.n_features, spec, where)
        return replace(
            self,
            features=self.features or spec.features,
            strict=self.strict and not spec.features,
            directions=spec.directions,
            missing=spec.missing,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a dict for JSON."""
        stored = asdict(self) | {"features": list(self.features)}
        if not self.directions:
            del stored["directions"]  # as in layouts from before metrics
        if self.missing == "reject":
            del stored["missing"]
        return stored

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Layout:
        """Return the layout in a dict of `to_dict`."""
        try:
            return cls(**{**stored, "features": tuple(stored["features"])})
        except (KeyError, TypeError) as error:
            raise FormatError(f"stored layout of points can't be read: {error}") from error


def _max_magnitude(directions: bool) -> float:
    return float(np.finfo(np.float64).max) if directions else MAX_MAGNITUDE


def check_columns(
    features: tuple[str, ...], n_features: int, spec: PointsFormat, where: str
) -> None:
    """Refuse a configuration whose number or names of columns differ from the learned ones.

    Raises
    ------
    FormatError
        If the number or the names differ. The message names `where`: a key, or a version of a
        model.
    """
    if spec.features and features and spec.features != features:
        raise _changed("features", list(features), list(spec.features), where)
    if spec.features and len(spec.features) != n_features:
        raise _changed("n_features", n_features, len(spec.features), where)
    if spec.n_features not in (None, n_features):
        raise _changed("n_features", n_features, spec.n_features, where)


def _changed(name: str, learned: Any, configured: Any, where: str) -> FormatError:
    return FormatError(
        f"{where} was learned with points.{name} {learned!r}, the config says {configured!r}: "
        "change it back, or give the model a new name"
    )
