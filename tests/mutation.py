"""Change one place of a module at a time, and see whether its tests fail.

    pip install cosmic-ray
    python -m tests.mutation streamclust/models/stats.py tests/models/test_stats.py

The changes are those of cosmic-ray: another operator, another comparison, another number, `not`,
no iteration. Scripts in Lua, which cosmic-ray sees as text, are changed line by line. Each change
is tried in a process that is forked from one that has imported all libraries, because a start of
Python takes longer than most tests of one module.
"""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Literal

import click

LIBRARIES = (
    *("numpy", "scipy.linalg", "scipy.optimize", "scipy.stats", "safetensors.numpy"),
    *("pytest", "hypothesis.extra.numpy", "pydantic", "structlog", "redis", "redis.asyncio"),
    *("sklearn.cluster", "sklearn.mixture", "click.testing", "xdist"),
)
OPERATORS = (
    *("ReplaceBinaryOperator_Add_Sub", "ReplaceBinaryOperator_Sub_Add"),
    *("ReplaceBinaryOperator_Mul_Div", "ReplaceBinaryOperator_Div_Mul"),
    *("ReplaceBinaryOperator_FloorDiv_Mul", "ReplaceBinaryOperator_Pow_Mul"),
    *("ReplaceComparisonOperator_Eq_NotEq", "ReplaceComparisonOperator_NotEq_Eq"),
    *("ReplaceComparisonOperator_Lt_LtE", "ReplaceComparisonOperator_LtE_Lt"),
    *("ReplaceComparisonOperator_Gt_GtE", "ReplaceComparisonOperator_GtE_Gt"),
    *("ReplaceComparisonOperator_Lt_Gt", "ReplaceComparisonOperator_Gt_Lt"),
    *("ReplaceComparisonOperator_Is_IsNot", "ReplaceComparisonOperator_IsNot_Is"),
    *("ReplaceUnaryOperator_Delete_Not", "ReplaceUnaryOperator_Delete_USub"),
    *("ReplaceAndWithOr", "ReplaceOrWithAnd", "AddNot", "NumberReplacer"),
    *("ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ZeroIterationForLoop"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak"),
)
LUA = (
    (" == ", " ~= "),
    (" ~= ", " == "),
    (" < ", " <= "),
    (" > ", " >= "),
    (" and ", " or "),
    (" or ", " and "),
    ("not ", ""),
    (" + ", " - "),
    ("1", "2"),
    ("0", "1"),
)


@dataclass(frozen=True)
class Mutant:
    """A module with one change."""

    source: str
    change: str


def mutants(source: str) -> Iterator[Mutant]:
    """Yield the module with each change in turn."""
    for changed in (*_python(source), *_lua(source)):
        diff = unified_diff(source.splitlines(), changed.splitlines(), lineterm="", n=0)
        lines = [line for line in diff if not line.startswith(("---", "+++"))]
        if lines and not _is_annotation(source, lines[0]):
            yield Mutant(changed, "\n".join(lines))


def _python(source: str) -> Iterator[str]:
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    for name in OPERATORS:
        operator = get_operator(f"core/{name}")()
        occurrence = 0
        while (changed := mutate_code(source, operator, occurrence)) is not None:
            occurrence += 1
            yield changed


def _lua(source: str) -> Iterator[str]:
    """Yield each script with a comparison, a word or a number changed, and without each call."""
    lines = source.splitlines(keepends=True)
    for number in _script_lines(source):
        line = lines[number]
        changed = [line[: m.start()] + new + line[m.end() :] for old, new in LUA
                   for m in re.finditer(re.escape(old), line)]  # fmt: skip
        if line.strip().startswith("redis.call("):
            changed.append("\n")
        for each in changed:
            yield "".join([*lines[:number], each, *lines[number + 1 :]])


def _script_lines(source: str) -> Iterator[int]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and "redis.call" in str(node.value):
            yield from range(node.lineno - 1, node.end_lineno or node.lineno)


def _is_annotation(source: str, place: str) -> bool:
    """Whether a change is in the signature of a function, as `X | None` is: it has no effect."""
    line = int(place.split()[1].lstrip("-").split(",")[0])
    return any(
        node.lineno <= line < node.body[0].lineno and "=" not in source.splitlines()[line - 1]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
    )


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads the changed source in the place of the file's."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self.path, "exec", dont_inherit=True)


class _Finder:
    """Finds the changed module, and no other."""

    def __init__(self, name: str, path: str, source: str) -> None:
        self._name = name
        self._loader = _Loader(name, path, source)

    def find_spec(self, name: str, _path: Any = None, _target: ModuleType | None = None) -> Any:
        if name != self._name:
            return None
        return importlib.util.spec_from_file_location(
            name, self._loader.path, loader=self._loader, submodule_search_locations=None
        )


Outcome = Literal["survived", "noticed", "too slow"]


def outcome(module: Path, source: str, tests: Sequence[str], limit: float) -> Outcome:
    """Run the tests with this source in the place of the module's."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        code = 1
        try:
            name = ".".join(module.with_suffix("").parts)
            sys.meta_path.insert(0, _Finder(name, str(module), source))
            code = _pytest(tests)
        finally:
            os._exit(code)
    deadline = time.monotonic() + limit
    try:
        while time.monotonic() < deadline:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return "survived" if os.waitstatus_to_exitcode(status) == 0 else "noticed"
            time.sleep(0.02)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return "too slow"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # servers that it left


def _pytest(tests: Sequence[str]) -> int:
    import pytest

    return int(
        pytest.main(["-n", "0", "-x", "-q", "-p", "no:cacheprovider",
                     "--hypothesis-profile=mutation", "-Wignore:Module already imported", *tests])
    )  # fmt: skip


def _import_libraries() -> None:
    """Import what every process needs, and nothing of this package."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for name in LIBRARIES:
        importlib.import_module(name)
    from hypothesis import Phase, settings

    phases = (Phase.explicit, Phase.generate)  # a failure need not be made small
    settings.register_profile("mutation", derandomize=True, deadline=None, phases=phases)


@click.command()
@click.argument("module", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("tests", nargs=-1, required=True)
@click.option("--seconds", type=float, default=120.0, show_default=True, help="Limit per mutant.")
@click.option("--every", type=click.IntRange(min=1), default=1, help="Try one mutant of so many.")
@click.option("--first", type=click.IntRange(min=0), default=0, help="Number of the first mutant.")
def main(module: Path, tests: tuple[str, ...], seconds: float, every: int, first: int) -> None:
    """Print each change of MODULE that TESTS don't notice, then the counts as JSON."""
    _import_libraries()
    source = module.read_text(encoding="utf-8")
    if outcome(module, source, tests, 10 * seconds) != "survived":
        raise click.ClickException("the tests fail without a change")
    tried = list(mutants(source))[first::every]
    counts: Counter[str] = Counter()
    with click.progressbar(tried, file=sys.stderr) as bar:
        for mutant in bar:
            found = outcome(module, mutant.source, tests, seconds)
            counts[found] += 1
            if found == "survived":
                click.echo(f"{module}: {mutant.change}\n")
    click.echo(json.dumps({"module": str(module), "mutants": len(tried), **counts}))


if __name__ == "__main__":
    main()
