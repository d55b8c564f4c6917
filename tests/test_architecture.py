"""The pages name code that exists: files, functions, classes, methods and links.

A place is written as `path.py`, `path.py:name` or `path.py:Class.member`. The path is relative to
the repository or to `streamclust/`.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.sources import parsed

ROOT = Path(__file__).parents[1]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

PLACE = re.compile(r"`([\w./-]+\.py)(?::([A-Za-z_]\w*(?:\.\w+)?))?`")
PATH = re.compile(r"(?<![\w./{-])(?:tests|streamclust|benchmarks|deploy|examples)/[\w./-]*\w")
SOURCE = re.compile(r"`([\w-]+(?:/[\w-]+)*/(?:[\w-]+\.(?:hpp|cpp))?)`")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#([^)]*))?\)")


def located(path: str) -> Path | None:
    """Return the file or folder that a page names, or None."""
    return next((p for p in (ROOT / path, ROOT / "streamclust" / path) if p.exists()), None)


def defined(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """Return what statements define, by name: functions, classes, variables and fields."""
    names: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names[node.target.id] = node
        elif isinstance(node, ast.Assign):
            names |= {each.id: node for each in node.targets if isinstance(each, ast.Name)}
    return names


def is_defined(file: Path, name: str) -> bool:
    """Return whether a file defines `name`, which may be `Class.member`."""
    body = parsed(file).body
    outer, _, member = name.partition(".")
    found = defined(body).get(outer)
    if not member:
        return found is not None
    return isinstance(found, ast.ClassDef) and member in defined(found.body)


def leads(page: Path, link: str, anchor: str) -> bool:
    """Return whether a link of a page leads to a file, and to a heading of it."""
    target = page.parent / link
    if not target.exists() or not anchor:
        return target.exists()
    headings = re.findall(r"^#+ +(.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
    return anchor in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_names_of_a_page_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    places = PLACE.findall(text)
    missing = {
        f"{path}:{name}" if name else path
        for path, name in places
        if (file := located(path)) is None or (name and not is_defined(file, name))
    }
    missing |= {path for path in PATH.findall(text) if located(path) is None}
    missing |= {path for path in SOURCE.findall(text) if located(path) is None}
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    links = LINK.findall(page.read_text(encoding="utf-8"))
    missing = [
        link for link, anchor in links if "://" not in link and not leads(page, link, anchor)
    ]
    assert not missing


def test_the_life_of_a_batch_names_a_function_in_each_step() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    table = text.partition("## The life of a batch")[2].partition("**An encoder**")[0]
    steps = [line for line in table.splitlines() if re.match(r"\| +\d+ +\|", line)]
    cells = [[cell.strip() for cell in step.strip("|").split("|")] for step in steps]
    assert [int(number) for number, *_ in cells] == list(range(1, len(steps) + 1))
    assert len(steps) <= 25
    for number, *columns in cells:
        filled = [cell for cell in columns if cell]
        assert len(filled) == 1, f"step {number} belongs to one column"
        assert re.search(PLACE, filled[0]), f"step {number} names no code"


def test_every_internal_page_is_linked_from_the_architecture() -> None:
    links = {Path(link).name for link, _ in LINK.findall(ARCHITECTURE.read_text(encoding="utf-8"))}
    pages = {page.name for page in (ROOT / "docs" / "internals").glob("*.md")}
    assert pages and pages <= links
