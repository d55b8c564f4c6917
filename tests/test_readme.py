"""Every block of the README and of each page runs as it stands, in order, in a fresh folder."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from tests.support.pages import Block, blocks, run_block
from tests.support.workspace import run

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
WITH_BLOCKS = [page for page in PAGES if any(block.language != "text" for block in blocks(page))]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
MODULES = {
    "dask": "dask",
    "distributed": "distributed",
    "kmedoids": "kmedoids",
    "matplotlib": "matplotlib",
    "pillow": "PIL",
    "plotnine": "plotnine",
    "polars": "polars",
    "pyarrow": "pyarrow",
    "scikit-learn": "sklearn",
    "pandas": "pandas",
    "zstandard": "zstandard",
}
"""Libraries of extras, and their modules."""


def run_all(page: Path, folder: Path, without: list[str]) -> None:
    for block in blocks(page):
        run_block(block, folder, without)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after the README, run with its extras only; pages continue there."""
    folder = tmp_path_factory.mktemp("readme")
    text = README.read_text(encoding="utf-8")
    without = [module for name, module in MODULES.items() if f"pip install {name}" not in text]
    try:
        run_all(README, folder, without)
    finally:
        run(folder, "server", "stop")
    return folder


def test_the_readme_runs(learned: Path) -> None:
    languages = {block.language for block in blocks(README) if not block.reason}
    assert {"console", "python"} <= languages
    assert (learned / "machines.csv").exists()


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: page.stem)
def test_each_page_runs_after_the_readme(page: Path, learned: Path, tmp_path: Path) -> None:
    """A page that asks for an empty folder gets one."""
    folder = tmp_path / "folder"
    needs_data = any(block.language not in ("yaml", "json") for block in blocks(page))
    if "empty folder" in page.read_text(encoding="utf-8") or not needs_data:
        folder.mkdir()
    else:
        shutil.copytree(learned, folder, ignore=shutil.ignore_patterns("*.lock"))
        if page.stem != "server":  # which starts it itself
            run(folder, "server", "run", "--detach")
    try:
        run_all(page, folder, [])
    finally:
        run(folder, "server", "stop")


def test_a_command_that_fails_in_a_shell_is_noticed(tmp_path: Path) -> None:
    block = Block(README, 1, "sh", "echo 1 | streamclust no-such-command", "")
    with pytest.raises(AssertionError, match="No such command 'no-such-command'"):
        run_block(block, tmp_path)


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.stem)
def test_a_block_that_is_not_run_says_why(page: Path) -> None:
    for block in blocks(page):
        assert isinstance(block, Block)
        if "not run" in page.read_text(encoding="utf-8").splitlines()[block.line - 1]:
            assert len(block.reason.split()) > 1, f"{block}: give a reason"


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.stem)
def test_each_extra_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?:streamclust|\.)\[([\w,]+)\]", text)
    assert {name for names in named for name in names.split(",")} <= set(EXTRAS)


def test_the_readme_has_a_hundred_lines() -> None:
    text = README.read_text(encoding="utf-8")
    assert len([line for line in text.splitlines() if line.strip()]) <= 100


def test_the_readme_links_to_files_that_exist() -> None:
    text = README.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if "://" not in link and not (README.parent / link).exists()]
    assert links and not missing
