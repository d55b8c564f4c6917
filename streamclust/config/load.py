"""Load the settings: flags over environment over file; one error lists all problems."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from streamclust.config.merging import merge
from streamclust.config.problems import own_streams, problems, stray_keys
from streamclust.config.renamed import with_new_names
from streamclust.config.settings import Settings
from streamclust.config.sources import (
    FILE_VARIABLE,
    Layer,
    read_environment,
    read_file,
    read_flags,
)
from streamclust.config.strict_yaml import Keys, parse_with_lines
from streamclust.errors import ConfigError
from streamclust.text import printable

DEFAULT_FILE = Path("config.yaml")


def load_settings(
    path: Path | None = None,
    overrides: Mapping[str, str] | Iterable[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Return the settings: flags override the environment, and the environment the file.

    Parameters
    ----------
    path : Path, optional
        The file. Default: the file in STREAMCLUST_CONFIG, else ./config.yaml if it exists, else
        none.
    overrides : mapping or iterable of str
        Values by dotted path (``{"log.level": "debug"}``), or texts like ``log.level=debug``.
    environ : mapping
        Variables. Names that begin with STREAMCLUST_ are settings.

    Raises
    ------
    ConfigError
        With one line for each problem.
    """
    file = path
    if file is None and environ.get(FILE_VARIABLE):
        file = Path(environ[FILE_VARIABLE])
    elif file is None and DEFAULT_FILE.exists():
        file = DEFAULT_FILE
    below = read_file(file) if file else Layer()
    middle = read_environment(environ, below.model_names)
    known = tuple(dict.fromkeys(below.model_names + middle.model_names))
    given = map(with_new_names, (below, middle, read_flags(overrides, known)))
    layers, warnings = zip(*given, strict=True)
    settings = _validated(_stack(layers), str(file) if file else "settings")
    settings._file = file
    settings._warnings = tuple(printable(line) for lines in warnings for line in lines)
    return settings


def parse_settings(
    text: str, name: str = "settings", environ: Mapping[str, str] | None = None
) -> Settings:
    """Return the settings of a file's text; `name` is the name of the file.

    Parameters
    ----------
    text : str
    name : str, default='settings'
    environ : mapping, optional
        Variables that override the text. Default: none.

    Raises
    ------
    ConfigError
        With one line for each problem.
    """
    values, lines = parse_with_lines(name, text)
    below = Layer(values or {}, {keys: f"{name}:{line}" for keys, line in lines.items()})
    above = read_environment(environ or {}, below.model_names)
    return _validated(_stack(with_new_names(layer)[0] for layer in (below, above)), name)


def _stack(layers: Iterable[Layer]) -> Layer:
    values: dict[str, Any] = {}
    origins: dict[Keys, str] = {}
    for layer in layers:
        values = merge(values, layer.values)
        origins |= layer.origins
    return Layer(values, origins)


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
        raise ConfigError("\n".join(map(printable, dict.fromkeys(lines))))
    return settings
