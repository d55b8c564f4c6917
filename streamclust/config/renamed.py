"""Old names of settings, which are still read for one release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamclust.config.sources import Layer
from streamclust.config.strict_yaml import Keys

RENAMED_KEYS: Mapping[Keys, str] = {("coreset", "reseeds"): "restarts"}
"""New name of a key, by the old path below a model."""

RENAMED_VALUES: Mapping[Keys, Mapping[object, str]] = {
    ("drift", "on_drift"): {"resolve": "recluster"}
}
"""New values by the old ones, by the path below a model."""


def with_new_names(layer: Layer) -> tuple[Layer, list[str]]:
    """Return the layer under the new names, and a line for each old name in it.

    A section that has a key under both names is left unchanged, so that the old one is refused.
    """
    lines: list[str] = []
    for name in layer.model_names:
        for (section, old), new in RENAMED_KEYS.items():
            path = ("models", name, section)
            keys = _section(layer.values, path)
            if old in keys and new not in keys:
                lines.append(_line(layer, (*path, old), f"{old} is now called {new}"))
                layer = _with_key(layer, path, old, new)
        for (section, key), values in RENAMED_VALUES.items():
            path = ("models", name, section)
            old_value = _section(layer.values, path).get(key)
            if isinstance(old_value, str) and old_value in values:
                new = values[old_value]
                lines.append(_line(layer, (*path, key), f"{old_value} is now called {new}"))
                layer = Layer(_replaced(layer.values, (*path, key), new), layer.origins)
    return layer, lines


def _section(values: Any, path: Keys) -> dict[str, Any]:
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    return values if isinstance(values, dict) else {}


def _with_key(layer: Layer, path: Keys, old: str, new: str) -> Layer:
    keys = _section(layer.values, path)
    section = {new if key == old else key: value for key, value in keys.items()}
    origins = {
        (*path, new) if keys == (*path, old) else keys: origin
        for keys, origin in layer.origins.items()
    }
    return Layer(_replaced(layer.values, path, section), origins)


def _replaced(values: dict[str, Any], path: Keys, new: Any) -> dict[str, Any]:
    """Return a copy with another value at `path`; an alias in the file may share the original."""
    first, *rest = path
    return values | {first: _replaced(values[first], tuple(rest), new) if rest else new}


def _line(layer: Layer, path: Keys, change: str) -> str:
    place = ".".join(path)
    return f"{layer.origins.get(path, 'settings')}: {place}: {change}; the next release refuses it"
