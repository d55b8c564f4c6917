"""Change one place of a module at a time, and see whether its tests fail.

    pip install cosmic-ray
    python -m tests.mutation streamclust/models/stats.py tests/models/test_stats.py

The changes are those of cosmic-ray: another operator, another comparison, another number, `not`,
no iteration. Scripts in Lua, which cosmic-ray sees as text, are changed line by line.

Each change is tried in a forked process, because a start of Python takes longer than most tests of
one module. A change within functions gives these functions other code after all tests have been
collected; tests that noticed earlier changes run first, then the fastest. Such a change survives
if it only has an effect while modules are imported. For any other change, as of a constant, the
tests are collected again with the changed module.
"""

from __future__ import annotations

import ast
import gc
import importlib.machinery
import importlib.util
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import unified_diff
from functools import partial
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Literal

import click
import pytest

LIBRARIES = (
    *("numpy", "scipy.linalg", "scipy.optimize", "scipy.stats", "safetensors.numpy"),
    *("pytest", "hypothesis.extra.numpy", "pydantic", "structlog", "redis", "redis.asyncio"),
    *("sklearn.cluster", "sklearn.mixture", "click.testing"),
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
IDLE = re.compile(r"\+(@dataclass|if not TYPE_CHECKING|\w+ = TypeVar)|^\+.*[(,] /, ", re.MULTILINE)
"""Changed lines that no test can notice, or that only make a class less strict."""

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
        if (
            lines
            and _is_python(changed)
            and not _is_annotation(source, lines[0])
            and not IDLE.search("\n".join(lines))
        ):
            yield Mutant(changed, "\n".join(lines))


def _is_python(source: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:  # as for the unpacking of a dictionary, whose ** is taken for a power
        return False
    return True


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


OPTIONS = (
    *("--processes", "1", "-s", "-qq", "-p", "no:cacheprovider", "--no-header", "--no-summary"),
    *("--hypothesis-profile=mutation", "-Wignore:Module already imported"),
)

Outcome = Literal["survived", "noticed", "too slow"]


def outcome(run: Callable[[], int], limit: float) -> Outcome:
    """Call `run`, which returns 0 if all tests pass, in a forked process."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        code = 1
        try:
            code = run()
        finally:
            os._exit(code)
    deadline = time.monotonic() + limit
    try:
        while time.monotonic() < deadline:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return "survived" if os.waitstatus_to_exitcode(status) == 0 else "noticed"
            time.sleep(0.005)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return "too slow"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # servers that it left


def tests_of_changed(module: Path, source: str, tests: Sequence[str]) -> int:
    """Run the tests with this source in the place of the module's."""
    sys.meta_path.insert(0, _Finder(_name(module), str(module), source))
    return int(pytest.main(["-x", *OPTIONS, *tests]))


Codes = dict[tuple[str, int], CodeType]
"""Code of functions, by name and first line."""


def changed_functions(before: CodeType, after: CodeType) -> Codes | None:
    """Return the code of the functions that differ, or None if there are other differences."""
    parts = [[each for each in code.co_consts if isinstance(each, CodeType)]
             for code in (before, after)]  # fmt: skip
    rest = [(code.co_code, code.co_names, [repr(each) for each in code.co_consts
            if not isinstance(each, CodeType)]) for code in (before, after)]  # fmt: skip
    if rest[0] != rest[1] or len(parts[0]) != len(parts[1]):
        return None
    found: Codes = {}
    for old, new in zip(*parts, strict=True):
        if old == new:
            continue
        if old.co_name.startswith("<"):  # it ran when the module was imported
            return None
        if old.co_flags & CO_OPTIMIZED:
            found[old.co_qualname, old.co_firstlineno] = new
        elif (inner := changed_functions(old, new)) is not None:  # a class
            found |= inner
        else:
            return None
    return found


class CollectedTests:
    """A plugin of pytest that tries changes of functions after all tests have been collected."""

    def __init__(
        self,
        module: Path,
        limit: float,
        changes: Sequence[tuple[Mutant, Codes]],
        report: Callable[[Mutant, Outcome], None],
    ) -> None:
        self._module = module
        self._limit = limit
        self._changes = changes
        self._report = report
        self._functions: dict[tuple[str, int], list[FunctionType]] = {}
        self._seconds: list[float] = []
        self._noticed: Counter[int] = Counter()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tests once for their times, then with each change."""
        variables = sys.modules[_name(self._module)].__dict__
        gc.unfreeze()  # else these functions aren't found
        for each in gc.get_objects():
            if isinstance(each, FunctionType) and each.__globals__ is variables:
                key = each.__code__.co_qualname, each.__code__.co_firstlineno
                self._functions.setdefault(key, []).append(each)
        gc.freeze()
        self._seconds = [0.0] * len(session.items)
        found, seconds = self._try(session, {})
        if found != "survived":
            raise pytest.UsageError("the tests fail when they are run without a change")
        self._seconds = [float(each) for each in seconds.split()]
        for mutant, codes in self._changes:
            found, noticed = self._try(session, codes)
            if noticed and found == "noticed":
                self._noticed[int(noticed)] += 1
            self._report(mutant, found)
        return True

    def _try(self, session: pytest.Session, codes: Codes) -> tuple[Outcome, str]:
        """Return the outcome, and the number of the test that failed or the times of all."""
        reading, writing = os.pipe()
        changed = [(each, code) for key, code in codes.items() for each in self._functions[key]]

        def run() -> int:
            for function, code in changed:
                function.__code__ = code
            keys = [(-self._noticed[i], each) for i, each in enumerate(self._seconds)]
            order = sorted(range(len(keys)), key=keys.__getitem__)
            for i, following in zip(order, [*order[1:], None], strict=True):
                item, start = session.items[i], time.perf_counter()
                item.config.hook.pytest_runtest_protocol(
                    item=item, nextitem=None if following is None else session.items[following]
                )
                if session.testsfailed:
                    os.write(writing, str(i).encode())
                    return 1
                self._seconds[i] = time.perf_counter() - start
            os.write(writing, " ".join(f"{each:.4f}" for each in self._seconds).encode())
            return 0

        found = outcome(run, self._limit)
        os.close(writing)
        with os.fdopen(reading) as file:
            return found, file.read()


def _name(module: Path) -> str:
    return ".".join(module.with_suffix("").parts)


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
    if outcome(lambda: tests_of_changed(module, source, tests), 10 * seconds) != "survived":
        raise click.ClickException("the tests fail without a change")
    tried = list(mutants(source))[first::every]
    counts: Counter[str] = Counter()
    with click.progressbar(length=len(tried), file=sys.stderr) as bar:

        def report(mutant: Mutant, found: Outcome) -> None:
            counts[found] += 1
            bar.update(1)
            if found == "survived":
                click.echo(f"{module}: {mutant.change}\n")

        in_functions = []
        for mutant in tried:
            codes = changed_functions(*(compile(text, str(module), "exec", dont_inherit=True)
                                        for text in (source, mutant.source)))  # fmt: skip
            if codes is None:
                run = partial(tests_of_changed, module, mutant.source, tests)
                report(mutant, outcome(run, seconds))
            else:
                in_functions.append((mutant, codes))
        plugin = CollectedTests(module, seconds, in_functions, report)
        if pytest.main([*OPTIONS, *tests], [plugin]):
            raise click.ClickException("the tests weren't run")
    click.echo(json.dumps({"module": str(module), "mutants": len(tried), **counts}))


if __name__ == "__main__":
    main()
