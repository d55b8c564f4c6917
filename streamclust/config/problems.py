"""Messages for wrong settings: one line per problem, with place, value and remedy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from streamclust.config.defaults import NO_DEFAULTS, default_keys
from streamclust.config.hints import (
    kinds_with,
    near_key,
    near_value,
    other_key,
    other_places,
    short_form,
)
from streamclust.config.inferred import kind_of_keys
from streamclust.config.placeholders import StreamPattern, has_placeholder
from streamclust.config.schema import (
    ROOT,
    Type,
    allowed,
    is_secret,
    resolve,
    step,
    type_of_models,
)
from streamclust.config.sources import PREFIX, Layer
from streamclust.config.values import Name
from streamclust.store.model.keys import is_own
from streamclust.store.server.url import masked_url

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from streamclust.config.settings import Settings

_NOT_A_SECTION = ("model_type", "model_attributes_type", "dict_type", "mapping_type")
_LONGEST = 60
_KIND_KEYS = {
    "n_clusters": "K-means",
    "n_clusters_range": "K-means",
    "n_components": "a mixture",
    "n_components_range": "a mixture",
}
"""The kind of model that has a key, in words."""
_ENCODED = ("encode", "streams")

_BOOLEAN_WORDS = {"yes": "true", "on": "true", "no": "false", "off": "false"}
"""Texts that other readers of YAML take as true or false."""

ANCHORS = "x-"
"""Beginning of keys at the top that hold only anchors of YAML."""


_UNNAMED = "a model has a name above its keys; write models: {NAME: {kind: ...}}"


def stray_keys(layer: Layer) -> Iterator[str]:
    """Yield a line for each key at the top that isn't a setting."""
    for key, value in layer.values.items():
        if key not in ROOT.keys and not key.startswith(ANCHORS):
            yield _unknown((key,), ROOT, _origin((key,), layer, "settings"), layer, value)
    given = layer.values.get("defaults")
    defaults = given if isinstance(given, dict) else {}
    known, kind = default_keys(), type_of_models()
    for key in defaults:
        path = ("defaults", key)
        if key in NO_DEFAULTS:
            origin = _origin(path, layer, "settings")
            yield f"{origin}: {_place(path)}: each model has its own {key}"
        elif key not in known:
            yield _unknown(path, kind, _origin(path, layer, "settings"), layer, defaults[key])


def problems(error: ValidationError, layer: Layer, source: str) -> Iterator[str]:
    """Yield a line for each error of pydantic; `source` is the place if no better one is known."""
    found = [(details, *_walk(details["loc"])) for details in error.errors(include_url=False)]
    meant = {
        (*path[:-1], near_key(path[-1], parents[-2].keys))
        for details, path, parents in found
        if details["type"] == "extra_forbidden"
    }
    unnamed = False
    places = {place for _, place, _ in found}
    for details, place, parents in found:
        path = (*place, "kind") if details["type"] == "union_tag_invalid" else place
        # The setting is at its own path, or at that in `defaults`.
        shared = ("defaults", *(_of_template(path) or path)[2:])
        is_shared = len(shared) > 1 and path[0] == "models" and shared in layer.origins
        is_own = path in layer.origins or _of_template(path) in layer.origins
        path = shared if is_shared and not is_own else path
        origin = _origin(path, layer, source)
        if details["type"] == "missing" and path in meant:
            continue  # the line of the unknown key names this one
        if _of_template(path) in places and path not in layer.origins:
            continue  # an override has the errors of its template
        if len(path) == 2 and path[0] == "models" and path[1] in parents[-1].keys:
            if not unnamed:
                yield f"{origin}: {_place(path)}: {_UNNAMED}"
            unnamed = True
            continue
        if details["type"] == "extra_forbidden":
            yield _unknown(path, parents[-2], origin, layer, details["input"])
        elif details["type"] == "union_tag_not_found":
            yield _without_kind(path, parents[-1], origin, layer, details["input"])
        else:
            yield f"{origin}: {_place(path)}: {_problem(details, path, parents[-1], origin)}"


def own_streams(settings: Settings, layer: Layer, source: str) -> Iterator[str]:
    """Yield a line for each input stream that is a key of streamclust."""
    for name, model in settings.models.entries.items():
        for keys, streams in ((("streams",), model.streams), (_ENCODED, model.encode.streams)):
            path = ("models", name, *keys)
            for stream in streams:
                example = stream
                if has_placeholder(name):  # an example of the streams that the pattern matches
                    pattern = StreamPattern.parse(stream)
                    example = pattern.fill(dict.fromkeys(pattern.placeholders, "x"))
                if is_own(example, settings.namespace):
                    yield (
                        f"{_origin(path, layer, source)}: {_place(path)}: {stream!r} is a key that "
                        "streamclust writes; name the stream that your producers write"
                    )


