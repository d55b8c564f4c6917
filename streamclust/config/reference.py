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
"""Placeholder for the name of a model in the path of a setting."""
Found: TypeAlias = tuple[type[BaseModel], FieldInfo]


@dataclass(frozen=True)
class Setting:
    """One key that a file may hold.

    Parameters
    ----------
    path : str
        For example ``models.<name>.batch.size``.
    kinds : str
        The kinds that have this key; empty if all have it.
    allowed : str
        The values that it accepts.
    default : str
        The default as in a file, or "required".
    description : str
        The meaning, with the unit.
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
        For example ``models.<name>.batch``; empty for the top level.
    description : str
        The purpose of the section.
    settings : tuple of Setting
        The keys. Sections inside are separate groups.
    """

    path: str
    description: str
    settings: tuple[Setting, ...]


def groups() -> Iterator[Group]:
    """Yield every section, outer ones first."""
    yield from _groups(ROOT.sections, (), "These settings apply to all models.", None)


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
    """Return the sections that a key may hold, except the sections around it."""
    types = [field_type(field) for _, field in found]
    around = [section for section, _ in found]
    inner = dict.fromkeys(s for t in types for s in (t.item or t).sections)
    return [section for section in inner if section not in around]


def _rows(
    path: tuple[str, ...], found: Sequence[Found], classes: Sequence[Any], default: Any
) -> Iterator[Setting]:
    if path[-1] == "kind" and len(found) > 1:
        meanings = {kind_of(section): field.description for section, field in found}
        chosen = kind_of(type(default)) if isinstance(default, BaseModel) else "required"
        description = " ".join(f"`{kind}`: {meaning}" for kind, meaning in meanings.items())
        yield Setting(".".join(path), "", " | ".join(meanings), chosen, description)
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


def _default(field: FieldInfo) -> str:
    """Return the default as in a file."""
    default: Any = field.default
    if default is PydanticUndefined:
        return "required"
    if default is None or default == {}:
        return "null" if default is None else "{}"
    for part in field_type(field).metadata:
        if isinstance(part, PlainSerializer):
            return str(part.func(default))  # type: ignore[call-arg]
    if isinstance(default, tuple):
        return f"[{', '.join(default)}]"
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

<!-- Written by `streamclust config reference`; edit the descriptions of the settings instead. -->

Settings come from a YAML file, the environment and flags. The environment overrides the file, and
flags override both. A small file:

```yaml
redis:
  url: redis://localhost:6379
models:
  machines:
    kind: kmeans
    n_clusters: 3
    streams: machines
    forgetting: {half_life: 1d}
```

`streamclust init` writes a longer one, in which each key has its meaning as a comment.

* **File**: `--config FILE`, else the file in `STREAMCLUST_CONFIG`, else `config.yaml` in the
  current directory, else the defaults below.
* **Environment**: `STREAMCLUST_` and the path of the key in capitals, with two underscores between
  the parts: `STREAMCLUST_MODELS__MACHINES__N_CLUSTERS=5`. The name of a model matches in uppercase
  or lowercase, and with `_` for `-` and `.`. An empty variable counts as not set.
* **Flags**: `--set models.machines.n_clusters=5` (repeatable), and `--redis-url URL`.

In variables and flags, a value that begins with `[`, `{` or a quote is read as YAML or JSON:
`--set 'models.machines.streams=[a, b]'` sets a list. `null` removes a value.

Sections of the file, the environment and the flags are merged key by key. But if a later source
changes the `kind` of a `forgetting`, an `init` or a `trim`, it replaces the whole section. These
three sections don't need a `kind`: `forgetting: {half_life: 10m}` has the kind `time`,
`forgetting: {half_life: 1e6}` the kind `points`, and `init: {points: 200}` the kind `warm_up`.

Unknown keys, unknown variables and wrong values are errors. Each error names the place, the value
and the allowed values. `streamclust config check` checks the settings. `streamclust config show`
prints the settings in use, with passwords masked.

`STREAMCLUST_KERNELS` (`avx512vnni`, `avx512`, `avx2`, `baseline` or `numpy`) chooses the numerical
kernels; the default is the best that the machine supports. `streamclust --version` shows the
kernels in use. `STREAMCLUST_THREADS` sets the maximum number of threads for large batches. The
default is the number of cores that the process may use. The learned model doesn't depend on the
threads. The models of a worker that learn at the same time use one thread each.
`STREAMCLUST_DASHBOARD_TOKEN` is the token for actions of `streamclust dashboard --allow-actions`.

**Durations** are texts such as `200ms`, `10s`, `5m`, `6h` or `1d`, or a number of seconds.

**Relative paths** (`redis.data_dir`, `redis.password_file`, `init.path`) are relative to the
current directory, not to the file.

**Passwords**: use `STREAMCLUST_REDIS__PASSWORD`, or a file that `redis.password_file` names. A
password in a URL also works; it is removed from the URL at once and never shown.

**YAML** is read strictly: a key can't occur twice, only `true` and `false` are booleans, and text
that looks like a number needs quotes. Keys at the top that begin with `x-` are ignored; they can
hold anchors for other sections (`<<: *name`).

**Old names** of settings are read for one release, with a warning that names the new name.\
"""
