"""Imports point down only: the table of layers in docs/architecture.md, held against the code.

Imports for types alone count too: whoever reads a module has to know what it names.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "streamclust"


def layers() -> list[set[str]]:
    """The table in docs/architecture.md, from the top down; each row is a set of modules."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = re.search(r"## Layers\n.*?```text\n(.*?)```", page, re.DOTALL)
    assert table is not None, "docs/architecture.md has no table of layers"
    rows = [line.split("  ")[0] for line in table[1].splitlines()]
    return [set(row.replace("·", " ").split()) for row in rows]


def imports() -> Iterator[tuple[str, str]]:
    """Yield each import of the package as (module, imported), by their top-level names."""
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).with_suffix("").parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("streamclust"):
                _, *rest = (node.module or "").split(".")
                for name in [rest[0]] if rest else [alias.name for alias in node.names]:
                    yield own, name
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.startswith("streamclust."):
                        yield own, alias.name.split(".")[1]


def test_every_module_has_a_layer_and_one_only() -> None:
    found = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py"}
    found |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    named = [name for row in layers() for name in row]
    assert sorted(named) == sorted(found - {"__init__", "__main__"})


def test_imports_point_down_only() -> None:
    floor = {name: -number for number, row in enumerate(layers()) for name in row}
    entrances = {"__init__", "__main__"}
    upward = {
        f"{importer} imports {imported}"
        for importer, imported in imports()
        if importer not in entrances and importer != imported and floor[importer] <= floor[imported]
    }
    assert not upward
