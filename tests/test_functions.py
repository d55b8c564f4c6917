"""Functions are short enough to be read in one go: at most 60 lines."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "streamclust"

LONGEST = 60

WITH_A_PAGE = {
    "cli/ingest.py:ingest",
    "cli/refit.py:refit",
    "client/client.py:Client.add",
    "client/ingest.py:ingest",
}
"""Functions whose docstring is a page: the help of a command, or all options of a call."""


@cache
def functions() -> list[tuple[str, int, int]]:
    """Each function of the package: name, lines, and lines of its docstring."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        owners = {
            child: f"{node.name}."
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
            for child in node.body
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{path.relative_to(PACKAGE)}:{owners.get(node, '')}{node.name}"
                text = ast.get_docstring(node, clean=False)
                lines = int(node.end_lineno or node.lineno) - node.lineno + 1
                found.append((name, lines, 0 if text is None else text.count("\n") + 1))
    return found


def test_no_function_is_longer_than_sixty_lines() -> None:
    long = {name: lines for name, lines, _ in functions() if lines > LONGEST}
    assert set(long) == WITH_A_PAGE, long


def test_no_code_of_a_function_is_longer_than_sixty_lines() -> None:
    code = {name: lines - text for name, lines, text in functions()}
    assert len(code) > 1000
    assert {name: lines for name, lines in code.items() if lines > LONGEST} == {}
