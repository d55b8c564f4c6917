"""Python files as trees, and their statements."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from pathlib import Path

_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


def parsed(path: Path) -> ast.Module:
    """Return the tree of a file.

    The garbage collector waits meanwhile: it finds nothing in a tree, and would take most of the
    time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    finally:
        if was_enabled:
            gc.enable()


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield each statement, those in blocks after their own.

    Expressions hold no statement, and `ast.walk` takes most of its time for them.
    """
    for block in _BLOCKS:
        for node in getattr(tree, block, ()):
            yield node
            yield from statements(node)
