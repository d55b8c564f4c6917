"""Writes settings as YAML: a first file with comments and examples, and all settings in use."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import yaml
from pydantic import BaseModel

from streamclust.config.load import parse_settings
from streamclust.config.schema import ROOT, Type, field_type
from streamclust.config.settings import Settings
from streamclust.config.strict_yaml import Keys
from streamclust.config.templates import Models
from streamclust.models import FAMILIES
from streamclust.models.family import by_kind, size_name

WIDTH = 80

Tree: TypeAlias = Mapping[str, Any]

_HEAD = """\
# Settings of streamclust. Lines that begin with # and a space are explanations.
# Lines that begin with # and a key are examples: remove the # to use them.
# All keys: streamclust config reference
# Check this file and the server: streamclust config check --connect
"""


def commented(chosen: Tree, examples: Tree, notes: Mapping[Keys, str] | None = None) -> str:
    """Return a settings file.

    Parameters
    ----------
    chosen : nested mapping
        The settings, as in a file.
    examples : nested mapping
        More settings, which are written as comments. A section can be in both.
    notes : mapping of tuple of str to str, optional
        A comment for a key, by its path; written after its meaning.
    """
    lines = _section([ROOT], chosen, examples, notes or {}, ())
    return "\n".join([_HEAD, *lines]) + "\n"


def _section(
    parents: Sequence[Type], chosen: Tree, examples: Tree, notes: Mapping[Keys, str], path: Keys
) -> Iterator[str]:
    """Yield the lines of a section: its chosen keys first, then its examples."""
    pad = "  " * len(path)
    for number, key in enumerate(dict.fromkeys((*chosen, *examples))):
        if number:
            yield ""
        value = chosen.get(key, examples.get(key))
        meaning, below = _meaning(parents, key, chosen.get("kind"))
        for text in filter(None, (meaning, notes.get((*path, key)))):
            yield from (f"{pad}# {line}" for line in textwrap.wrap(text, WIDTH - len(pad) - 2))
        if key not in chosen:
            yield from (f"{pad}#{line}" for line in _plain({key: value}))
        elif isinstance(value, Mapping):
            yield f"{pad}{_flow(key)}:"
            yield from _section(below, value, examples.get(key, {}), notes, (*path, key))
        else:
            yield f"{pad}{_flow(key)}: {_flow(value)}"


def _meaning(parents: Sequence[Type], key: str, kind: object) -> tuple[str, list[Type]]:
    """Return the description of a key, and the types of the keys below it."""
    for parent in parents:
        if parent.item is not None:
            return "", [parent.item]
        chosen = parent.kinds.get(str(kind))
        for section in (chosen,) if chosen else parent.sections:
            field = section.model_fields.get(key)
            if field is not None:
                return field.description or "", [field_type(field)]
    raise KeyError(key)


def _plain(tree: Tree) -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield f"{_flow(key)}:"
            yield from (f"  {line}" for line in _plain(value))
        else:
            yield f"{_flow(key)}: {_flow(value)}"


_EXAMPLES: dict[str, Any] = {
    "points": {"features": ["temperature", "load"]},
    "forgetting": {"kind": "points", "half_life": 100_000},
    "encode": True,
    "anomaly": {"rate": 0.001},
    "publish": {"every": "5s"},
    "trim": {"kind": "age", "age": "7d"},
    "drift": {"detector": "page_hinkley"},
}


def starter_file(
    name: str,
    model: Mapping[str, Any],
    notes: Mapping[str, str] | None = None,
    url: str = "embedded",
) -> str:
    """Return a commented settings file with one model.

    Parameters
    ----------
    name : str
        Name of the model.
    model : mapping
        Settings of the model, as in a file; ``n_components`` stands for K in all kinds.
    notes : mapping of str to str, optional
        A comment for a key of the model.
    url : str, default='embedded'
        The server.

    Raises
    ------
    ConfigError
        If the settings are wrong.
    """
    size = size_name(by_kind(FAMILIES, model["kind"], "FAMILIES"))
    chosen = {size if key == "n_components" else key: value for key, value in model.items()}
    sizes = {f"{size}_range": [2, 50]} if chosen[size] == "auto" else {}
    examples = {key: value for key, value in (sizes | _EXAMPLES).items() if key not in chosen}
    by_path: dict[Keys, str] = {
        ("models", name, size if key == "n_components" else key): note
        for key, note in (notes or {}).items()
        if note
    }
    server = {"data_dir": ".streamclust"} if url == "embedded" else {}
    text = commented(
        {"redis": {"url": url}, "models": {name: chosen}},
        {"redis": server, "models": {name: examples}, "log": {"level": "info"}},
        by_path,
    )
    parse_settings(text, "the new settings")
    return text


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
    entries = section.entries if isinstance(section, Models) else section
    for key, value in plain.items():
        comment = f"# {fields[key].description}" if key in fields else ""
        inner = getattr(section, key) if key in fields else entries[key]
        if isinstance(value, dict) and value:
            yield f"{pad}{_flow(key)}:  {comment}".rstrip()
            yield from _described(inner, value, pad + "  ")
        else:
            yield f"{pad}{_flow(key)}: {_flow(value)}  {comment}".rstrip()


def _flow(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("...\n").strip()
