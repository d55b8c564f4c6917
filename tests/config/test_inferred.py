"""The kind of a section that names none is that of its keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamclust.config import Settings, load_settings


def settings(**sections: Any) -> Settings:
    model = {"kind": "kmeans", "n_clusters": 3, "streams": "x", **sections}
    return Settings.model_validate({"models": {"m": model}})


@pytest.mark.parametrize(
    ("section", "keys", "kind"),
    [
        ("init", {}, "warm_up"),
        ("init", None, "warm_up"),
        ("init", {"points": 200}, "warm_up"),
        ("init", {"restarts": 2}, "warm_up"),
        ("init", {"centroids": [[1], [2], [3]]}, "parameters"),
        ("init", {"path": "m.safetensors", "weight": 3}, "file"),
        ("forgetting", {}, "none"),
        ("forgetting", {"half_life": "10m"}, "time"),
        ("forgetting", {"half_life": "1.5h"}, "time"),
        ("forgetting", {"half_life": 1000}, "points"),
        ("forgetting", {"half_life": "1e6"}, "points"),
        ("forgetting", {"kappa": 0.7}, "power"),
        ("forgetting", {"average": True}, "power"),
        ("trim", {}, "none"),
        ("trim", {"age": "1d"}, "age"),
        ("trim", {"entries": 100}, "length"),
    ],
)
def test_the_keys_tell_the_kind(section: str, keys: dict[str, Any] | None, kind: str) -> None:
    assert getattr(settings(**{section: keys}).models["m"], section).kind == kind


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("half_life=10m", {"kind": "time", "half_life": "10m"}),
        ("half_life=70", {"kind": "points", "half_life": 70.0}),
        ("kind=points", {"kind": "points", "half_life": 50.0}),
        ("kind=none", {"kind": "none"}),
    ],
)
def test_a_flag_changes_a_section_whose_kind_is_inferred(
    tmp_path: Path, flag: str, expected: dict[str, Any]
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(
        "models: {m: {kind: kmeans, n_clusters: 3, streams: x, forgetting: {half_life: 50}}}"
    )
    found = load_settings(file, [f"models.m.forgetting.{flag}"], {})
    assert found.to_dict()["models"]["m"]["forgetting"] == expected
