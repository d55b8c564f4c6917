"""Helpers of tests are in one place: no test module or conftest is imported by another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import sanitize

TESTS = Path(__file__).parent
PROGRAMS = ("chaos", "fuzz", "mutation.py", "sanitize.py")
"""Programs that developers start, as ``python -m tests.chaos``."""

IMPORT = re.compile(r"^ *(?:from|import) (tests\.[\w.]+)", re.MULTILINE)
"""Ruff allows one module per line."""

MODULES = sorted(path.relative_to(TESTS).as_posix() for path in TESTS.rglob("*.py"))


def is_test(module: str) -> bool:
    return Path(module).name.startswith(("test_", "conftest", "__init__"))


def imported(module: str) -> set[str]:
    """Return the modules of the tests that a module imports, by their last names."""
    text = (TESTS / module).read_text(encoding="utf-8")
    return {name.split(".")[-1] for name in IMPORT.findall(text)}


def test_no_test_module_is_imported() -> None:
    importers = [module for module in MODULES if any(map(is_test, imported(module)))]
    assert importers == []


def test_helpers_are_in_the_folder_of_helpers() -> None:
    helpers = {module for module in MODULES if not is_test(module)}
    assert {Path(module).parts[0] for module in helpers} == {"support", *PROGRAMS}


def test_the_sanitizers_run_tests_that_exist() -> None:
    missing = [name for name in sanitize.TESTS if not (TESTS.parent / name).exists()]
    assert sanitize.TESTS and not missing


def test_pytest_knows_the_options_of_the_sanitizers(request: pytest.FixtureRequest) -> None:
    found = request.config._parser.parse_known_args([*sanitize.OPTIONS])
    assert found.processes == 2
    assert found.file_or_dir == []


def test_the_files_that_start_first_exist(request: pytest.FixtureRequest) -> None:
    [conftest] = [
        plugin
        for plugin in request.config.pluginmanager.get_plugins()
        if getattr(plugin, "__file__", None) == str(TESTS / "conftest.py")
    ]
    assert set(conftest.LONG) <= set(MODULES)
