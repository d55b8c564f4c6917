"""Statements of Python files."""

from __future__ import annotations

import ast
from collections.abc import Iterator

_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield each statement, those in blocks after their own.

    Expressions hold no statement, and `ast.walk` takes most of its time for them.
    """
    for block in _BLOCKS:
        for node in getattr(tree, block, ()):
            yield node
            yield from statements(node)
