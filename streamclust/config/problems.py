"""Messages for wrong settings: one line per problem, with place, value and remedy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from streamclust.config.schema import ROOT, Type, allowed, is_secret, resolve, step
from streamclust.config.sources import PREFIX, Layer
from streamclust.config.values import Name
from streamclust.store.model.keys import is_own

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from streamclust.config.settings import Settings

_NOT_A_SECTION = ("model_type", "model_attributes_type", "dict_type", "mapping_type")
_LONGEST = 60
_OTHER_NAMES = {"gmm": "gaussian_mixture", "mixture": "gaussian_mixture", "em": "gaussian_mixture"}
"""Values by other usual names, which the spelling alone doesn't suggest."""
_ENCODED = ("encode", "streams")


def stray_keys(layer: Layer) -> Iterator[str]:
    """Yield a line for each key at the top that isn't a setting."""
    for key in layer.values:
        if key not in ROOT.keys:
            yield _unknown((key,), ROOT, _origin((key,), layer, "settings"))


def problems(error: ValidationError, layer: Layer, source: str) -> Iterator[str]:
    """Yield a line for each error of pydantic; `source` is the place if no better one is known."""
    for details in error.errors(include_url=False):
        path, parents = _walk(details["loc"])
        if details["type"] == "union_tag_invalid":
            path = (*path, "kind")
        origin = _origin(path, layer, source)
        if details["type"] == "extra_forbidden":
            yield _unknown(path, parents[-2], origin)
        elif details["type"] == "union_tag_not_found":
            yield _without_kind(path, parents[-1], origin, layer)
        else:
            yield f"{origin}: {_place(path)}: {_problem(details, path, parents[-1])}"


def own_streams(settings: Settings, layer: Layer, source: str) -> Iterator[str]:
    """Yield a line for each input stream that is a key of streamclust."""
    for name, model in settings.models.items():
        for keys, streams in ((("streams",), model.streams), (_ENCODED, model.encode.streams)):
            path = ("models", name, *keys)
            for stream in streams:
                if is_own(stream, settings.namespace):
                    yield (
                        f"{_origin(path, layer, source)}: {_place(path)}: {stream!r} is a key that "
                        "streamclust writes; name the stream that your producers write"
                    )


def _walk(loc: Iterable[int | str]) -> tuple[tuple[str, ...], list[Type]]:
    """Return the path of keys, without the kinds that pydantic inserts, and the type of each."""
    path: list[str] = []
    types = [ROOT]
    for part in loc:
        if part in types[-1].kinds:
            types[-1] = Type(types[-1].kinds[str(part)])
        elif part == "[key]":
            types[-1] = resolve(Name)
        else:
            path.append(str(part))
            types.append(step(types[-1], str(part)) or Type(object))
    return tuple(path), types


def _origin(path: tuple[str, ...], layer: Layer, source: str) -> str:
    """Return the file and line, variable or flag of the value at `path`, or of the nearest one."""

    def nearness(other: tuple[str, ...]) -> tuple[int, int]:
        shared = next(
            (i for i, (a, b) in enumerate(zip(path, other, strict=False)) if a != b),
            min(len(path), len(other)),
        )
        return shared, -len(other)

    nearest = max(layer.origins, key=nearness, default=())
    return layer.origins[nearest] if nearness(nearest)[0] else source


def _unknown(path: tuple[str, ...], parent: Type, origin: str) -> str:
    near = _near(path[-1], parent.keys)
    parts = origin.removeprefix(PREFIX).split("__")
    if origin.startswith(PREFIX) and len(path) <= len(parts):  # else the key is inside an object
        parts[len(path) - 1] = near.upper()
        other = f"did you mean {PREFIX}{'__'.join(parts)}?"
        return f"{origin}: unknown variable; {other if near else 'see `streamclust config show`'}"
    hint = f"did you mean {near}? " if near else ""
    known = ", ".join(parent.keys)
    return f"{origin}: {_place(path)}: unknown key; {hint}allowed: {known}"


def _without_kind(path: tuple[str, ...], choice: Type, origin: str, layer: Layer) -> str:
    kinds = " | ".join(choice.kinds)
    if path[0] == "models" and len(path) == 2 and path not in layer.origins:
        near = _near(path[1], [name for name in layer.model_names if name != path[1]])
        hint = f"did you mean {near}?" if near else f"a new model needs a kind: {kinds}"
        return f"{origin}: {_place(path)}: unknown model; {hint}"
    return f"{origin}: {_place(path)}.kind: missing; expected {kinds}"


def _problem(details: ErrorDetails, path: Sequence[str], kind: Type) -> str:
    value, error = details["input"], details["type"]
    if error == "missing":
        return f"missing; expected {allowed(kind)}"
    if error == "value_error":
        reason = str(details["ctx"]["error"])
        return reason if isinstance(value, dict | list) else f"got {_shown(path, value)}; {reason}"
    if error in _NOT_A_SECTION:
        key = _key_of(value, kind)
        if not key:
            return f"got {_form(value)}; expected keys with values"
        return f"got {value!r}; expected keys with values; write {path[-1]}: {{{key}: {value}}}"
    if error == "union_tag_invalid":
        value = details["ctx"]["tag"]
    expected = " | ".join(kind.kinds) or allowed(kind)
    near = _near(str(value), expected.split(" | ")) if " | " in expected else ""
    hint = f"; did you mean {near}?" if near else ""
    return f"got {_shown(path, value)}; expected {expected}{hint}"


def _key_of(value: object, section: Type) -> str:
    """Return the key of the section that accepts this word, or ""."""
    if not isinstance(value, str):
        return ""
    if value in section.kinds:
        return "kind"
    keys = ((key, step(section, key)) for key in section.keys)
    return next((key for key, kind in keys if kind and value in allowed(kind).split(" | ")), "")


def _near(word: str, known: Sequence[str]) -> str:
    other = _OTHER_NAMES.get(word.lower(), "")
    return other if other in known else next(iter(get_close_matches(word.lower(), known, n=1)), "")


def _form(value: object) -> str:
    if isinstance(value, dict):
        return "keys with values"
    return "a list" if isinstance(value, list | tuple) else "one value"


def _shown(path: Sequence[str], value: object) -> str:
    """Return `value` for a message: short, and without a possible password."""
    if isinstance(value, dict | list | tuple):
        return _form(value)
    if is_secret(path):
        return "***"
    if isinstance(value, str):
        return _shortened(repr(_without_password(value)))
    return "null" if value is None else _shortened(str(value).lower())


def _place(path: Iterable[str]) -> str:
    return ".".join(_shortened(key) for key in path)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _without_password(text: str) -> str:
    """Return `text` without the parts that hold the password if it is the URL of a server."""
    if "@" not in text and "://" not in text:
        return text
    _, at, host = text.rpartition("@")
    return f"{'***@' if at else ''}{host.partition('?')[0]}"
