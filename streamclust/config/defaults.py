"""Settings that all models share: the section `defaults`."""

from __future__ import annotations

from typing import Any, get_args

from streamclust.config.merging import merge
from streamclust.config.model import ModelSettings
from streamclust.config.placeholders import has_placeholder
from streamclust.config.templates import ONLY_TEMPLATES

NO_DEFAULTS = ("streams", "overrides")
"""Settings that each model has of its own."""

_KINDS = {
    section.model_fields["kind"].default: section
    for section in get_args(get_args(ModelSettings)[0])
}


def default_keys() -> list[str]:
    """Return the keys that `defaults` may have."""
    keys = dict.fromkeys(key for section in _KINDS.values() for key in section.model_fields)
    return [key for key in keys if key not in NO_DEFAULTS]


def with_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of all settings with each model completed by `defaults`."""
    defaults, models = values.get("defaults"), values.get("models")
    if not isinstance(defaults, dict) or not isinstance(models, dict):
        return values
    merged = {name: _with_defaults(name, model, defaults) for name, model in models.items()}
    return values | {"models": merged}


def _with_defaults(name: str, model: Any, defaults: dict[str, Any]) -> Any:
    if not isinstance(model, dict):
        return model
    kind = _KINDS.get(model.get("kind", defaults.get("kind")))
    known = [] if kind is None else list(kind.model_fields)
    used = {
        key: value
        for key, value in defaults.items()
        if key not in NO_DEFAULTS
        and (key in known or kind is None)
        and (has_placeholder(name) or key not in ONLY_TEMPLATES)
    }
    return merge(used, model, ("models", name))
