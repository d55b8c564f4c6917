"""Functions are short enough to be read in one go: at most 60 lines."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.support.sources import parsed, statements

PACKAGE = Path(__file__).parents[1] / "streamclust"

LONGEST = 60

WITH_A_PAGE = {"client/client.py:Client.add", "client/ingest.py:ingest"}
"""Functions whose docstring is a page, with a paragraph per option. It isn't counted."""


def lines_of_functions() -> dict[str, int]:
    """Lines of each function of the package with its docstring; the help of a command is a page."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = parsed(path)
        nodes = list(statements(tree))
        owners = {
            child: f"{node.name}."
            for node in nodes
            if isinstance(node, ast.ClassDef)
            for child in node.body
        }
        for node in nodes:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            name = f"{path.relative_to(PACKAGE)}:{owners.get(node, '')}{node.name}"
            lines = int(node.end_lineno or node.lineno) - node.lineno + 1
            is_command = path.parent.name == "cli" and bool(node.decorator_list)
            if is_command or name in WITH_A_PAGE:
                lines -= len((ast.get_docstring(node, clean=False) or "").splitlines())
            found[f"{name}, line {node.lineno}"] = lines
    return found


def test_no_function_is_longer_than_sixty_lines() -> None:
    lines = lines_of_functions()
    assert len(lines) > 1000
    assert {name: count for name, count in lines.items() if count > LONGEST} == {}
