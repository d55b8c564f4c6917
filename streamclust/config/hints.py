"""What a wrong key or value probably means: other usual names, other places, short forms."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches

from pydantic import ValidationError

from streamclust.config.schema import Type, allowed, step, type_at

_OTHER_KEYS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("k", "n", "clusters", "components", "n_centroids", "num_clusters", "num_components"),
        ("n_clusters", "n_components"),
    ),
    "n_clusters": ("n_components",),
    "n_components": ("n_clusters",),
    "n_clusters_range": ("n_components_range",),
    "n_components_range": ("n_clusters_range",),
    **dict.fromkeys(("algorithm", "type", "family"), ("kind",)),
    **dict.fromkeys(("topic", "topics", "input", "inputs", "source", "key"), ("streams",)),
    "random_state": ("seed",),
    **dict.fromkeys(("host", "hostname", "port", "db", "uri", "address", "server"), ("url",)),
    "ttl": ("health_ttl",),
    "window": ("half_life",),
    "contamination": ("rate",),
    "scores": ("score",),
}
"""Keys by other usual names, which the spelling alone doesn't suggest."""

_OTHER_VALUES: Mapping[str, str] = {
    **dict.fromkeys(
        ("gmm", "mixture", "em", "mog", "gaussian", "gaussians", "gaussianmixture"),
        "gaussian_mixture",
    ),
    **dict.fromkeys(("minibatchkmeans", "lloyd", "vq", "centroids"), "kmeans"),
    "diagonal": "diag",
    "isotropic": "spherical",
    "warn": "warning",
    **dict.fromkeys(("critical", "fatal"), "error"),
    **dict.fromkeys(("text", "console", "plain", "pretty"), "human"),
    **dict.fromkeys(("zscore", "standardize", "standardise", "normalize", "minmax"), "standard"),
    "ph": "page_hinkley",
    **dict.fromkeys(("first", "oldest", "begin", "beginning", "start", "0"), "earliest"),
    **dict.fromkeys(("last", "newest", "end", "now", "$"), "latest"),
    **dict.fromkeys(("f4", "f32", "float"), "float32"),
    **dict.fromkeys(("f8", "f64", "double"), "float64"),
    **dict.fromkeys(("off", "false", "no"), "none"),
    "local": "embedded",
}
"""Values by other usual names."""

_MAIN_KEYS: Mapping[str, tuple[str, ...]] = {
    "redis": ("url",),
    "batch": ("size", "linger"),
    "commit": ("points", "every"),
    "publish": ("points", "every"),
    "dead": ("keep",),
    "forgetting": ("half_life",),
    "refit": ("every",),
    "coreset": ("points",),
    "init": ("points", "path"),
    "trim": ("entries", "age"),
    "anomaly": ("rate",),
    "log": ("level",),
}
"""The keys to which a value in place of a section may belong, the most likely key first."""

_BOOLEANS: Mapping[tuple[str, bool], tuple[str, str]] = {
    ("drift", True): ("detector", "page_hinkley"),
    ("drift", False): ("detector", "none"),
    ("coreset", False): ("points", "0"),
    ("forgetting", False): ("kind", "none"),
    ("trim", False): ("kind", "none"),
    ("trim", True): ("kind", "learned"),
    ("anomaly", True): ("rate", "0.001"),
    ("anomaly", False): ("rate", "null"),
}


def near(word: str, known: Sequence[str]) -> str:
    """Return the known value that `word` probably means, or ""."""
    plain = word.lower().replace("-", "_").replace(" ", "_")
    other = _OTHER_VALUES.get(plain.replace("_", ""), "")
    return other if other in known else next(iter(get_close_matches(plain, known, n=1)), "")


def near_value(word: str, expected: str) -> str:
    """Return the word of the expected values, such as "an integer, or auto", that is meant."""
    if "(" in expected:
        return ""
    words = re.split(r" \| |, or |, | or ", expected)
    return near(word, [known for known in words if re.fullmatch(r"\w+", known)])


def other_key(word: str, known: Sequence[str]) -> str:
    """Return the key that has the meaning of `word` here, by another name; or ""."""
    return next((key for key in _OTHER_KEYS.get(word.lower(), ()) if key in known), "")


def near_key(word: str, known: Sequence[str]) -> str:
    """Return the key that `word` probably misspells, or ""."""
    plain = word.lower().replace("-", "_")
    return other_key(word, known) or next(iter(get_close_matches(plain, known, n=1)), "")


def kinds_with(path: Sequence[str]) -> list[str]:
    """Return the kinds of the section around the last key of `path` that have this key."""
    around = type_at(path[:-1])
    kinds = around.kinds if around else {}
    return [kind for kind, section in kinds.items() if path[-1] in section.model_fields]


def other_places(path: Sequence[str], models: Sequence[str]) -> list[str]:
    """Return the places that have the last key of `path`: in a section here, or in one around it.

    `models` are the names of the models in the settings.
    """
    *around, key = path
    if not around and key in models:
        return [f"models.{key}"]
    for depth in range(len(around), -1, -1):
        place = tuple(around[:depth])
        here = type_at(place)
        if here and depth < len(around) and key in here.keys:
            return [".".join((*place, key))]
        if here and (found := list(_below(place, here, key, models))):
            return found
    return []


def _below(place: tuple[str, ...], here: Type, key: str, models: Sequence[str]) -> Iterator[str]:
    """Yield each path of `key` one section below `place`, where a model counts as no section."""
    for name in here.keys:
        if name == "defaults":
            continue
        below, inner = step(here, name), (*place, name)
        if below and name == "models":
            below, inner = below.item, (*inner, models[0] if len(models) == 1 else "NAME")
        if below and key in below.keys:
            yield ".".join((*inner, key))


def short_form(name: str, value: object, section: Type) -> tuple[str, str]:
    """Return the key to which a value in place of a section belongs, and the value; or two ""."""
    if isinstance(value, bool):
        return _BOOLEANS.get((name, value), ("", ""))
    if not isinstance(value, str | int | float):
        return "", ""
    if value in section.kinds:
        return "kind", str(value)
    for key in section.keys:
        kind = step(section, key)
        if kind and value in allowed(kind).split(" | "):
            return key, str(value)
    for key in _MAIN_KEYS.get(name, ()):
        if any(_accepts(each, {key: value}) for each in section.sections):
            return key, f"{value:.15g}" if isinstance(value, float) else str(value)
    return "", ""


def _accepts(section: type, values: dict[str, object]) -> bool:
    try:
        section.model_validate(values)  # type: ignore[attr-defined]
    except ValidationError:
        return False
    return True
