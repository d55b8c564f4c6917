"""Detection of the layout of all entries from the first entry and the configuration."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from streamclust.errors import DataError
from streamclust.formats.codecs import fields, json_text
from streamclust.formats.codecs.common import ALL_MISSING, Flat, one_value, show
from streamclust.formats.layout import (
    DEFAULT_FIELD,
    DIMENSION_FIELD,
    RAW_DTYPE,
    EntryFormat,
    Layout,
    PointsFormat,
)
from streamclust.number_text import is_missing, number_hint
from streamclust.text import has_control

_ACTION = "set points.format"


def guess_layout(flat: Flat, spec: PointsFormat) -> Layout:
    """Return the layout of an entry, without a check of its values."""
    if not flat:
        raise DataError("empty entry")
    entry_format, field = (spec.format, spec.field) if spec.format != "auto" else _guess(flat, spec)
    layout = _LAYOUTS[entry_format](flat, replace(spec, format=entry_format, field=field))
    return replace(layout, directions=spec.directions, missing=spec.missing)


def _guess(flat: Flat, spec: PointsFormat) -> tuple[EntryFormat, str | None]:
    values = _without_weight(flat, spec)
    quantifier = any if spec.missing == "learn" else all
    if spec.features and quantifier(name.encode() in values for name in spec.features):
        return "fields", None
    if spec.field is not None:
        return _guess_from_value(one_value(flat, spec.field.encode()), spec.field)
    if b"json" in values:
        return "json", None
    if _are_numbers(values.values(), spec):
        # A value can be both text and a raw number.
        for raw in RAW_DTYPE:
            key = DEFAULT_FIELD[raw].encode()
            if set(values) - {DIMENSION_FIELD.encode()} == {key}:
                raise DataError(f"{show(values[key])} could be text or {raw}; {_ACTION}")
        return "fields", None
    return _guess_from_names(values, spec)


def _are_numbers(texts: Collection[bytes], spec: PointsFormat) -> bool:
    """Return whether all values are numbers; with missing values, all values that are present."""
    if spec.missing == "reject":
        return all(map(fields.is_number, texts))
    present = [text for text in texts if not is_missing(text)]
    return bool(present) and all(map(fields.is_number, present))


def _without_weight(flat: Flat, spec: PointsFormat) -> dict[bytes, bytes]:
    values = dict(zip(flat[::2], flat[1::2], strict=True))
    if spec.weight_field is not None:
        values.pop(spec.weight_field.encode(), None)
    if not values:
        raise DataError("the entry has no field except the weight")
    return values


def _guess_from_names(
    values: dict[bytes, bytes], spec: PointsFormat
) -> tuple[EntryFormat, str | None]:
    for raw in ("float64", "float32"):
        if DEFAULT_FIELD[raw].encode() in values:
            return raw, None
    if spec.missing == "learn" and all(map(is_missing, values.values())):
        raise DataError(ALL_MISSING)
    if len(values) == 1:
        key, value = next(iter(values.items()))
        return _guess_from_value(value, name_of(key))
    key = next(key for key, value in values.items() if not fields.is_number(value))
    raise DataError(
        f"cannot tell the format: {show(key)} holds {show(values[key])}, not a number"
        f"{number_hint(values[key])}; {_ACTION}, or points.features to choose fields"
    )


def _guess_from_value(value: bytes, field: str) -> tuple[EntryFormat, str]:
    if value.lstrip()[:1] in (b"[", b"{"):
        return "json", field
    raise DataError(
        f"cannot tell the format of field {field!r} from {show(value)}{number_hint(value)}; "
        f"{_ACTION}"
    )


def name_of(key: bytes) -> str:
    """Return the name of a field as text, if it is allowed as the name of a feature."""
    try:
        name = key.decode()
    except UnicodeDecodeError:
        raise DataError(f"field name {show(key)} is not UTF-8; rename it") from None
    if has_control(name):
        raise DataError(f"field name {show(key)} has a control character; rename it")
    return name


def _fields_layout(flat: Flat, spec: PointsFormat) -> Layout:
    names = spec.features or tuple(map(name_of, _without_weight(flat, spec)))
    if spec.n_features not in (None, len(names)):
        raise DataError(f"{len(names)} feature fields, expected {spec.n_features}")
    return Layout("fields", None, spec.weight_field, names, len(names), strict=not spec.features)


def _block_layout(entry_format: EntryFormat, n_features: int, spec: PointsFormat) -> Layout:
    field = spec.field or DEFAULT_FIELD[entry_format]
    return Layout(entry_format, field, spec.weight_field, spec.features, n_features, strict=False)


def _json_layout(flat: Flat, spec: PointsFormat) -> Layout:
    n_features = spec.n_features or len(spec.features)
    if not n_features:
        text = one_value(flat, (spec.field or DEFAULT_FIELD["json"]).encode())
        n_features = json_text.vector_length(text, spec.missing)
    return _block_layout("json", n_features, spec)


def _raw_layout(entry_format: EntryFormat) -> Callable[[Flat, PointsFormat], Layout]:
    def layout(flat: Flat, spec: PointsFormat) -> Layout:
        n_features = spec.n_features or len(spec.features) or _raw_length(flat, entry_format, spec)
        return _block_layout(entry_format, n_features, spec)

    return layout


def _raw_length(flat: Flat, entry_format: EntryFormat, spec: PointsFormat) -> int:
    """Return D from the companion field; without this field the block is one point."""
    if DIMENSION_FIELD.encode() not in flat[::2]:
        value = one_value(flat, (spec.field or DEFAULT_FIELD[entry_format]).encode())
        return -(-len(value) // RAW_DTYPE[entry_format].itemsize) or 1
    text = one_value(flat, DIMENSION_FIELD.encode())
    if not (text.isdigit() and int(text[:9]) > 0):
        raise DataError(f"d={show(text)} is not a number of features")
    return int(text[:9])


_LAYOUTS: dict[EntryFormat, Callable[[Flat, PointsFormat], Layout]] = {
    "fields": _fields_layout,
    "json": _json_layout,
    "float32": _raw_layout("float32"),
    "float64": _raw_layout("float64"),
}
