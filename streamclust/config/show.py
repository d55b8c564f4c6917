"""Writes settings back as YAML."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel

from streamclust.config.settings import Settings
from streamclust.config.templates import Models


def as_yaml(settings: Settings, *, describe: bool = False) -> str:
    """Return all settings in use as a YAML file, with passwords masked.

    With `describe`, each key has its meaning as a comment.
    """
    if describe:
        return "\n".join(_described(settings, settings.to_dict(), "")) + "\n"
    return yaml.safe_dump(
        settings.to_dict(), sort_keys=False, default_flow_style=None, width=100, allow_unicode=True
    )


def _described(section: Any, plain: dict[str, Any], pad: str) -> Iterator[str]:
    """Yield the lines of a section; `plain` has its values as plain types."""
    fields = type(section).model_fields if isinstance(section, BaseModel) else {}
    for key, value in plain.items():
        comment = f"# {fields[key].description}" if key in fields else ""
        inner = getattr(section, key) if key in fields else _entries(section)[key]
        if isinstance(value, dict) and value:
            yield f"{pad}{_flow(key)}:  {comment}".rstrip()
            yield from _described(inner, value, pad + "  ")
        else:
            yield f"{pad}{_flow(key)}: {_flow(value)}  {comment}".rstrip()


def _entries(section: Any) -> Any:
    return section.entries if isinstance(section, Models) else section


def _flow(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("...\n").strip()
