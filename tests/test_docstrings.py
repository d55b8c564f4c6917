"""The parameters of a docstring are those of the function or class, in each public docstring."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.sources import parsed

PACKAGE = Path(__file__).parents[1] / "streamclust"
SECTION = r"^%s\n-+\n(.*?)(?=^\w[\w ]*\n-{3,}\n|\Z)"
Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def documented(body: list[ast.stmt]) -> Iterator[Documented]:
    """Yield the functions and classes whose docstrings have parameters."""
    for node in body:
        if isinstance(node, Documented):
            if names(node, "Parameters"):
                yield node
            yield from documented(node.body)


def names(node: Documented, title: str) -> set[str]:
    """Return the names in a section of a docstring."""
    text = inspect.cleandoc(ast.get_docstring(node) or "")
    section = re.search(SECTION % title, text, re.MULTILINE | re.DOTALL)
    lines = section[1].splitlines() if section else []
    heads = [line.partition(" : ")[0] for line in lines if line and line[0] != " "]
    return {name.strip().lstrip("*") for head in heads for name in head.split(",")}


def parameters(node: Documented) -> set[str]:
    """Return the names of parameters; for a class, those of `__init__` or its public fields."""
    if isinstance(node, ast.ClassDef):
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                return parameters(method)
        own = (each for each in node.body if isinstance(each, ast.AnnAssign))
        fields = [ast.unparse(each.target) for each in own if "ClassVar" not in ast.dump(each)]
        return {name for name in fields if not name.startswith("_")}
    args = node.args
    every = [*args.posonlyargs, *args.args, args.vararg, *args.kwonlyargs, args.kwarg]
    return {each.arg for each in every if each is not None} - {"self", "cls"}


def test_the_parameters_of_a_docstring_are_the_real_ones() -> None:
    wrong, number = {}, 0
    for path in PACKAGE.rglob("*.py"):
        if "Parameters\n" not in path.read_text(encoding="utf-8"):
            continue
        for node in documented(parsed(path).body):
            number += 1
            listed, real = names(node, "Parameters"), parameters(node)
            if listed - real or real - listed - names(node, "Attributes"):
                wrong[f"{path.relative_to(PACKAGE)}:{node.name}"] = listed ^ real
    assert number > 400
    assert not wrong