def _of_template(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the path in the template of a setting in an override; () for other settings."""
    is_override = len(path) > 4 and path[0] == "models" and path[2] == "overrides"
    return (*path[:2], *path[4:]) if is_override else ()


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


def _unknown(
    path: tuple[str, ...], parent: Type, origin: str, layer: Layer, value: object = None
) -> str:
    key, place = path[-1], f"{origin}: {_place(path)}: unknown key; "
    other = other_key(key, parent.keys)
    near = near_key(key, parent.keys)
    elsewhere = [] if other else other_places(path, layer.model_names)
    parts = origin.removeprefix(PREFIX).split("__")
    if origin.startswith(PREFIX) and len(path) <= len(parts):  # else the key is inside an object
        parts[len(path) - 1] = near.upper()
        places = [each.upper().replace(".", "__") for each in elsewhere]
        hint = _one_of([f"{PREFIX}{each}" for each in places or ["__".join(parts)]])
        known = f"did you mean {hint}?" if places or near else "see `streamclust config show`"
        return f"{origin}: unknown variable; {known}"
    if other and key in _KIND_KEYS:
        shown = (
            f"; write {other}: {_format_value(path, value)}" if isinstance(value, int | str) else ""
        )
        return f"{place}{_KIND_KEYS[other]} has {other}{shown}"
    if kinds := kinds_with(path):
        return f"{place}only {' and '.join(kinds)} has {key}"
    if elsewhere:
        return f"{place}did you mean {_one_of(elsewhere)}?"
    hint = f"did you mean {near}? " if near else ""
    return f"{place}{hint}allowed: {', '.join(parent.keys)}"


def _one_of(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _without_kind(
    path: tuple[str, ...], choice: Type, origin: str, layer: Layer, value: object
) -> str:
    kinds = " | ".join(choice.kinds)
    if path[0] == "models" and len(path) == 2 and path not in layer.origins:
        near = near_key(path[1], [name for name in layer.model_names if name != path[1]])
        hint = f"did you mean {near}?" if near else f"a new model needs a kind: {kinds}"
        return f"{origin}: {_place(path)}: unknown model; {hint}"
    keys = value if isinstance(value, dict) else {}
    fitting = [
        kind
        for kind, section in choice.kinds.items()
        if any(key in section.model_fields and key in _KIND_KEYS for key in keys)
    ]
    hint = f"; write kind: {fitting[0]}" if len(fitting) == 1 else ""
    return f"{origin}: {_place(path)}.kind: missing; expected {kinds}{hint}"


def _problem(details: ErrorDetails, path: Sequence[str], kind: Type, origin: str) -> str:
    value, error = details["input"], details["type"]
    if error == "missing":
        return f"missing; expected {allowed(kind)}"
    if error == "value_error":
        reason = str(details["ctx"]["error"])
        return (
            reason
            if isinstance(value, dict | list)
            else f"got {_format_value(path, value)}; {reason}"
        )
    if error in _NOT_A_SECTION:
        return _not_a_section(path, value, kind, origin)
    if error == "too_short":
        example = "; write a name, such as streams: [points]" if path[-1] == "streams" else ""
        return f"got an empty list; expected {allowed(kind)}{example}"
    if error == "union_tag_invalid":
        value = details["ctx"]["tag"]
    expected = " | ".join(kind.kinds) or allowed(kind)
    near = near_value(str(value), expected)
    hint = f"; did you mean {near}?" if near else _hint(path, value, kind)
    return f"got {_format_value(path, value)}; expected {expected}{hint}"


def _not_a_section(path: Sequence[str], value: object, kind: Type, origin: str) -> str:
    key, text = short_form(path[-1], value, kind)
    if not key:
        example = "; write models: {NAME: {kind: ...}}" if path[-1] == "models" else ""
        if word := _BOOLEAN_WORDS.get(str(value).lower()):
            example = f"; write {path[-1]}: {word}"
        got = "null" if value is None else _form(value)
        return f"got {got}; expected keys with values{example}"
    shown = _shortened(_without_password(text))
    if origin.startswith(PREFIX):
        written = f"{PREFIX}{'__'.join((*path, key)).upper()}={shown}"
    elif origin.startswith("--set "):
        written = f"--set {'.'.join((*path, key))}={shown}"
    else:
        written = f"{path[-1]}: {{{key}: {shown}}}"
    return f"got {_format_value(path, value)}; expected keys with values; write {written}"


def _hint(path: Sequence[str], value: object, kind: Type) -> str:
    """Return what to write instead of a value that is right in another form, or ""."""
    if is_secret(path) or not isinstance(value, str | int | float):
        return ""
    if path[-1] == "half_life" and kind_of_keys("forgetting", {"half_life": value}) == "time":
        return "; for a duration, write kind: time"
    if kind.item is not None and not isinstance(value, bool):
        return f"; write {path[-1]}: [{_shortened(_without_password(str(value)))}]"
    return ""


def _form(value: object) -> str:
    if isinstance(value, dict):
        return "keys with values"
    return "a list" if isinstance(value, list | tuple) else "one value"


def _format_value(path: Sequence[str], value: object) -> str:
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
    return masked_url(text) if "@" in text or "://" in text else text
