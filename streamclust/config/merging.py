"""Merges trees of settings: layers, defaults of models, overrides of templates."""

from __future__ import annotations

from typing import Any

from streamclust.config.inferred import KINDS, kind_of_keys
from streamclust.config.strict_yaml import Keys


def merge(below: Any, above: Any, path: Keys = ()) -> Any:
    """Merge two trees of values; `above` has priority.

    Mappings are merged; other values are replaced. If the `kind` of a model's `forgetting`, `init`
    or `trim` changes, the whole section is replaced, since its other keys belong to the old kind.
    Without a `kind`, the keys decide; `half_life` is a key of two kinds.
    """
    below, above = _as_section(below, path), _as_section(above, path)
    if not isinstance(above, dict) or below is None:
        return above
    if not isinstance(below, dict):
        return below  # not a section: unchanged, so that validation refuses it
    if len(path) == 3 and path[2] in KINDS and _kind_changes(path[2], below, above):
        return above
    return below | {key: merge(below.get(key), above[key], (*path, key)) for key in above}


def _as_section(value: Any, path: Keys) -> Any:
    """Return ``encode: true`` of a model as a section, so that other layers can add to it."""
    if len(path) == 3 and path[2] == "encode" and value in (True, False, "true", "false"):
        return {"worker": value}
    return value


def _kind_changes(name: str, below: dict[str, Any], above: dict[str, Any]) -> bool:
    kinds = {kind_of_keys(name, below), kind_of_keys(name, above)}
    if "kind" in above:
        return len(kinds) == 2
    return bool(above) and "" not in kinds and len(kinds) == 2 and kinds != {"points", "time"}
