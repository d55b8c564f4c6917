"""The files of the page: what a browser would refuse, and what must not be in them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from streamclust.dashboard.app import STATIC

MODULES = sorted(STATIC.glob("*.js"))
INDEX = (STATIC / "index.html").read_text(encoding="utf-8")


class _Page(HTMLParser):
    """Collects the files that a page names, and what a strict policy forbids."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.files += [values[name] or "" for name in ("src", "href") if name in values]
        is_inline = tag == "style" or (tag == "script" and not values.get("src"))
        if is_inline or any(name == "style" or name.startswith("on") for name in values):
            self.inline.append(self.get_starttag_text() or tag)


def test_the_page_names_each_module_once_and_nothing_of_another_host() -> None:
    page = _Page()
    page.feed(INDEX)
    assert page.inline == []
    names = [name.removeprefix("static/") for name in page.files if name.endswith(".js")]
    assert sorted(names) == [module.name for module in MODULES]
    own = [name for name in page.files if not name.startswith("#")]
    assert all((STATIC / name.removeprefix("static/")).is_file() for name in own), own


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_no_module_parses_text_as_html_or_code_or_loads_from_another_host(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    forbidden = r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function"
    assert re.findall(forbidden, text) == []
    hosts = set(re.findall(r"\bhttps?://[^\s\"'`]+", text))
    assert hosts <= {"http://www.w3.org/2000/svg"}
    assert all((STATIC / name).is_file() for name in re.findall(r'from "\./([^"]+)"', text))


def test_the_chart_library_has_its_licence_beside_it() -> None:
    assert "MIT License" in (STATIC / "vendor" / "uPlot.LICENSE").read_text(encoding="utf-8")
    head = (STATIC / "vendor" / "uPlot.iife.min.js").read_text(encoding="utf-8")[:200]
    assert re.search(r"uPlot.*\(v1\.6\.32\)", head)
