"""Writes a commented settings file: chosen values, examples, and the meaning of each key."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import yaml

from streamclust.config.schema import ROOT, Type, field_type
from streamclust.config.strict_yaml import Keys

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


def _flow(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("...\n").strip()
