"""Writes docs/configuration.md from the declared settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import BaseModel, PlainSerializer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from streamclust.config.schema import ROOT, allowed, field_type, kind_of

NAME = "<name>"
"""Stands for the name of a model in the path of a setting."""
Found: TypeAlias = tuple[type[BaseModel], FieldInfo]


@dataclass(frozen=True)
class Setting:
    """One key that a file may hold.

    Parameters
    ----------
    path : str
        Such as ``models.<name>.batch.size``.
    kinds : str
        The kinds that have this key, if not all have it.
    allowed : str
        What it accepts.
    default : str
        As a file would hold it, or "required".
    description : str
        What it means, with its unit.
    """

    path: str
    kinds: str
    allowed: str
    default: str
    description: str


@dataclass(frozen=True)
class Group:
    """The keys of one section.

    Parameters
    ----------
    path : str
        Such as ``models.<name>.batch``; empty for the top.
    description : str
        What the section is for.
    settings : tuple of Setting
        Its keys; the sections in it are groups of their own.
    """

    path: str
    description: str
    settings: tuple[Setting, ...]


def groups() -> Iterator[Group]:
    """Yield every section, outer ones first."""
    yield from _groups(ROOT.sections, (), "For everything.", None)


def _groups(
    classes: Sequence[type[BaseModel]], path: tuple[str, ...], description: str, default: Any
) -> Iterator[Group]:
    fields: dict[str, list[Found]] = {}
    for section in classes:
        for key, field in section.model_fields.items():
            fields.setdefault(key, []).append((section, field))
    leaves = {key: found for key, found in fields.items() if not _below(found)}
    rows = [
        row for key, found in leaves.items() for row in _rows((*path, key), found, classes, default)
    ]
    yield Group(".".join(path), description, tuple(rows))
    for key, found in fields.items():
        if sections := _below(found):
            first = found[0][1]
            name = (NAME,) if field_type(first).item else ()
            yield from _groups(
                sections, (*path, key, *name), first.description or "", first.default
            )


def _below(found: Sequence[Found]) -> list[type[BaseModel]]:
    """Return the classes of the sections that a key may hold."""
    types = [field_type(field) for _, field in found]
    return list(dict.fromkeys(s for t in types for s in (t.item or t).sections))


def _rows(
    path: tuple[str, ...], found: Sequence[Found], classes: Sequence[Any], default: Any
) -> Iterator[Setting]:
    if path[-1] == "kind":
        yield _kind_row(path, found, default)
        return
    for text in dict.fromkeys(field.description for _, field in found):
        same = [(section, field) for section, field in found if field.description == text]
        kinds = (
            ""
            if len(same) == len(classes)
            else ", ".join(dict.fromkeys(kind_of(s) for s, _ in same))
        )
        field = same[0][1]
        yield Setting(
            ".".join(path), kinds, allowed(field_type(field)), _default(field), text or ""
        )


def _kind_row(path: tuple[str, ...], found: Sequence[Found], default: Any) -> Setting:
    meanings = {kind_of(section): field.description for section, field in found}
    chosen = kind_of(type(default)) if isinstance(default, BaseModel) else "required"
    description = " ".join(f"`{kind}`: {meaning}" for kind, meaning in meanings.items())
    return Setting(".".join(path), "", " | ".join(meanings), chosen, description)


def _default(field: FieldInfo) -> str:
    """Return the default as a file would hold it."""
    default: Any = field.default
    if default is PydanticUndefined:
        return "required"
    plain = {None: "null", (): "[]"}
    if default in plain:
        return plain[default]
    for part in field_type(field).metadata:
        if isinstance(part, PlainSerializer):
            return str(part.func(default))  # type: ignore[call-arg]
    if isinstance(default, float):
        return f"{default:g}".replace("e-0", "e-")
    return str(default).lower()


def markdown() -> str:
    """Return the whole of docs/configuration.md."""
    return "\n\n".join([_INTRODUCTION, *map(_section, groups())]) + "\n"


def _section(group: Group) -> str:
    title = f"## `{group.path}`" if group.path else "## Top level"
    rows = [_row(group.path, setting) for setting in group.settings]
    table = ["| key | accepts | default | meaning |", "| --- | --- | --- | --- |", *rows]
    return "\n\n".join([title, group.description, "\n".join(table)])


def _row(path: str, setting: Setting) -> str:
    key = setting.path.removeprefix(f"{path}.")
    only = f" (kind {setting.kinds})" if setting.kinds else ""
    accepts = setting.allowed.replace("|", "\\|")
    return f"| `{key}`{only} | {accepts} | {setting.default} | {setting.description} |"


_INTRODUCTION = """\
# Configuration

<!-- Written by `streamclust config reference`; change the settings' own descriptions instead. -->

Settings come from a YAML file, then from the environment, then from flags; the later one wins.

* **File**: `--config FILE`, else the file that `STREAMCLUST_CONFIG` names, else `config.yaml` in
  the current directory, else the defaults below. The top of the repository has a commented
  `config.yaml` to begin with.
* **Environment**: `STREAMCLUST_` and the path of the key, in capitals, with two underscores
  between its parts: `STREAMCLUST_MODELS__PALETTE__N_CLUSTERS=32`. The name of a model matches in
  any case, with `_` for `-` and `.`. An empty variable counts as not set.
* **Flags**: `--set models.palette.n_clusters=32`, as often as needed, and `--redis-url URL`.

In variables and flags a value that begins with `[`, `{` or a quote is read as YAML or JSON, so
`--set 'models.palette.streams=[a, b]'` gives a list and `null` gives nothing. Sections merge key
by key; but a `forgetting` or `init` whose `kind` is changed is replaced as a whole.

Unknown keys, unknown variables and bad values are refused, each with its place, its value and what
is allowed. `streamclust config check` says whether all is well; `streamclust config show` prints
what is in force, with the password masked.

`STREAMCLUST_KERNELS` (`avx512vnni`, `avx512`, `avx2`, `baseline`, `numpy`) asks for other numerical
kernels than the best that this machine can run, and `STREAMCLUST_THREADS` (default 1) for more
threads in them; `streamclust --version` says which are in use. What is learned
doesn't depend on the threads.

**Durations** are texts such as `200ms`, `10s`, `5m`, `6h` or `1d`, or a number of seconds.

**Relative paths** (`redis.data_dir`, `redis.password_file`, `init.path`) count from the current
directory, not from the file.

**Passwords** belong in `STREAMCLUST_REDIS__PASSWORD` or in a file that `redis.password_file` names.
One in a URL works too; it is moved out of the URL at once and not shown.

**YAML** is read strictly: a key may stand only once, only `true` and `false` are booleans, and
text that looks like a number needs quotes.\
"""
