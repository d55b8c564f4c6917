"""What a changed config may say of points once some were learned."""

from __future__ import annotations

from typing import Any

import pytest

from streamclust.errors import FormatError
from streamclust.formats.layout import Layout, PointsFormat

FIELDS = Layout("fields", None, None, ("x", "y"), 2, strict=True)
JSON = Layout("json", "json", None, (), 2, strict=False)
RAW = Layout("float64", "f8", "w", ("x", "y"), 2, strict=False)


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (FIELDS, {}),
        (FIELDS, {"format": "fields", "n_features": 2}),
        (FIELDS, {"format": "fields", "field": "ignored"}),
        (FIELDS, {"features": ("x", "y"), "field": "ignored"}),
        (JSON, {"format": "json", "field": "json", "n_features": 2}),
        (RAW, {"format": "float64", "weight_field": "w"}),
        (RAW, {"features": ("x", "y"), "weight_field": "w"}),
    ],
)
def test_what_was_found_may_be_named_and_left_out(layout: Layout, said: dict[str, Any]) -> None:
    found = layout.under(PointsFormat(**said), "key s")
    assert (found.format, found.field, found.features) == (
        layout.format,
        layout.field,
        layout.features,
    )


def test_names_may_be_given_to_features_without() -> None:
    assert JSON.under(PointsFormat(features=("a", "b")), "key s").features == ("a", "b")


def test_other_fields_are_ignored_from_when_the_features_are_named() -> None:
    assert FIELDS.under(PointsFormat(), "key s").strict
    assert not FIELDS.under(PointsFormat(features=("x", "y")), "key s").strict


@pytest.mark.parametrize(
    ("layout", "said", "text"),
    [
        (FIELDS, {"features": ("y", "x")}, r"points.features \['x', 'y'\], .* \['y', 'x'\]"),
        (FIELDS, {"features": ("x",)}, r"points.features \['x', 'y'\], .* \['x'\]"),
        (FIELDS, {"features": ("x", "z")}, r"points.features \['x', 'y'\], .* \['x', 'z'\]"),
        (FIELDS, {"n_features": 3}, "points.n_features 2, the config says 3"),
        (JSON, {"features": ("a", "b", "c")}, "points.n_features 2, the config says 3"),
        (FIELDS, {"format": "json"}, "points.format 'fields', the config says 'json'"),
        (FIELDS, {"format": "float32"}, "points.format 'fields', the config says 'float32'"),
        (RAW, {"format": "float32", "weight_field": "w"}, "points.format 'float64', .* 'float32'"),
        (FIELDS, {"field": "json"}, "points.field None, the config says 'json'"),
        (JSON, {"field": "other"}, "points.field 'json', the config says 'other'"),
        (JSON, {"weight_field": "w"}, "points.weight_field None, the config says 'w'"),
        (RAW, {"weight_field": "v"}, "points.weight_field 'w', the config says 'v'"),
        (RAW, {}, "points.weight_field 'w', the config says None"),
    ],
)
def test_another_meaning_of_a_column_or_weight_is_refused(
    layout: Layout, said: dict[str, Any], text: str
) -> None:
    with pytest.raises(FormatError, match=f"^key s was learned with {text}: change it back, or"):
        layout.under(PointsFormat(**said), "key s")
