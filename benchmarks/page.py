"""docs/performance.md, of which each benchmark writes its own section."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from streamclust import kernels

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"

_TITLE = """\
# Performance

<!-- Written by `make bench`; change the benchmarks instead. -->

Terms are in the [glossary](glossary.md).
"""


def write_section(name: str, text: str) -> None:
    """Put `text` in place of the section `name`, or at the end if there is none yet."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else _TITLE
    section = f"{begin}\n{text.strip()}\n\n{end}"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    page, found = pattern.subn(lambda _: section, page)
    PAGE.write_text(page if found else f"{page}\n{section}", encoding="utf-8")


def processor() -> str:
    """Return the name of the processor, and the kernels in use on it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, kernels {kernels.describe()}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table whose first column is text and all others are numbers."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *rows])
