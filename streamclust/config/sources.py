"""Where settings come from: a YAML file, environment variables, and flags."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamclust.config.schema import is_secret
from streamclust.config.strict_yaml import Keys, parse, parse_with_lines
from streamclust.errors import ConfigError
from streamclust.text import decode_text

MAX_BYTES = 1 << 25
"""Maximum size of a configuration file."""

PREFIX = "STREAMCLUST_"
FILE_VARIABLE = f"{PREFIX}CONFIG"
NO_SETTINGS = (FILE_VARIABLE, f"{PREFIX}KERNELS", f"{PREFIX}THREADS", f"{PREFIX}DASHBOARD_TOKEN")
"""Variables that aren't settings; `streamclust.kernels` reads the second and the third."""


@dataclass(frozen=True)
class Layer:
    """Settings of one source, with the place of each.

    Parameters
    ----------
    values : dict
        Nested plain values.
    origins : dict
        The line of the file, the variable or the flag, by the path of the value.
    """

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Keys, str] = field(default_factory=dict)

    @property
    def model_names(self) -> tuple[str, ...]:
        """Return the names of the models in this layer."""
        models = self.values.get("models")
        return tuple(models) if isinstance(models, dict) else ()


def read_file(path: Path) -> Layer:
    """Read a YAML file; its values must be a mapping, with each key once."""
    values, lines = parse_with_lines(str(path), _read_text(path))
    if values is None:
        raise ConfigError(f"{path}: the file is empty; expected settings, such as models: ...")
    if not isinstance(values, dict):
        got = "a list" if isinstance(values, list) else "one value"
        raise ConfigError(f"{path}: expected keys with values at the top, got {got}")
    return Layer(values, {keys: f"{path}:{line}" for keys, line in lines.items()})


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:  # it may be a pipe
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ConfigError(f"{path}: has more than {MAX_BYTES:,} bytes; is it a YAML file?")
        return decode_text(data)
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: the file doesn't exist; name another with --config or {FILE_VARIABLE}"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: can't be read: not UTF-8 text; save it as UTF-8") from None


def read_environment(environ: Mapping[str, str], model_names: Sequence[str]) -> Layer:
    """Read the ``STREAMCLUST_...`` variables; an empty one counts as not set."""
    given = sorted(
        name
        for name, text in environ.items()
        if name.startswith(PREFIX) and name not in NO_SETTINGS and text
    )
    return _layer((name, _keys_of_variable(name, model_names), environ[name]) for name in given)


def read_flags(overrides: Mapping[str, str] | Iterable[str], model_names: Sequence[str]) -> Layer:
    """Read overrides by dotted path: a mapping, or texts such as ``log.level=debug``."""
    pairs = overrides.items() if isinstance(overrides, Mapping) else map(_pair, overrides)
    return _layer(
        (
            "--redis-url" if path == "redis.url" else f"--set {path}",
            _keys_of_path(path, model_names),
            text,
        )
        for path, text in pairs
    )


def _keys_of_variable(variable: str, model_names: Sequence[str]) -> Keys:
    keys = tuple(variable.removeprefix(PREFIX).lower().split("__"))
    if keys[0] != "models" or len(keys) == 1:
        return keys
    plain = {name: re.sub(r"[.-]", "_", re.sub(r"[{}]", "", name.lower())) for name in model_names}
    meant = [name for name in model_names if plain[name] == keys[1]]
    if len(meant) > 1:
        raise ConfigError(
            f"{variable}: matches the models {' and '.join(meant)}; use --set instead"
        )
    return (keys[0], meant[0] if meant else keys[1], *keys[2:])


def _pair(override: str) -> tuple[str, str]:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {path}: expected KEY=VALUE, such as log.level=debug")
    return path.strip(), text


def _keys_of_path(path: str, model_names: Sequence[str]) -> Keys:
    for name in sorted(model_names, key=len, reverse=True):  # a name may have dots
        if path == f"models.{name}" or path.startswith(f"models.{name}."):
            rest = path.removeprefix(f"models.{name}").split(".")[1:]
            return ("models", name, *rest)
    return tuple(path.split("."))


def _layer(given: Iterable[tuple[str, Keys, str]]) -> Layer:
    """Return the settings of texts: YAML for lists, mappings and quotes, else the text itself."""
    layer = Layer()
    for origin, keys, text in given:
        value: Any = None if text in ("null", "~") else text
        if text.startswith(("[", "{", '"', "'")) and not is_secret(keys):
            value = parse(origin, text)
        tree: Any = layer.values
        for key in keys[:-1]:
            tree = tree.setdefault(key, {})
            if not isinstance(tree, dict):  # unchanged, so that validation refuses it
                break
        else:
            tree[keys[-1]] = value
        layer.origins.update((path, origin) for path in _paths(keys, value))
    return layer


def _paths(keys: Keys, value: Any) -> Iterator[Keys]:
    yield keys
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield from _paths((*keys, key), inner)
