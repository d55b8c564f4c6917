"""Loading: the file, under the environment, under the flags; then every problem in one error."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from streamclust.config.problems import own_streams, problems, stray_keys
from streamclust.config.settings import Settings
from streamclust.config.sources import (
    FILE_VARIABLE,
    Layer,
    read_environment,
    read_file,
    read_flags,
)
from streamclust.config.strict_yaml import Keys
from streamclust.errors import ConfigError
from streamclust.text import printable

DEFAULT_FILE = Path("config.yaml")


def load_settings(
    path: Path | None = None,
    overrides: Mapping[str, str] | Iterable[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Return the settings: flags before environment, environment before the file.

    Parameters
    ----------
    path : Path, optional
        The file; without it the one that STREAMCLUST_CONFIG names, else ./config.yaml if there
        is one, else none.
    overrides : mapping or iterable of str
        Values by dotted path (``{"log.level": "debug"}``), or texts like ``log.level=debug``.
    environ : mapping
        Variables; those that begin with STREAMCLUST_ are settings.

    Raises
    ------
    ConfigError
        With one line for each problem.
    """
    file = _find(path, environ)
    below = read_file(file) if file else Layer()
    middle = read_environment(environ, below.model_names)
    known = tuple(dict.fromkeys(below.model_names + middle.model_names))
    layers = (below, middle, read_flags(overrides, known))
    settings = _validated(_stack(layers), str(file) if file else "settings")
    settings._file = file
    return settings


def _find(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    if path is not None:
        return path
    if environ.get(FILE_VARIABLE):
        return Path(environ[FILE_VARIABLE])
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def _stack(layers: Iterable[Layer]) -> Layer:
    values: dict[str, Any] = {}
    origins: dict[Keys, str] = {}
    for layer in layers:
        values = merge(values, layer.values)
        origins |= layer.origins
    return Layer(values, origins)


def merge(below: Any, above: Any, path: Keys = ()) -> Any:
    """Lay one tree of values over another.

    Mappings merge; everything else is replaced. So is the `forgetting` or `init` of a model when
    its `kind` changes, since its other keys belong to the old kind.
    """
    below, above = _as_section(below, path), _as_section(above, path)
    if not isinstance(above, dict) or below is None:
        return above
    if not isinstance(below, dict):
        return below  # a value where a section belongs: it stays, so that it is refused
    if _kind_changes(below, above) and len(path) == 3 and path[2] in ("forgetting", "init"):
        return above
    return below | {key: merge(below.get(key), above[key], (*path, key)) for key in above}


def _as_section(value: Any, path: Keys) -> Any:
    """Return what ``encode: true`` of a model stands for, so that other layers can add to it."""
    if len(path) == 3 and path[2] == "encode" and value in (True, False, "true", "false"):
        return {"worker": value}
    return value


def _kind_changes(below: dict[str, Any], above: dict[str, Any]) -> bool:
    return "kind" in above and above["kind"] != below.get("kind")


def _validated(layer: Layer, source: str) -> Settings:
    known = {key: value for key, value in layer.values.items() if key in Settings.model_fields}
    lines = list(stray_keys(layer))
    try:
        settings = Settings(**known)
    except ValidationError as error:
        lines += problems(error, layer, source)
    else:
        lines += own_streams(settings, layer, source)
    if lines:
        raise ConfigError("\n".join(map(printable, lines)))
    return settings
