"""docs/performance.md, of which each benchmark writes its own section."""

from __future__ import annotations

import argparse
import json
import platform
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from streamclust import kernels

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"

_TITLE = (
    """\
# Performance

<!-- Written by `make bench`; change the benchmarks instead. -->

Terms are in the [glossary](glossary.md). Each section names the program that wrote it. Without
`--page`, the program measures and prints the same on your machine:

```text
python benchmarks/threads.py --points 400000
```
"""
    ""
)


def options_of(doc: str | None, *, out: Path | None = None) -> argparse.ArgumentParser:
    """Return a parser of the options --page and --out, to which a benchmark adds its own."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--page", action="store_true", help="write docs/performance.md")
    parser.add_argument("--out", type=Path, default=out, help="write the figures as JSON")
    return parser


def write_figures(options: argparse.Namespace, figures: object) -> None:
    """Write the figures as JSON, with --out."""
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(figures, indent=1), encoding="utf-8")


def measure_each(
    options: argparse.Namespace,
    name: str,
    measure: Callable[[int], Any],
    header: list[str],
    row: Callable[[Any], list[str]],
    section: Callable[[list[Any]], str],
) -> list[Any]:
    """Measure each number of models of --models, print the rows, and write them as asked."""
    results = []
    for models in map(int, options.models.split(",")):
        results.append(measure(models))
        print(dict(zip(header, row(results[-1]), strict=True)), flush=True)
    write_figures(options, [asdict(result) for result in results])
    if options.page:
        write_section(name, section(results))
    return results


def write_section(name: str, text: str, path: Path = PAGE) -> None:
    """Put `text` in place of the section `name`, or at the end if there is none yet."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    page = path.read_text(encoding="utf-8") if path.exists() else _TITLE
    section = f"{begin}\n{text.strip()}\n\n{end}"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    page, found = pattern.subn(lambda _: section, page)
    path.write_text(page if found else f"{page}\n{section}", encoding="utf-8")


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
