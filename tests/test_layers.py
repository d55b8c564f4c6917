"""Imports point down only: the table of layers in docs/architecture.md, held against the code.

Imports for types alone count too: whoever reads a module has to know what it names.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.support.sources import parsed, statements

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "streamclust"


FORMER = {f"store/{name}.py" for name in ("layout", "packed", "points", "published", "wire")}
"""Former names of modules, which import the module under its new name."""


def layers(package: Path) -> list[set[str]]:
    """The table in docs/architecture.md, from the top down; each row is a set of modules."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    tables = re.findall(r"```text\n(.*?)```", page[page.index("## Layers\n") :], re.DOTALL)
    table = tables[0 if package == PACKAGE else 1]
    rows = [line.split("  ")[0] for line in table.splitlines()]
    return [set(row.replace("·", " ").split()) for row in rows]


@cache
def import_nodes(path: Path) -> list[ast.Import | ast.ImportFrom]:
    """Return the imports of a file, wherever they are."""
    nodes = statements(parsed(path))
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


def modules() -> dict[str, set[str]]:
    """Each module of the package with the modules that it imports, also for types."""
    paths = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }

    def named(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in paths else str(node.module)
        else:
            yield from (alias.name for alias in node.names)

    return {
        name: {module for node in import_nodes(path) for module in named(node)}
        for name, path in paths.items()
    }


def imports(package: Path) -> Iterator[tuple[str, str]]:
    """Yield each import inside a package as (module, imported), by their names in the package."""
    root = ".".join(package.relative_to(ROOT).parts)
    for path in package.rglob("*.py"):
        if path.relative_to(PACKAGE).as_posix() in FORMER:
            continue
        own = path.relative_to(package).with_suffix("").parts[0]
        for node in import_nodes(path):
            modules = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                modules = [f"{node.module}.{name}" for name in modules]
            for module in modules:
                if module.startswith(f"{root}."):
                    yield own, module.removeprefix(f"{root}.").split(".")[0]


PACKAGES = [PACKAGE, PACKAGE / "store"]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_every_module_has_a_layer_and_one_only(package: Path) -> None:
    found = {path.stem for path in package.iterdir() if path.suffix == ".py"}
    found |= {path.parent.name for path in package.glob("*/__init__.py")}
    found -= {"__init__", "__main__", *(Path(path).stem for path in FORMER)}
    named = [name for row in layers(package) for name in row]
    assert sorted(named) == sorted(found)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_imports_point_down_only(package: Path) -> None:
    floor = {name: -number for number, row in enumerate(layers(package)) for name in row}
    entrances = {"__init__", "__main__"}
    upward = {
        f"{importer} imports {imported}"
        for importer, imported in imports(package)
        if importer not in entrances and importer != imported and floor[importer] <= floor[imported]
    }
    assert not upward


def test_no_module_imports_itself_through_others() -> None:
    graph = modules()
    own = graph.keys() - {"streamclust"}  # its names are those of other modules
    sorter = TopologicalSorter({name: named & own for name, named in graph.items()})
    sorter.prepare()  # CycleError names the modules of a circle
