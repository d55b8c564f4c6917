"""Feed the decoders and the settings what nobody meant.

python -m tests.fuzz --entries 1000000
"""

from __future__ import annotations

import json
import resource
import secrets
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from tests.fuzz.payloads import fuzz_payloads
from tests.fuzz.points import fuzz_points
from tests.fuzz.settings import fuzz_settings


@click.command()
@click.option("--entries", type=click.IntRange(min=1000), default=1_000_000, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), help="Of every choice.  [default: a new one]")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def fuzz(entries: int, seed: int | None, as_json: bool) -> None:
    """Try so many entries of points, a twentieth of it payloads, a two-hundredth settings."""
    seed = secrets.randbelow(10**9) if seed is None else seed
    console = Console(stderr=True)
    console.print(f"seed {seed}")
    payloads, settings = entries // 20, entries // 200
    bar = Progress(console=console, disable=not console.is_terminal)
    with TemporaryDirectory() as folder, bar:
        points = vars(_last(fuzz_points(entries, seed), bar, "points", entries // 200))
        others = [
            _last(fuzz_payloads(payloads, seed), bar, "payloads", payloads),
            _last(fuzz_settings(settings, seed, Path(folder)), bar, "settings", settings),
        ]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    result = {"seed": seed, "peak_mib": peak, "points": points, "others": others}
    click.echo(json.dumps(result) if as_json else _text(result))


def _last(tries: Iterable[Any], bar: Progress, name: str, total: int) -> Any:
    """Run them all; return what the last one yielded."""
    result = None
    for result in bar.track(tries, total=total, description=name):  # noqa: B007
        pass
    return result


def _text(result: dict[str, Any]) -> str:
    lines = [", ".join(f"{n} {name}" for name, n in each.items()) for each in result["others"]]
    points = ", ".join(f"{n} {name}" for name, n in result["points"].items())
    return "\n".join([points, *lines, f"peak memory {result['peak_mib']} MiB; no crash"])


if __name__ == "__main__":
    fuzz()
