"""Strict YAML: unique keys, keys are text, only true and false are booleans.

The plain scalars are those of YAML 1.2: ``1e-6`` is a number; ``no``, ``12:30`` and ``007`` are
text.
Messages give the line and column, and never quote the text: it may be a password.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TypeAlias

import yaml
from yaml.composer import Composer

from streamclust.errors import ConfigError
from streamclust.text import printable

Keys: TypeAlias = tuple[str, ...]
Lines: TypeAlias = dict[Keys, int]
_TAG = "tag:yaml.org,2002:"
_MAX_VALUES = 10_000_000
"""Maximum number of values: nested aliases can expand a few lines without limit."""
_MAX_DIGITS = 1000
_SCALARS = {
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    "float": (
        r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "merge": (r"<<", "<"),
}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(
        _TAG + _name, re.compile(rf"(?:{_pattern})\Z"), [c.strip("\0") for c in _first]
    )


_NativeLoader: type[Any] | None = None
"""The same loader with the parser of libyaml, which is several times faster."""

if yaml.__with_libyaml__:

    class _LibyamlLoader(Composer, yaml.CSafeLoader):
        yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

        def __init__(self, text: str) -> None:
            yaml.CSafeLoader.__init__(self, text)
            Composer.__init__(self)

    _NativeLoader = _LibyamlLoader

_READ_ALIKE = re.compile("[^\t\r!?|>%\x85\u2028\u2029\ufeff]*")
"""A text in which libyaml accepts nothing that PyYAML's own parser refuses, or reads otherwise."""


def _compose(text: str) -> tuple[Any, yaml.Node | None]:
    """Return a loader, and the tree of a text."""
    if _NativeLoader is not None and _READ_ALIKE.fullmatch(text):
        with suppress(yaml.YAMLError, ValueError):  # PyYAML's own parser has the message
            loader = _NativeLoader(text)
            return loader, loader.get_single_node()
    loader = _Loader(text)
    return loader, loader.get_single_node()


def parse_with_lines(name: str, text: str) -> tuple[Any, Lines]:
    """Return the value of a YAML text, and the line of each path of keys.

    Parameters
    ----------
    name : str
        Name of the text in errors: a file, a variable or a flag.
    text : str
        One YAML document.
    """
    try:
        loader, node = _compose(text)
        if node is None:
            return None, {}
        lines = dict(_keyed(name, node, (), (), set()))
        if _size(node, {}) > _MAX_VALUES:
            raise ConfigError(f"{name}: aliases expand to too many values; write the values out")
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_message_at(name, error.problem_mark, _problem(error))) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"{name}:{line}: not YAML: {error.reason}; remove the control character"
        ) from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else "a bad number or date"
        raise ConfigError(f"{name}: not YAML: {reason}") from None


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Return the number of values of a node, with expanded aliases."""
    if id(node) not in known:
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        items = node.value if isinstance(node, yaml.SequenceNode) else ()
        parts = [*items, *(value for _, value in pairs)]
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]


def parse(name: str, text: str) -> Any:
    """Return the value of a YAML text; `name` is its name in errors."""
    return parse_with_lines(name, text)[0]


def _message_at(name: str, mark: yaml.Mark | None, problem: str) -> str:
    place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
    return printable(f"{name}{place}: {problem}")


_REMEDIES = (
    (r"character '\\t'", "a tab can't be used here; indent and separate with spaces"),
    (r"\b(alias|anchor|tag)\b", "put text that begins with *, & or ! in quotes"),
    (r"character '.*' that cannot start", "put text that begins with this character in quotes"),
    ("mapping values are not allowed", "check the indentation, and put text with ': ' in quotes"),
    ("unknown escape", "write a backslash as \\\\ in double quotes, or use single quotes"),
    ("quoted scalar", "is a closing quote missing?"),
    ("flow mapping.*got '[:{]'", "put text with { or : in quotes, such as 'clicks:{tenant}'"),
    ("flow (mapping|sequence|node)", "is a bracket or a comma missing?"),
    ("for merging", "<< takes an alias of keys with values"),
    (
        "block end.*found '<scalar>'",
        "check the indentation, and put text that begins with { or [ in quotes",
    ),
    ("could not find expected ':'", "is a ':' missing, or the space after it?"),
    ("block (mapping|sequence|end)", "check the indentation"),
)
"""Words of PyYAML's messages, and what to do."""


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = " ".join(part for part in (error.context, error.problem) if part)
    words, remedy = next((row for row in _REMEDIES if re.search(row[0], problem)), ("", ""))
    if "tab" in remedy:
        return f"not YAML: {remedy}"
    if "anchor" in words:
        problem = re.sub(r"""(['"]).*\1""", "...", problem)
    return f"not YAML: {problem}; {remedy}" if remedy else f"not YAML: {problem}"


def _keyed(
    name: str, node: yaml.Node, path: Keys, above: tuple[int, ...], seen: set[int]
) -> Iterator[tuple[Keys, int]]:
    """Make all keys text, refuse duplicates, and yield the line of each key.

    `above` has the nodes around this one. `seen` has the finished nodes: the line of an alias is
    that of its anchor.
    """
    if id(node) in above:
        raise ConfigError(
            _message_at(name, node.start_mark, "an anchor can't hold an alias of itself")
        )
    if id(node) in seen:
        return
    seen.add(id(node))
    for key, below, value in _children(name, path, node):
        if key is not None:
            yield below, key.start_mark.line + 1
        yield from _keyed(name, value, below, (*above, id(node)), seen)


def _children(
    name: str, path: Keys, node: yaml.Node
) -> Iterator[tuple[yaml.Node | None, Keys, yaml.Node]]:
    if node.tag == f"{_TAG}int" and len(node.value) > _MAX_DIGITS:
        raise ConfigError(
            _message_at(name, node.start_mark, f"a number has more than {_MAX_DIGITS:,} digits")
        )
    if isinstance(node, yaml.SequenceNode):
        yield from ((None, path, item) for item in node.value)
    if not isinstance(node, yaml.MappingNode):
        return
    keys: set[str] = set()
    for key, value in node.value:
        if key.tag == f"{_TAG}merge":
            yield None, path, value
            continue
        _check_key(name, key, keys)
        yield key, (*path, key.value), value


def _check_key(name: str, key: yaml.Node, known: set[str]) -> None:
    if not isinstance(key, yaml.ScalarNode):
        raise ConfigError(
            _message_at(
                name,
                key.start_mark,
                "a list or mapping can't be a key; put a name that begins with { or [ in quotes",
            )
        )
    if key.value in known:
        raise ConfigError(
            _message_at(name, key.start_mark, f"duplicate key {key.value}; remove one")
        )
    known.add(key.value)
    key.tag = f"{_TAG}str"
