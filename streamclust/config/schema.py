"""The declared settings by path: the keys, and the values that each key accepts."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from streamclust.config.model import ModelSettings
from streamclust.config.settings import Settings
from streamclust.config.templates import Models
from streamclust.config.values import TEXT_WORDS, Allowed

_BOUNDS = {Gt: ">", Ge: ">=", Lt: "<", Le: "<="}
_WORDS = {bool: "true or false", str: TEXT_WORDS, SecretStr: TEXT_WORDS, Path: "a path"}


@dataclass(frozen=True)
class Type:
    """A type and its annotations, without ``Annotated`` and ``| None``.

    Parameters
    ----------
    base : object
        The bare type.
    metadata : tuple
        The annotations, innermost first.
    optional : bool
        Whether null is accepted.
    """

    base: Any
    metadata: tuple[Any, ...] = ()
    optional: bool = False

    @property
    def section(self) -> type[BaseModel] | None:
        """Return the class if this is a section, else None."""
        is_section = isinstance(self.base, type) and issubclass(self.base, BaseModel)
        return self.base if is_section else None

    @property
    def kinds(self) -> dict[str, type[BaseModel]]:
        """Return the class of each `kind` if this is a choice between sections."""
        if get_origin(self.base) not in (Union, types.UnionType):
            return {}
        return {kind_of(section): section for section in get_args(self.base)}

    @property
    def item(self) -> Type | None:
        """Return the type of the items of a mapping or a list, else None."""
        if self.base is Models:
            return type_of_models()
        if get_origin(self.base) is Mapping:
            return resolve(get_args(self.base)[1])
        return resolve(get_args(self.base)[0]) if get_origin(self.base) is tuple else None

    @property
    def sections(self) -> tuple[type[BaseModel], ...]:
        """Return all sections that a value may be."""
        return (self.section,) if self.section else tuple(self.kinds.values())

    @property
    def keys(self) -> list[str]:
        """Return all keys that a value may have, in order."""
        return list(dict.fromkeys(key for s in self.sections for key in s.model_fields))


def kind_of(section: type[BaseModel]) -> str:
    """Return the `kind` of this section, or "" if the section has no kind."""
    field = section.model_fields.get("kind")
    return str(get_args(field.annotation)[0]) if field else ""


def resolve(annotation: Any, metadata: Sequence[Any] = ()) -> Type:
    """Return the type of an annotation."""
    if get_origin(annotation) is Annotated:
        inner, *outer = get_args(annotation)
        return resolve(inner, (*outer, *metadata))
    members = get_args(annotation)
    if get_origin(annotation) in (Union, types.UnionType) and type(None) in members:
        some = resolve(next(m for m in members if m is not type(None)), metadata)
        return Type(some.base, some.metadata, optional=True)
    return Type(annotation, tuple(metadata))


def field_type(field: FieldInfo) -> Type:
    """Return the type of a field."""
    return resolve(field.annotation, field.metadata)


ROOT = Type(Settings)


def step(parent: Type, key: str, kind: object = None) -> Type | None:
    """Return the type of `key` below `parent`, or None if it has no such key.

    `kind` chooses between sections; without it, the first that has the key counts.
    """
    if parent.item is not None:
        return parent.item
    if parent == ROOT and key == "defaults":
        return type_of_models()
    chosen = parent.kinds.get(str(kind))
    for section in (chosen,) if chosen else parent.sections:
        if key in section.model_fields:
            return field_type(section.model_fields[key])
    return None


def type_of_models() -> Type:
    """Return the type of one model."""
    return Type(get_args(ModelSettings)[0])


def type_at(path: Sequence[str]) -> Type | None:
    """Return the type of the setting at `path`, or None if there is no such setting."""
    found: Type | None = ROOT
    for key in path:
        found = step(found, key) if found else None
    return found


def is_secret(path: Sequence[str]) -> bool:
    """Return whether the value at `path` may not be shown."""
    found = type_at(path)
    return found is not None and found.base is SecretStr


def allowed(kind: Type) -> str:
    """Return in words the values that a type accepts, such as "an integer >= 1".

    Of two bounds of one kind the outer annotation counts.
    """
    parts = [part for m in kind.metadata for part in getattr(m, "metadata", [m])]
    bounds = {type(part): part for part in parts}
    limits = [
        f"{word} {_limit(getattr(bounds[bound], bound.__name__.lower()))}"
        for bound, word in _BOUNDS.items()
        if bound in bounds
    ]
    text = f"{_words(kind)} {' and '.join(limits)}".strip()
    return f"{text}, or null" if kind.optional else text


def _limit(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _words(kind: Type) -> str:
    for marker in kind.metadata:
        if isinstance(marker, Allowed):
            return marker.text
    if get_origin(kind.base) is Literal:
        return " | ".join(get_args(kind.base))
    if get_origin(kind.base) is tuple:
        return "a list of texts"
    return _WORDS.get(kind.base, "keys with values")
